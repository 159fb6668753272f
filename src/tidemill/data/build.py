"""From parts to a dataset version: duplicates, labels, clusters and splits, as an index over the parts' rows.

Rows that are dropped stay in their part's arrays and are marked in the index, so arrays are never rewritten. Where
there are many rows, only those that are tied to others are held in memory; the others follow chunk by chunk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import splits
from tidemill.data.clean import EXAMPLES, Tally
from tidemill.data.keys import Keys, mix
from tidemill.data.parts import Part
from tidemill.data.schema import Signature
from tidemill.data.splits import DROPPED, Assigned, Assignments, Rows, SplitPolicy
from tidemill.data.storage import allocate
from tidemill.data.table import FEW_LABELS, Facts, Table
from tidemill.data.targets import Mask, classes_of, is_labelled, label_bits, row_form
from tidemill.data.tied import LiveLabel, TiedRows
from tidemill.errors import SourceError

_SLICE = 1 << 18


@dataclass(frozen=True, slots=True)
class Index:
    """A dataset version over the rows of its parts, one after the other; the arrays lie in temporary files.

    Attributes:
        samples: uint64: what the sample ids are made of.
        content: content keys, uint64.
        keys: split keys, uint64: equal for rows of one cluster.
        split: uint8 codes, 255 for dropped.
        target: as :mod:`tidemill.data.targets` says.
        weight: float32.
        assignments: all keys that ever had a split.
        weak: bool: the label is that of functions, nobody's; all False unless set.
    """

    samples: Keys
    content: Keys
    keys: Keys
    split: splits.Codes
    target: npt.NDArray[Any]
    weight: npt.NDArray[np.float32]
    assignments: Assignments
    weak: npt.NDArray[np.bool_] | None = None

    def identifier(self, signature: Signature) -> str:
        """``data_`` and a hash of everything that a model could learn from, in whatever order the rows lie."""
        sums = np.zeros(2, np.uint64)
        for start in range(0, len(self.split), _SLICE):
            part = slice(start, start + _SLICE)
            kept = self.split[part] != DROPPED
            said = label_bits(self.target[part][kept])
            said = mix(said ^ mix(self.weight[part][kept].astype(np.float64).view(np.uint64)))
            row = mix(mix(self.samples[part][kept] ^ said) ^ self.split[part][kept].astype(np.uint64))
            sums += np.array([row.sum(dtype=np.uint64), mix(row).sum(dtype=np.uint64)])
        text = json.dumps([signature.to_json(), sums.tolist()], sort_keys=True)
        return f"data_{hashlib.sha256(text.encode()).hexdigest()[:26]}"

    def counts(self) -> dict[str, int]:
        """Labelled rows by split, unlabelled rows, dropped rows; they add up to all rows."""
        labelled = is_labelled(self.target)
        counted = {n: int((labelled & (self.split == c)).sum()) for c, n in enumerate(splits.SPLITS)}
        kept = self.split != DROPPED
        return {**counted, "unlabelled": int((kept & ~labelled).sum()), "dropped": int((~kept).sum())}


def build_index(
    parts: Sequence[Part],
    signature: Signature,
    live: Mapping[str, LiveLabel],
    annotations: Mapping[str, Any],
    previous: Assignments,
    policy: SplitPolicy,
    tally: Tally,
    workdir: Path,
) -> Index:
    """Everything that a version decides about the rows of its parts.

    Args:
        parts: imported parts, then live parts.
        signature: of the parts.
        live: settled labels by prediction id; live rows that are not in it are dropped in silence, since nobody speaks
            of them (any more).
        annotations: labels by sample id, which override those of the source.
        previous: the assignments of the version before.
        policy: how new keys are split.
        tally: where to count what is done.
        workdir: for the index's arrays and other temporary files.

    Raises:
        SourceError: nothing is left, or policy ``source`` meets a source without a split.
    """
    table = Table(parts)
    classes = len(signature.labels) if signature.kind == "classification" else 1
    facts = table.facts(policy, classes, tally)
    picture = next((f.name for f in signature.inputs if f.type == "image"), None)
    chosen = table.tied(facts, policy, picture, annotations, workdir)
    arrays = _Arrays(workdir, table.n, signature)
    exempt = np.zeros(table.n, bool)
    if len(chosen):
        rows = TiedRows(table, chosen, facts, signature, live, tally)
        rows.drop_forgotten()
        rows.drop_empty()
        rows.annotate(annotations)
        rows.preset_from_sources()
        exempt[chosen] = _tied(rows, arrays, previous, policy, picture, workdir)
    alone = np.ones(table.n, bool)
    alone[chosen] = False
    if len(chosen) < table.n:
        for chunk in table.chunks():
            _untied(table, chunk[alone[chunk]], facts, arrays, previous, policy)
    if not any((arrays.split[c] != DROPPED).any() for c in table.chunks()):
        done = "; ".join(f"{what}: {count}" for what, count in tally.counts.items())
        raise SourceError("no row is left after cleaning.", where=done or None, mend="Mend these rows, or give others.")

    def assigned() -> Iterator[tuple[Keys, splits.Codes]]:
        for chunk in table.chunks():
            kept = chunk[(arrays.split[chunk] != DROPPED) & ~exempt[chunk]]
            yield arrays.content[kept], arrays.split[kept]

    return Index(
        arrays.samples,
        arrays.content,
        arrays.keys,
        arrays.split,
        arrays.target,
        arrays.weight,
        previous.extended(assigned(), workdir),
    )


class _Arrays:
    """The index's arrays in mapped files, so that they take no anonymous memory."""

    def __init__(self, folder: Path, n: int, signature: Signature) -> None:
        def array(name: str, dtype: npt.DTypeLike, row: tuple[int, ...] = ()) -> npt.NDArray[Any]:
            path = folder / f"{name}.tmp"
            mapped: npt.NDArray[Any] = np.memmap(path, dtype, "w+", shape=(n, *row))
            allocate(path)
            return mapped

        self.samples = array("samples", np.uint64)
        self.content = array("content", np.uint64)
        self.keys = array("keys", np.uint64)
        self.split = array("split", np.uint8)
        self.target = array("target", *row_form(signature))
        self.weight = array("weight", np.float32)


