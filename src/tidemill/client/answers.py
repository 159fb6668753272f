"""What the service answers, as values with types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one row; what its kind of task has not is ``None``.

    Attributes:
        id: of the prediction, to give feedback on.
        model: the id of the model that answered.
        deployment: by which it answered.
        audit: this row was drawn for the audit: please ask someone for the right answer, and send it with ``asked``.
        label: one of several labels; ``None`` also where the model abstains.
        labels: those that hold, where any number may.
        score: the probability of the label, or of the guess.
        scores: the probability of each label.
        value: a number.
        interval: from low to high.
        level: the share of true values that such intervals cover.
        abstained: the model is not sure enough; what it would have said is its ``guess``.
        guess: that.
        action: what a policy chose.
        propensity: the probability with which it did.
        propensities: that of each action that was offered.
        expected: the reward that each was expected to bring.
    """

    id: str
    model: str
    deployment: str
    audit: bool
    label: str | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    scores: Mapping[str, float] | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    abstained: bool = False
    guess: str | None = None
    action: str | None = None
    propensity: float | None = None
    propensities: Mapping[str, float] | None = None
    expected: Mapping[str, float] | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any], model: str, deployment: str) -> Answer:
        """One of the ``predictions`` of an answer's JSON; fields of a newer service are left out."""
        known = {name: said[name] for name in cls.__dataclass_fields__ if name in said}
        for name in ("labels", "interval"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**{**known, "model": model, "deployment": deployment})


def answers_of(content: Mapping[str, Any]) -> list[Answer]:
    """All of an answer's JSON.

    >>> row = {"id": "pred_1", "audit": False, "value": 3.5, "interval": [1, 4], "level": 0.9}
    >>> answers_of({"model": "m", "deployment": "d", "predictions": [row]})[0].interval
    (1, 4)
    """
    return [Answer.of(row, content["model"], content["deployment"]) for row in content["predictions"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one statement of feedback.

    Attributes:
        feedback: its id; of a repeated one that of the first; ``None`` where it was refused.
        status: ``accepted``, ``repeated`` under its key, in ``conflict`` with another one of that key, or ``refused``.
        superseded: the older statement of the same author that it takes the place of.
        error: why it was refused, as the service says it.
    """

    feedback: str | None
    status: Literal["accepted", "repeated", "conflict", "refused"]
    superseded: str | None = None
    error: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Receipt:
        """One of an answer's JSON."""
        status = said.get("status", "refused")
        return cls(
            feedback=said.get("feedback"), status=status, superseded=said.get("superseded"), error=said.get("error")
        )
