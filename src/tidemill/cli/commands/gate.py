"""``tidemill gate``."""

from __future__ import annotations

from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import score

EXIT_REFUSED = 1


def gate(session: Session) -> None:
    """Replay the last decision.

    Exits with 1 when the challenger was refused: for CI. Replaying opens no test set and spends nothing.
    """
    data = session.project.gate()
    session.exit_code = 0 if data["outcome"] == "promoted" else EXIT_REFUSED
    session.answer(data, _view)


def _view(data: dict[str, Any]) -> Any:
    evidence = data["evidence"]
    again = "the evidence gives the same outcome" if data["replayed"] else "the evidence gives another outcome"
    return layout.stack(
        layout.panel(data["reason"], title=data["outcome"], good=data["outcome"] == "promoted"),
        layout.table(
            ["", "check", "found"],
            [(layout.mark(c["passed"]), c["name"], c["text"]) for c in evidence.get("checks", ())],
        ),
        _sets(evidence),
        layout.pairs({"decision": data["decision"], "challenger": data["challenger"], "replayed": again}),
    )


def _sets(evidence: dict[str, Any]) -> Any:
    metric = evidence["metric"]
    rows = [
        (
            name,
            units.count(facts["rows"]),
            other,
            score(against["challenger"], metric),
            score(against["other"], metric),
            f"{against['p_better']:.2g}",
        )
        for name, facts in evidence.get("sets", {}).items()
        for other, against in facts.items()
        if isinstance(against, dict) and "challenger" in against
    ]
    return (
        layout.table(["set", ">rows", "against", f">challenger's {units.metric_column(metric)}", ">other", ">p"], rows)
        if rows
        else None
    )


COMMAND = Command(run=gate, panel="Learn", examples=("gate", "gate --json"))
