"""How uncertain a model is about its own answers, with the reason in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest

import numpy as np

from tidemill.records import JSON

_SURE = 0.6
"""Between the best label and the next: from there on nobody would call it wavering."""


def doubts_of(answers: Sequence[JSON], spec: JSON, rng: np.random.Generator) -> list[tuple[float, str]]:
    """For each answer its rank (0: the model could not be less certain) and the reason.

    Classes by margin (Scheffer et al., 2001), several labels by the one closest to its threshold, numbers by the width
    of their interval.

    Args:
        answers: as the model gave them, all of one kind.
        spec: the champion's, for the thresholds of several labels; 0.5 where it says none.
        rng: for the order of numbers whose intervals say nothing.
    """
    if answers and "value" in answers[0]:
        return _intervals(answers, rng)
    known = spec.get("thresholds") or []
    thresholds = dict(zip(spec.get("labels", []), known, strict=True)) if known else {}
    return [_labels(a, thresholds) if "labels" in a else _classes(a) for a in answers]


def _classes(answer: JSON) -> tuple[float, str]:
    best = nlargest(2, answer["scores"].items(), key=lambda item: item[1])
    (first, p1), (second, p2) = best if len(best) == 2 else (*best, ("anything else", 0.0))
    if answer.get("label") is not None and p1 - p2 > _SURE:
        return float(p1 - p2), f"the model says {first} ({p1:.0%}) and not {second} ({p2:.0%}), and may be wrong"
    said = "the model gave no answer: it wavers" if answer.get("label") is None else "the model wavers"
    return float(p1 - p2), f"{said} between {first} ({p1:.0%}) and {second} ({p2:.0%})"


def _labels(answer: JSON, thresholds: JSON) -> tuple[float, str]:
    """How near the closest label is to being given or not; 1 where it could not be farther."""
    near, label, p = min((abs(p - thresholds.get(name, 0.5)), name, p) for name, p in answer["scores"].items())
    given = label in answer["labels"]
    said = f"is only just {'' if given else 'not '}given"
    least = thresholds.get(label, 0.5)
    return min(1.0, 2 * near), f"the model is in doubt about {label}: at {p:.0%} it {said}, which takes {least:.0%}"


def _intervals(answers: Sequence[JSON], rng: np.random.Generator) -> list[tuple[float, str]]:
    """By the width of intervals beside the usual width; at random where all are alike or there are none."""
    widths = np.array([high - low for low, high in (a.get("interval") or (0.0, 0.0) for a in answers)], np.float64)
    usual = float(np.median(widths)) or float(widths.mean())
    if usual <= 0 or np.allclose(widths, usual):
        said = "no interval" if not widths.any() else "intervals of the same width to all"
        return [(float(rank), f"the model gives {said}, so the order is random") for rank in rng.random(len(answers))]
    found = []
    for answer, width in zip(answers, (widths / usual).tolist(), strict=True):
        low, high = answer.get("interval") or (answer["value"],) * 2
        reason = f"the model expects {answer['value']:.4g}, but anything from {low:.4g} to {high:.4g}"
        found.append((1 / (1 + width), f"{reason}: {width:.1f} times the usual interval"))
    return found
