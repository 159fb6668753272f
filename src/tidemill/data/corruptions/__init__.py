"""What may happen to inputs on their way to a model, at five strengths: the ground of a report's robustness.

After Hendrycks and Dietterich (2019), https://arxiv.org/abs/1903.12261, for images; for texts and tables what people
and machines do to them. One file a type of input; each names its corruptions in :data:`CORRUPTIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tidemill.data.arrays import Column, Columns
from tidemill.data.corruptions import images, tables, texts
from tidemill.data.corruptions._base import STRENGTHS, Corruption
from tidemill.data.schema import Field, Signature

__all__ = ["STRENGTHS", "Corruption", "corrupted", "corruptions_of"]

BY_TYPE: Mapping[str, tuple[Corruption, ...]] = {
    "image": images.CORRUPTIONS,
    "text": texts.CORRUPTIONS,
    "number": tables.NUMBERS,
    "date": tables.DATES,
    "category": tables.CATEGORIES,
}


def corruptions_of(signature: Signature) -> list[str]:
    """The names of all that may happen to these inputs, in a fixed order.

    >>> corruptions_of(Signature(inputs=(Field(name="age", type="number"),), target="y", kind="regression"))
    ['noise', 'missing values', 'slipped point']
    """
    names: dict[str, None] = {}
    for field in signature.inputs:
        names |= dict.fromkeys(one.name for one in BY_TYPE[field.type])
    return list(names)


def what(name: str, signature: Signature) -> str:
    """What a corruption does to these inputs, in plain words."""
    return "; ".join(dict.fromkeys(one.what for field in signature.inputs for one in _named(field, name)))


def corrupted(columns: Columns, signature: Signature, name: str, strength: int, seed: int) -> dict[str, Column]:
    """Every column after *name* happened to it; those of a type that it does not happen to are as they were.

    Args:
        columns: raw columns ``[n]``; not changed.
        signature: says which type each is of.
        name: one of :func:`corruptions_of`.
        strength: 1 to 5.
        seed: of all draws; a stronger corruption of the same seed draws alike.
    """
    found = dict(columns)
    for place, field in enumerate(signature.inputs):
        for one in _named(field, name):
            found[field.name] = one.apply(found[field.name], strength, np.random.default_rng((seed, place)))
    return found


def _named(field: Field, name: str) -> list[Corruption]:
    return [one for one in BY_TYPE[field.type] if one.name == name]
