"""What goes into a model and what comes out: fields, and the signature they form.

A signature is inferred when a project is made, stored with every dataset version, and travels in the model
package, so that loading and answering need neither the task nor the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FieldType = Literal["image", "number", "category", "text", "date"]
Kind = Literal["classification", "multilabel", "regression"]
"""One of several labels, any number of them, or a number."""


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
    """

    name: str
    type: FieldType
    shape: tuple[int, ...] | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The inputs of a model and its output.

    Attributes:
        inputs: in the order of the source's columns.
        target: name of the output column.
        kind: ``classification`` (one of ``labels``), ``multilabel`` (any number of them) or ``regression`` (a number).
        labels: the sorted label strings; a label's index is its code. Empty for regression.
        separator: for ``multilabel``, what parts several labels in one text of the source; ``None`` for lists.
    """

    inputs: tuple[Field, ...]
    target: str
    kind: Kind
    labels: tuple[str, ...] = ()
    separator: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return {
            "inputs": [
                {
                    "name": f.name,
                    "type": f.type,
                    "shape": list(f.shape) if f.shape else None,
                    "optional": f.optional,
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
        """The signature that :meth:`to_json` wrote."""
        inputs = tuple(
            Field(
                name=f["name"],
                type=f["type"],
                shape=tuple(f["shape"]) if f["shape"] else None,
                optional=f["optional"],
            )
            for f in data["inputs"]
        )
        return cls(
            inputs=inputs,
            target=data["target"],
            kind=data["kind"],
            labels=tuple(data["labels"]),
            separator=data.get("separator"),  # packages of the first schema have none
        )
