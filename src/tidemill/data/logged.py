"""Logged choices of a dataset version: actions as codes, propensities, and what was offered, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Ragged
from tidemill.data.dataset import DatasetArrays
from tidemill.data.offers import ACTION, OFFER, PROPENSITY, offers_of

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Logged:
    """Logged choices beside their features.

    Attributes:
        action: codes int64 ``[n]``, places among the signature's labels; -1 for one that is not among them.
        propensity: float64 ``[n]``; NaN where none was logged.
        offered: bool ``[n, actions]``; ``None`` where everything is offered everywhere.
    """

    action: Rows
    propensity: npt.NDArray[np.float64]
    offered: npt.NDArray[np.bool_] | None

    def __getitem__(self, rows: slice | Rows) -> Logged:
        return Logged(self.action[rows], self.propensity[rows], None if self.offered is None else self.offered[rows])


def logged(dataset: DatasetArrays, rows: Rows) -> Logged:
    """The choices in some rows of a dataset version."""
    return logged_in(dataset.columns(rows), dataset.signature.labels)


def logged_in(columns: Mapping[str, Column], labels: Sequence[str]) -> Logged:
    """The choices in some columns, by the names of the actions."""
    chosen, propensity = columns[ACTION], columns[PROPENSITY]
    assert isinstance(chosen, Ragged) and isinstance(propensity, np.ndarray)
    place = {label: code for code, label in enumerate(labels)}
    words = chosen.to_arrow().dictionary_encode()
    codes = np.array([place.get(word, -1) for word in words.dictionary.to_pylist()], np.int64)
    offer = columns.get(OFFER)
    action: Rows = codes[words.indices.to_numpy()] if len(codes) else np.full(len(chosen), -1, np.int64)
    offered = offered_in(offer, place) if isinstance(offer, Ragged) else None
    return Logged(action, np.asarray(propensity, np.float64), offered)


def offered_in(column: Ragged, place: Mapping[str, int]) -> npt.NDArray[np.bool_] | None:
    """Which actions each row offers, bool ``[n, actions]``; ``None`` where every row offers everything.

    Args:
        column: texts as :func:`tidemill.data.offers.offered_text` writes them.
        place: the number of each action; those without one are passed over.
    """
    offers = offers_of(column.to_arrow().to_pylist())
    if all(offer is None for offer in offers):
        return None
    found = np.ones((len(offers), len(place)), np.bool_)
    rows: dict[int, npt.NDArray[Any]] = {}
    for row, offer in enumerate(offers):
        if offer is None:
            continue
        mask = rows.get(id(offer))
        if mask is None:
            mask = np.zeros(len(place), np.bool_)
            mask[[place[action["name"]] for action in offer if action["name"] in place]] = True
            rows[id(offer)] = mask
        found[row] = mask
    return found
