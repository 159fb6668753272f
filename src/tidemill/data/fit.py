"""How well what people state fits what the model said: evidence about a statement on which nobody else spoke.

A model's probabilities say what chance each label has. People who mean well mostly correct where the model was in
doubt, so the label they state had a better chance than a label ordinarily has that the model did not choose. Labels
that are picked to do harm, or at random, have that ordinary chance, and mostly far less. The *fit* of a statement is
the logarithm of its chance over the ordinary one: the ratio of how likely somebody states this who picks labels by
their chance to be right, to how likely somebody does who picks any. Agreeing with an answer has a fit near 0: it proves
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from tidemill.records import JSON, Report
from tidemill.store import Store

MOST_FIT = math.log(20)
"""One statement proves no more than this: a model may be sure and wrong."""
SAMPLE = 2000
"""Answers of a model that tell what is ordinary for it."""
_SMALLEST = 1e-5


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What is ordinary in a model's answers.

    Attributes:
        own: mean probability of what it answers.
        other: mean probability of a label that it does not answer; for several labels, of the side it does not take.
        centre: median of the numbers it answers.
        spread: their mean distance from it.
    """

    own: float = 1.0
    other: float = 0.0
    centre: float = 0.0
    spread: float = 0.0


def ordinary(answers: Sequence[JSON], sure: float = 0.0) -> Ordinary:
    """What is ordinary in *answers*, all of one model.

    Args:
        answers: as the service gave them; those without scores and numbers tell nothing.
        sure: the mean probability of its answers on a test set. Where people ask mostly what is hard for the model, it
            is the test set that says what is ordinary.
    """
    numbers = [float(answer["value"]) for answer in answers if "value" in answer]
    if numbers:
        centre = median(numbers)
        return Ordinary(centre=centre, spread=fmean(abs(number - centre) for number in numbers))
    own = [chance for answer in answers for chance in _chances(answer)]
    if not own:
        return Ordinary()
    classes = max(2, max((len(_scores(answer)) for answer in answers if "labels" not in answer), default=2))
    other = (1.0 - max(fmean(own), sure)) / (classes - 1)
    return Ordinary(own=fmean(own), other=max(other, _SMALLEST))


def ordinary_by_model(store: Store, models: Sequence[str], until: float | None = None) -> dict[str, Ordinary]:
    """What is ordinary for each of *models*, by id, from its newest answers made before *until* (UTC seconds)."""
    return {
        model: ordinary(store.answers(model, limit=SAMPLE, created_before=until), _sure(store, model, until))
        for model in models
    }


def fit(answer: Mapping[str, Any], label: Any, usual: Ordinary) -> float:
    """The fit of *label* as a statement about what was answered so; 0 where the answer says nothing of it.

    >>> usual = Ordinary(own=0.9, other=0.01)
    >>> doubtful = {"label": "7", "scores": {"7": 0.5, "1": 0.4, "4": 0.1}}
    >>> sure = {"label": "7", "scores": {"7": 0.999, "1": 0.0005, "4": 0.0005}}
    >>> fit(doubtful, "1", usual) > 2, fit(sure, "1", usual) < -2
    (True, True)
    """
    if "value" in answer:
        found = _number_fit(answer, label, usual)
    elif usual.other <= 0 or not _scores(answer):
        return 0.0
    elif "labels" in answer:
        found = _several_fit(answer, label, usual)
    else:
        found = _label_fit(answer, label, usual)
    return max(-MOST_FIT, min(MOST_FIT, found))


def tolerance(answer: Mapping[str, Any], usual: Ordinary) -> float:
    """How far two numbers stated for what was answered so may lie apart and still say the same."""
    low, high = answer.get("interval") or (0.0, 0.0)
    return float((high - low) / 4 or usual.spread / 20)


def _chances(answer: Mapping[str, Any]) -> list[float]:
    """The probabilities of what was answered: one, or one a label where several may hold."""
    scores = _scores(answer)
    if not scores:
        return []
    if "labels" in answer:
        given = set(answer["labels"])
        return [score if name in given else 1.0 - score for name, score in scores.items()]
    return [scores.get(_given(answer), 0.0)]


def _scores(answer: Mapping[str, Any]) -> Mapping[str, float]:
    """The probability of each label; empty where an answer has none, or an older task left them in another form."""
    scores = answer.get("scores")
    return scores if isinstance(scores, Mapping) else {}


def _given(answer: Mapping[str, Any]) -> str:
    """The label that was answered, or would have been by a model that abstained."""
    return str(answer["guess"] if answer.get("label") is None else answer["label"])


def _label_fit(answer: Mapping[str, Any], label: Any, usual: Ordinary) -> float:
    scores, given = answer["scores"], _given(answer)
    if label == given:
        return math.log(max(scores.get(given, 0.0), _SMALLEST) / usual.own)
    # Of a label that it does not know, a model says only how much it leaves to others.
    chance = scores.get(label, (1.0 - scores.get(given, 0.0)) / max(1, len(scores) - 1))
    return math.log(max(chance, _SMALLEST) / usual.other)


def _several_fit(answer: Mapping[str, Any], label: Any, usual: Ordinary) -> float:
    scores, given = answer["scores"], set(answer["labels"])
    stated = set(label) if isinstance(label, list | tuple) else {label}
    moved = [name for name in scores if (name in stated) != (name in given)]
    if not moved:
        return 0.0
    chances = (scores[name] if name in stated else 1.0 - scores[name] for name in moved)
    return fmean(math.log(max(chance, _SMALLEST) / usual.other) for chance in chances)


def _number_fit(answer: Mapping[str, Any], label: Any, usual: Ordinary) -> float:
    """Between two Laplace densities: around the answer, as wide as its interval says, and around all answers."""
    low, high = answer.get("interval") or (0.0, 0.0)
    level = answer.get("level") or 0.0
    if not isinstance(label, int | float) or label == answer["value"]:
        return 0.0
    if high <= low or not 0.0 < level < 1.0 or usual.spread <= 0:
        return 0.0
    scale = (high - low) / 2 / -math.log(1.0 - level)
    near, far = abs(label - answer["value"]) / scale, abs(label - usual.centre) / usual.spread
    return float(math.log(usual.spread / scale) - near + far)


def _sure(store: Store, model: str, until: float | None) -> float:
    """The mean probability of the model's answers on its test set; 0 where no report tells."""
    splits = ["reference", "validation"]
    for report in store.find(Report, model_id=model, split=splits, newest_first=True, created_before=until):
        bins = report.content.get("reliability") or [] if report.content.get("kind") == "classification" else []
        weight = sum(entry["weight"] for entry in bins)
        if weight > 0:
            return float(sum(entry["confidence"] * entry["weight"] for entry in bins) / weight)
    return 0.0
