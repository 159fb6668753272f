"""What goes into a model and what comes out: fields, and the signature they form.

A signature is inferred when a project is made, stored with every dataset version, and travels in the model
package, so that loading and answering need neither the task nor the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

FieldType = Literal["image", "number", "category", "text", "date"]
Kind = Literal["classification", "multilabel", "regression", "choice"]
"""One of several labels, any number of them, a number; or an action, of which only the reward comes back."""
NUMBERS: tuple[Kind, ...] = ("regression", "choice")
"""Kinds whose target is a column of numbers: what is to be predicted, or rewards."""
Role = Literal["input", "action", "offer", "log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input or output.

    Attributes:
        name: the column's name, or ``image`` for a folder of images.
        type: how its values are stored as raw typed arrays (see :mod:`tidemill.data.arrays`):
            ``image`` uint8 ``[n, h, w, c]``; ``number`` and ``date`` (UTC seconds) float64 ``[n]`` with NaN for
            missing; ``category`` and ``text`` ragged UTF-8, where a missing value is the empty string.
        shape: for images ``(height, width, channels)``.
        optional: missing values were seen in the data, so a request may leave it out.
        role: of a choice: ``input`` describes its context, and ``action`` the action that was chosen; ``offer`` says
            between what it is made; ``log`` is known only once it was made, and is no part of a request.
    """

    name: str
    type: FieldType
    shape: tuple[int, ...] | None = None
    optional: bool = False
    role: Role = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The inputs of a model and its output.

    Attributes:
        inputs: in the order of the source's columns.
        target: name of the output column.
        kind: ``classification`` (one of ``labels``), ``multilabel`` (any number of them), ``regression`` (a number), or
            ``choice`` (an action, one of ``labels``; the output column holds its reward).
        labels: the sorted label strings; a label's index is its code. Empty for regression.
        separator: for ``multilabel``, what parts several labels in one text of the source; ``None`` for lists.
    """

    inputs: tuple[Field, ...]
    target: str
    kind: Kind
    labels: tuple[str, ...] = ()
    separator: str | None = None

    @property
    def asked(self) -> tuple[Field, ...]:
        """The inputs that a request may hold: all of them, but for what only a log knows."""
        return tuple(f for f in self.inputs if f.role in ("input", "offer"))

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return {
            "inputs": [
                {
                    "name": f.name,
                    "type": f.type,
                    "shape": list(f.shape) if f.shape else None,
                    "optional": f.optional,
                    **({} if f.role == "input" else {"role": f.role}),
                }
                for f in self.inputs
            ],
            "target": self.target,
            "kind": self.kind,
            "labels": list(self.labels),
            "separator": self.separator,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """The signature that :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        read = cls(
            inputs=tuple(_field(field) for field in data["inputs"]),
            target=data["target"],
            kind=data["kind"],
            labels=tuple(data["labels"]),
            separator=data.get("separator"),  # packages of the first schema have none
        )
        names = [field.name for field in read.inputs]
        if read.kind not in get_args(Kind) or len(set(names)) < len(names):
            raise ValueError(f"its kind is {read.kind!r}, and its inputs are {names}")
        if not all(isinstance(text, str) for text in (read.target, *read.labels, read.separator or "")):
            raise TypeError("its target, a label or the separator is no text")
        return read


def _field(data: Mapping[str, Any]) -> Field:
    name, kind, shape, optional = (data[key] for key in ("name", "type", "shape", "optional"))
    if not isinstance(name, str) or kind not in get_args(FieldType) or not isinstance(optional, bool):
        raise ValueError(f"{str(name)[:80]!r} is no input of type {str(kind)[:80]}")
    if (kind == "image") != bool(shape):
        raise ValueError(f"input {name!r} of type {kind} has the shape {shape}")
    if shape and not (len(shape) == 3 and all(type(side) is int and side > 0 for side in shape) and shape[2] in (1, 3)):
        raise ValueError(f"input {name!r} has the shape {shape}")
    role = data.get("role", "input")
    if role not in get_args(Role):
        raise ValueError(f"input {name!r} has the role {str(role)[:80]!r}")
    return Field(name=name, type=kind, shape=tuple(shape) if shape else None, optional=optional, role=role)
