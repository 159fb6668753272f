"""``goal`` and ``tuning`` in ``tidemill.yaml``: which candidate goes to the gate, and how recipes are searched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tidemill.config._base import Int, Section, Text
from tidemill.errors import InputError

_LIMIT = re.compile(r"under\s+(\d+(?:\.\d+)?)\s*(us|µs|ms|s|b|kb|mb|gb)", re.IGNORECASE)
_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
_HOW = "Write best, under 5 ms, under 2 MB, or under 5 ms and under 2 MB."


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a candidate must keep to; of those that do, the best one is wanted.

    Attributes:
        latency_ms: milliseconds that one answer may take, the median of measured ones.
        size_bytes: bytes that its package may have.
    """

    latency_ms: float | None = None
    size_bytes: float | None = None


def parse_goal(text: str) -> Goal:
    """The goal that *text* states.

    Raises:
        InputError: it is none.

    >>> parse_goal("best"), parse_goal("under 5 ms and under 2 MB")
    (Goal(latency_ms=None, size_bytes=None), Goal(latency_ms=5.0, size_bytes=2000000.0))
    """
    found: dict[str, float] = {}
    for part in re.split(r"\s*(?:,|\band\b)\s*", text.strip()):
        match = _LIMIT.fullmatch(part)
        if match is None:
            if part.lower() == "best":
                continue
            raise InputError(f"{text!r} is no goal", where="goal", mend=_HOW)
        number, unit = float(match[1]), match[2].lower()
        name = "latency_ms" if unit in _MILLISECONDS else "size_bytes"
        if name in found or not number > 0:
            said = "states two limits of one kind" if name in found else "leaves no room for any model"
            raise InputError(f"{text!r} {said}", where="goal", mend=_HOW)
        found[name] = number * (_MILLISECONDS | _BYTES)[unit]
    return Goal(**found)


def _goal(text: str) -> str:
    try:
        parse_goal(text)
    except InputError as error:
        raise PydanticCustomError("goal", "must be best, or limits such as under 5 ms and under 2 MB") from error
    return text


GoalText = Annotated[Text, AfterValidator(_goal)]


class Tuning(Section):
    """Tuning: how the parameters of recipes are searched."""

    workers: Annotated[Int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="trials at a time, each in a process of its own with its share of the threads; null: 1, and with a "
        "budget of 10s or more one a thread, 4 at most",
    )
    stopping: Literal["halving", "none"] = Field(
        default="halving",
        description="halving: many short trials, of which the better third gets more; none: every trial is trained "
        "whole",
    )
    warm_start: bool = Field(
        default=True, description="after the defaults, try what was best in the last cycles of this project"
    )
