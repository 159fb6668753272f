"""Slices: parts of a set that share a label or a column's value, for reports and for the gate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.data.arrays import Column, Columns, Ragged
from tidemill.metrics.bootstrap import Intervals, bca, certain
from tidemill.metrics.units import Floats, Units, kish

MOST = 20
"""Slices of one column, the most frequent values; the others share one slice more."""

Masks = dict[str, npt.NDArray[np.bool_]]


def slice_masks(
    columns: Columns, names: Sequence[str], target: npt.NDArray[Any] | None = None, labels: Sequence[str] = ()
) -> Masks:
    """``{"label=…": mask, "COLUMN=VALUE": mask, …}``, bool ``[n]`` each; empty slices are left out.

    Of several labels a row (``[n, labels]``) the slice of one holds the rows that carry it.
    Strings slice by value, numbers with more than :data:`MOST` values by quarter; images are not sliced.

    >>> ages = np.array([20.0, 30.0, 30.0])
    >>> {k: m.tolist() for k, m in slice_masks({"age": ages}, ["age"]).items()}
    {'age=20': [True, False, False], 'age=30': [False, True, True]}
    """
    found: Masks = {}
    if target is not None:
        carried = [target == code if target.ndim == 1 else target[:, code] == 1 for code in range(len(labels))]
        found |= {f"label={label}": mask for label, mask in zip(labels, carried, strict=True)}
    for name in names:
        found |= _of_column(name, columns[name])
    return {name: mask for name, mask in found.items() if mask.any()}


def _of_column(name: str, column: Column) -> Masks:
    if isinstance(column, Ragged):
        encoded = column.to_arrow().dictionary_encode()
        codes = np.asarray(encoded.indices, np.int64)
        return _values(name, [str(v) or "(missing)" for v in encoded.dictionary.to_pylist()], codes)
    if column.ndim != 1:
        return {}
    numbers = np.asarray(column, np.float64)
    known = np.isfinite(numbers)
    distinct, codes = np.unique(numbers[known], return_inverse=True)
    every = np.full(len(numbers), len(distinct))
    every[known] = codes.reshape(-1)
    if len(distinct) <= MOST:
        return _values(name, [*(f"{v:g}" for v in distinct), "(missing)"], every)
    edges = np.unique(np.quantile(numbers[known], [0, 0.25, 0.5, 0.75, 1]))
    quarters = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(edges) - 2)
    texts = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    return _values(name, [*texts, "(missing)"], np.where(known, quarters, len(texts)))


def _values(name: str, texts: Sequence[str], codes: npt.NDArray[np.int64]) -> Masks:
    counts = np.bincount(codes, minlength=len(texts))
    often = [int(code) for code in np.argsort(-counts, kind="stable")[:MOST]]
    found = {f"{name}={texts[code]}": codes == code for code in sorted(often, key=lambda c: texts[c])}
    if len(texts) > MOST:
        found[f"{name}=(others)"] = ~np.isin(codes, often)
    return found


def slice_means(
    values: Floats, masks: Masks, units: Units, weights: Floats, *, shares: bool, seed: int = 0
) -> Intervals:
    """The weighted mean of a per-row value ``[n]`` in every slice, with clustered 95 % intervals.

    Args:
        values: what to average, for example whether the answer was right.
        masks: the slices.
        units: the clusters.
        weights: inverse inclusion probabilities ``[n]``.
        shares: the values are 0 or 1, so that a slice that is all right still gets an interval.
        seed: of the bootstrap.
    """
    groups = units.grouped(seed)

    def per_unit(what: Floats) -> Any:
        lines = []
        for mask in masks.values():
            index = groups.index[mask]
            lines.append(sparse.csr_array(np.bincount(index, what[mask], groups.count)[None, :]))
        return sparse.vstack(lines).tocsr()

    below, above = per_unit(weights), per_unit(weights * values)

    def ratio(totals: Floats) -> Floats:
        under, over = totals[..., : len(masks)], totals[..., len(masks) :]
        return np.asarray(np.where(under > 0, over / np.where(under > 0, under, 1.0), np.nan), np.float64)

    found = bca(sparse.vstack([below, above]).tocsr(), ratio, seed=seed)
    if not shares:
        return found
    return certain(found, np.array([kish(_sums(units, weights, mask)) for mask in masks.values()]))


def _sums(units: Units, weights: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """The weight of each unit within a slice."""
    return np.asarray(np.bincount(units.index[mask], weights[mask], units.count), np.float64)