def _untied(
    table: Table,
    rows: npt.NDArray[np.int64],
    facts: Facts,
    arrays: _Arrays,
    previous: Assignments,
    policy: SplitPolicy,
) -> None:
    """Rows of the source that have nothing to do with one another."""
    content = table.gather("content", rows)
    target = table.gather("target", rows)
    preset = np.zeros(len(rows), np.int8) if facts.set_aside else table.gather("source", rows) + 1
    known = Rows(
        keys=content,
        cluster=np.arange(len(rows)),
        preset=preset.astype(np.int8),
        labelled=is_labelled(target),
        label=classes_of(target),
    )
    judged = (facts.has_validation, facts.has_test)
    arrays.split[rows] = splits.assign(known, previous, policy, judged_by_source=judged, labels=facts.labels).codes
    arrays.samples[rows] = arrays.content[rows] = arrays.keys[rows] = content
    arrays.target[rows] = target
    arrays.weight[rows] = table.gather("weight", rows, np.float32(1))


def _tied(
    rows: TiedRows,
    arrays: _Arrays,
    previous: Assignments,
    policy: SplitPolicy,
    picture: str | None,
    workdir: Path,
) -> Mask:
    """Rows that have to be seen together; returns which of them share their key with rows of another split."""
    inverse, cluster = _clusters(rows, picture, workdir)
    exempt = rows.same_by_nature(inverse)
    rows.report(_assign(rows, cluster, exempt, previous, policy))
    rows.merge_duplicates(inverse)
    trains = (rows.code == splits.TRAIN) & rows.is_live
    rows.weight[trains] = np.minimum(rows.weight[trains], 1.0)  # those that an audit drew weigh more, where they judge
    smallest = np.full(int(cluster.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, cluster, rows.content)
    for name, values in (
        ("samples", rows.samples),
        ("content", rows.content),
        ("keys", smallest[cluster]),
        ("split", rows.code),
        ("target", rows.target),
        ("weight", rows.weight),
    ):
        getattr(arrays, name)[rows.chosen] = values
    return exempt


def _clusters(
    rows: TiedRows, picture: str | None, workdir: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each row, the number of its content, and the number of its cluster: groups and near copies tied together."""
    unique, first, inverse = np.unique(rows.content, return_index=True, return_inverse=True)
    inverse = inverse.astype(np.int64)
    edges: list[npt.NDArray[np.int64]] = []
    table = rows.table
    if table.has("near"):
        edges.append(_equal_edges(rows.values("near")[first], np.arange(len(unique))))
    if picture is not None and table.has("thumbs"):
        edges.append(table.near_images(rows.chosen[first], picture, workdir))
    near = sum(len(e) for e in edges)
    if near:
        pairs = np.concatenate(edges)[:EXAMPLES]
        what = "near copies were found: they share a split, or are dropped"
        rows.tally.add(what, near, rows.origins(first[pairs[:, 0]], first[pairs[:, 1]]))
    group = rows.values("group", np.uint64(0))
    if (group != 0).any():
        edges.append(_equal_edges(group[group != 0], inverse[group != 0]))
    if not sum(len(e) for e in edges):
        return inverse, inverse
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(edges)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(unique), len(unique)))
    _, component = connected_components(graph, directed=False)
    return inverse, component.astype(np.int64)[inverse]


def _equal_edges(keys: Keys, nodes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Edges that chain together the nodes with equal keys, int64 ``[e, 2]``."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    pairs = np.stack([nodes[order][:-1][same], nodes[order][1:][same]], axis=1).astype(np.int64)
    different = pairs[:, 0] != pairs[:, 1]
    return np.compress(different, pairs, axis=0)


def _assign(
    rows: TiedRows, cluster: npt.NDArray[np.int64], exempt: Mask, previous: Assignments, policy: SplitPolicy
) -> Assigned:
    """Splits of the living rows; exempt rows keep the source's own."""
    chosen = np.flatnonzero(rows.alive & ~exempt)
    _, compact = np.unique(cluster[chosen], return_inverse=True)
    labelled = is_labelled(rows.target)
    label = classes_of(rows.target)
    group = rows.values("group", np.uint64(0)) if policy.kind == "group" else None
    time = rows.values("time", np.nan) if policy.kind == "time" else None
    some = Rows(
        keys=rows.content[chosen],
        cluster=compact.astype(np.int64),
        preset=rows.preset[chosen],
        labelled=labelled[chosen],
        label=label[chosen],
        group=None if group is None else group[chosen],
        time=None if time is None else time[chosen],
    )
    judged = (rows.facts.has_validation, rows.facts.has_test)
    whole = rows.n == rows.table.n or rows.facts.labels.sum() <= FEW_LABELS
    labels = None if whole else rows.facts.labels
    part = splits.assign(some, previous, policy, judged_by_source=judged, labels=labels)
    masks = {}
    for name in ("leaked", "quarantined", "alone", "moved"):
        mask = np.zeros(rows.n, bool)
        mask[chosen] = getattr(part, name)
        masks[name] = mask
    rows.code[chosen] = part.codes
    natural = np.array([DROPPED, splits.TRAIN, splits.VALIDATION, splits.REFERENCE], np.uint8)
    rows.code[exempt] = natural[rows.preset[exempt]]
    return Assigned(rows.code, **masks)
