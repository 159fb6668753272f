"""The gate for a model that learned one class more from a few samples: the old classes must not suffer for it.

The old classes are a slice of what is to be answered from now on, so what is tolerated in a slice is tolerated in them;
but here it must be shown that they lose no more, and not merely be unknown whether they do. What speaks for the new
class are its samples, each recognised by what the others alone have taught.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tidemill.errors import InputError
from tidemill.gate.measure import SCHEMA, Judged, Policy
from tidemill.gate.rule import Verdict
from tidemill.metrics.paired import paired
from tidemill.records import JSON

KIND = "class"


def judge_class(
    sets: Sequence[Judged],
    recognised: Sequence[bool],
    policy: Policy,
    *,
    name: str,
    level: float,
    spent: float,
    margin_used: float = 0.0,
    lost: Sequence[str] = (),
) -> Verdict:
    """Whether the new class may be answered.

    Args:
        sets: right or wrong (1 or 0) on test rows of the old classes, of the model as it is (``champion``) and with
            the new class (``challenger``); the first set carries the claim.
        recognised: of each sample of the new class, whether it was when it was left out.
        policy: ``slice_margin`` is what the old classes may lose.
        name: of the class.
        level: of the test on each set.
        spent: α spent before on this generation of the test sets.
        margin_used: quality given away before, which stays so.
        lost: classes learned like this before, of whose samples no more than half would stay right.
    """
    return decide_class(
        {
            "schema": SCHEMA,
            "kind": KIND,
            "metric": "accuracy",
            "policy": dataclasses.asdict(policy),
            "level": level,
            "spent": spent,
            "claim": sets[0].split if sets else None,
            "closed": False,
            "margin_used": margin_used,
            "sets": {judged.split: _facts(judged, policy) for judged in sets},
            "slices": [],
            "costs": {},
            "class": {"name": name, "samples": len(recognised), "recognised": sum(recognised)},
            "lost": list(lost),
        }
    )


def _facts(judged: Judged, policy: Policy) -> JSON:
    assert judged.champion is not None
    found = paired(judged.challenger, judged.champion, judged.keys, judged.weights)
    return {
        "rows": found.rows,
        "effective": found.effective,
        "response_rate": judged.response_rate,
        "left_out": judged.left_out,
        "champion": {
            "challenger": found.first,
            "other": found.second,
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "units": found.units,
            "wins": found.wins,
            "losses": found.losses,
            "p_better": found.above_zero(),
            "p_no_worse": found.above(-policy.slice_margin),
            "p_harm": found.below(-policy.slice_margin),
        },
    }


def decide_class(measured: JSON) -> Verdict:
    """The rule itself; reads only what :func:`judge_class` measured."""
    checks = [_old(split, facts, measured) for split, facts in measured["sets"].items()]
    if not checks:
        text = "there are no labelled test rows on which the old classes could be looked at"
        checks.append({"name": "old classes", "passed": False, "text": text})
    checks.append(_new(measured["class"]))
    if measured["lost"]:
        text = f"the samples of {', '.join(map(repr, measured['lost']))}, learned before, would be taken for it"
        checks.append({"name": "classes learned before", "passed": False, "text": text})
    passed = all(check["passed"] for check in checks)
    failed = [check["text"] for check in checks if not check["passed"]]
    said = f"the class {measured['class']['name']!r} is answered from now on: {'; '.join(c['text'] for c in checks)}"
    evidence = {
        **measured,
        "checks": checks,
        "spends": measured["level"] if measured["sets"] else 0.0,
        "becomes_anchor": False,
        "margin_used_after": measured["margin_used"],
    }
    return Verdict("promoted" if passed else "refused", said if passed else "; ".join(failed), evidence)


def _old(split: str, facts: JSON, measured: JSON) -> JSON:
    against, policy = facts["champion"], measured["policy"]
    shown = against["p_no_worse"] <= measured["level"]
    lost, allowed = 100 * -against["difference"], 100 * policy["slice_margin"]
    rows = f"on the {facts['rows']:,} rows of {split}"
    if shown:
        text = f"{rows} the old classes lose {max(lost, 0.0):.1f} points, surely less than {allowed:g}"
    elif against["difference"] >= -policy["slice_margin"] / 2 and (needed := _needed(measured)) > against["units"]:
        text = (
            f"{rows} it cannot be shown that the old classes lose less than {allowed:g} points: that takes {needed:,}"
        )
    else:
        text = f"{rows} the old classes lose {lost:.1f} points, and it is not shown that it is less than {allowed:g}"
    return {"name": f"old classes on {split}", "passed": bool(shown), "text": text}


def _needed(measured: JSON) -> int:
    """Rows that show it when not one of them is lost."""
    margin, level = measured["policy"]["slice_margin"], measured["level"]
    return math.ceil(math.log(max(level, 1e-12)) / math.log1p(-margin)) if 0 < margin < 1 else 1


def _new(found: JSON) -> JSON:
    n, hits = found["samples"], found["recognised"]
    low, high = _interval(hits, n)
    return {
        "name": "new class",
        "passed": 2 * hits > n,
        "text": f"{hits} of {n} samples were recognised by what the others taught (95 %: {low:.0%} to {high:.0%})",
    }


def _interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927).

    >>> low, high = _interval(5, 5)
    >>> round(low, 2), round(high, 2)
    (0.57, 1.0)
    """
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    share, middle = hits / n, z * z / (2 * n)
    wide = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max((share + middle - wide) / (1 + 2 * middle), 0.0), min((share + middle + wide) / (1 + 2 * middle), 1.0)


def replay_class(evidence: JSON) -> Verdict:
    """Decide stored evidence again.

    Raises:
        InputError: it is of a schema that this version does not know, or something is missing in it.
    """
    if evidence.get("schema") != SCHEMA:
        raise InputError(
            f"the evidence has schema {evidence.get('schema')!r}", mend=f"This version replays schema {SCHEMA}."
        )
    try:
        return decide_class(evidence)
    except (KeyError, TypeError) as error:
        raise InputError(f"the evidence is not whole: {error}", mend="Learn the class again.") from error
