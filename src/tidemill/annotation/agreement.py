"""How far annotators agree beyond chance: Cohen's, Fleiss's and Krippendorff's coefficients.

All three are 1 for full agreement and 0 for as much of it as chance gives; below 0 people agree less than that.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tidemill.records import JSON

Answers = Mapping[str, Mapping[str, Any]]
"""By question, what each annotator answered."""
Level = Literal["nominal", "interval"]


def cohen(answers: Answers, one: str, other: str) -> float | None:
    """Cohen's κ of two annotators over the questions that both answered.

    Cohen, *A Coefficient of Agreement for Nominal Scales* (1960).

    Returns:
        ``None`` where they share no question, or both only ever said one and the same.

    >>> said = {"a": {"ann": 1, "ben": 1}, "b": {"ann": 1, "ben": 2}, "c": {"ann": 2, "ben": 2}, "d": {"ann": 2}}
    >>> round(cohen(said, "ann", "ben"), 3)
    0.4
    """
    pairs = [(same(a[one]), same(a[other])) for a in answers.values() if one in a and other in a]
    n = len(pairs)
    if not n:
        return None
    observed = sum(a == b for a, b in pairs) / n
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[label] * second[label] for label in first) / n**2
    return None if math.isclose(expected, 1.0) else (observed - expected) / (1 - expected)


def fleiss(answers: Answers) -> float | None:
    """Fleiss's κ over the questions that had equally many answers, the most frequent number of two or more.

    Fleiss, *Measuring Nominal Scale Agreement Among Many Raters* (1971).

    Returns:
        ``None`` where no question has two answers, or all answers are one and the same.

    >>> said = {"a": dict(x=1, y=1, z=1), "b": dict(x=1, y=2, z=2), "c": dict(x=2, y=2, z=2)}
    >>> round(fleiss(said), 3)
    0.55
    """
    sizes = Counter(len(a) for a in answers.values() if len(a) > 1)
    if not sizes:
        return None
    raters = max(sizes, key=lambda size: (sizes[size], size))
    counts = [Counter(map(same, a.values())) for a in answers.values() if len(a) == raters]
    within = [sum(c * (c - 1) for c in one.values()) / (raters * (raters - 1)) for one in counts]
    totals: Counter[Hashable] = Counter()
    for one in counts:
        totals.update(one)
    said = sum(totals.values())
    expected = sum((total / said) ** 2 for total in totals.values())
    return None if math.isclose(expected, 1.0) else (sum(within) / len(within) - expected) / (1 - expected)


def krippendorff(answers: Answers, level: Level = "nominal") -> float | None:
    """Krippendorff's α over all questions with two answers or more, however many each has.

    Krippendorff, *Content Analysis* (2004), chapter 11.

    Args:
        answers: what everybody said; numbers for the level ``interval``.
        level: ``nominal``: labels are equal or not; ``interval``: numbers differ by the square of their distance.

    Returns:
        ``None`` where no question has two answers, or all answers are one and the same.

    >>> said = {"a": dict(x=1, y=1), "b": dict(x=1, y=2), "c": dict(x=2, y=2, z=2), "d": dict(x=3)}
    >>> round(krippendorff(said), 3)
    0.5
    >>> round(krippendorff({"a": dict(x=1.0, y=2.0), "b": dict(x=9.0, y=9.0)}, "interval"), 3)
    0.987
    """
    units = [[same(label) for label in a.values()] for a in answers.values() if len(a) > 1]
    if not units:
        return None
    if level == "interval":
        return _by_distance([np.asarray(unit, np.float64) for unit in units])
    coincidences: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for unit in units:
        counts = Counter(unit)
        for a, b in itertools.product(counts, repeat=2):
            coincidences[a, b] += counts[a] * (counts[b] - (a == b)) / (len(unit) - 1)
    totals: Counter[Hashable] = Counter()
    for (a, _), weight in coincidences.items():
        totals[a] += weight  # type: ignore[assignment]
    n = sum(totals.values())
    expected = sum(totals[a] * totals[b] for a, b in itertools.permutations(totals, 2)) / (n - 1)
    observed = sum(weight for (a, b), weight in coincidences.items() if a != b)
    return None if expected == 0 else 1 - observed / expected


def _by_distance(units: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> float | None:
    """α by squared distances: twice the pooled variance within units against that of all values."""
    values = np.concatenate(units)
    n = len(values)
    observed = sum(2 * len(unit) * float(((unit - unit.mean()) ** 2).sum()) / (len(unit) - 1) for unit in units) / n
    expected = 2 * n * float(((values - values.mean()) ** 2).sum()) / (n * (n - 1))
    return None if expected == 0 else 1 - observed / expected


def same(label: Any) -> Hashable:
    """What equal answers have in common: of several labels the set."""
    return frozenset(label) if isinstance(label, list | tuple) else label


def summarise_agreement(answers: Answers, kind: str) -> JSON:
    """How far annotators agree.

    Args:
        answers: what everybody said, by question.
        kind: ``classification``, ``multilabel`` or ``regression``.

    Returns:
        ``{"questions", "annotators", "agreed", "krippendorff", "fleiss", "pairs": [{"annotators", "questions",
        "agreed", "cohen"}]}``: *questions* with two answers or more, and the share of these in which all said the same;
        for numbers ``fleiss`` and ``cohen`` are ``None``.
    """
    shared = {question: said for question, said in answers.items() if len(said) > 1}
    numbers = kind == "regression"
    together: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for question, said in shared.items():
        for pair in itertools.combinations(sorted(said), 2):
            together[pair][question] = said
    unanimous = sum(len({same(label) for label in said.values()}) == 1 for said in shared.values())
    return {
        "questions": len(shared),
        "annotators": len({name for said in answers.values() for name in said}),
        "agreed": unanimous / len(shared) if shared else None,
        "krippendorff": krippendorff(shared, "interval" if numbers else "nominal"),
        "fleiss": None if numbers else fleiss(shared),
        "pairs": [
            {
                "annotators": list(pair),
                "questions": len(both),
                "agreed": sum(same(said[pair[0]]) == same(said[pair[1]]) for said in both.values()) / len(both),
                "cohen": None if numbers else cohen(both, *pair),
            }
            for pair, both in sorted(together.items())
        ],
    }


def disputed(labels: Sequence[Any], equal: Callable[[Any, Any], bool] | None = None) -> bool:
    """Whether no answer has more than half of the votes.

    >>> disputed(["a", "b"]), disputed(["a", "b", "a"]), disputed(["a"]), disputed([])
    (True, False, False, False)
    """
    if not labels:
        return False
    if equal is not None:
        return max(sum(equal(a, b) for b in labels) for a in labels) * 2 <= len(labels)
    return max(Counter(map(same, labels)).values()) * 2 <= len(labels)
