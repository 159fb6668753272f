"""What all records share, and their way to JSON and back."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

JSON = dict[str, Any]
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all records share: an id, and the kind that stands in front of it."""

    prefix: ClassVar[str]

    id: str
    created: float = field(default_factory=time.time)


def to_json(record: Any) -> JSON:
    """A record as JSON-compatible data; tuples become lists."""
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def from_json(kind: type[R], data: JSON) -> R:
    """The record that :func:`to_json` wrote; keys that the record does not know are an error (``TypeError``).

    >>> from tidemill.records import Recipe
    >>> r = Recipe(name="a", task="t", learner="l", features=({"step": "pixels"},))
    >>> from_json(Recipe, to_json(r)) == r
    True
    """
    types = {f.name: f.type for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: tuple(v) if str(types.get(k, "")).startswith("tuple") else v for k, v in data.items()})
