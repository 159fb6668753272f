"""From parts to a dataset version: duplicates, labels, clusters and splits, as an index over the parts' rows.

Rows that are dropped stay in their part's arrays and are marked in the index, so arrays are never rewritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import splits
from tidemill.data.clean import EXAMPLES, Tally
from tidemill.data.keys import Keys, key_int, mix
from tidemill.data.near import near_pairs
from tidemill.data.parts import Part
from tidemill.data.schema import Signature
from tidemill.data.splits import DROPPED, Assigned, Assignments, Rows, SplitPolicy
from tidemill.data.storage import ArrayWriter, open_array
from tidemill.errors import InputError, SourceError

Mask = npt.NDArray[np.bool_]
SAME_TABLE = 0.5
"""When more of a table's training rows than this repeat a test row, its inputs can take few values only, and equality
is no leakage; the rows are kept, and that is reported."""
_PRESETS = {"train": splits.LIVE_TRAIN, "recent-validation": splits.LIVE_VALIDATION, "recent-test": splits.LIVE_TEST}


@dataclass(frozen=True, slots=True)
class LiveLabel:
    """What is known of one live row: its settled label, the split of its key, its weight."""

    label: Any
    split: str
    weight: float


@dataclass(frozen=True, slots=True)
class Index:
    """A dataset version over the rows of its parts, one after the other.

    Attributes:
        samples: uint64: what the sample ids are made of.
        content: content keys, uint64.
        keys: split keys, uint64: equal for rows of one cluster.
        split: uint8 codes, 255 for dropped.
        target: int32 codes (-1 unlabelled) or float32 (NaN unlabelled).
        weight: float32.
        assignments: all keys that ever had a split.
    """

    samples: Keys
    content: Keys
    keys: Keys
    split: splits.Codes
    target: npt.NDArray[Any]
    weight: npt.NDArray[np.float32]
    assignments: Assignments

    def identifier(self, signature: Signature) -> str:
        """``data_`` and a hash of everything that a model could learn from this version by."""
        kept = np.flatnonzero(self.split != DROPPED)
        order = kept[np.argsort(self.samples[kept], kind="stable")]
        digest = hashlib.sha256(json.dumps(signature.to_json(), sort_keys=True).encode())
        for array in (self.samples, self.split, self.target, self.weight):
            digest.update(np.ascontiguousarray(array[order]).data)
        return f"data_{digest.hexdigest()[:26]}"

    def counts(self, labelled: Mask) -> dict[str, int]:
        """Labelled rows by split, unlabelled rows, dropped rows; they add up to all rows."""
        counted = {n: int((labelled & (self.split == c)).sum()) for c, n in enumerate(splits.SPLITS)}
        kept = self.split != DROPPED
        return {**counted, "unlabelled": int((kept & ~labelled).sum()), "dropped": int((~kept).sum())}


def is_labelled(target: npt.NDArray[Any]) -> Mask:
    """Which rows have a label, bool ``[n]``."""
    return np.asarray(~np.isnan(target) if target.dtype.kind == "f" else target >= 0, np.bool_)


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
        workdir: for a temporary file.

    Raises:
        SourceError: nothing is left, or policy ``source`` meets a source without a split.
    """
    rows = _Rows(parts, signature, live, tally)
    rows.drop_empty()
    rows.annotate(annotations)
    rows.preset_from_sources(policy)
    inverse, cluster = _clusters(rows, workdir)
    exempt = rows.same_by_nature(inverse)
    assigned = _assign(rows, cluster, exempt, previous, policy)
    rows.report(assigned)
    rows.merge_duplicates(inverse)
    if not (rows.code != DROPPED).any():
        raise SourceError("no row is left after cleaning.", mend="Look at the counts of the report; give more data.")
    rows.weight[(rows.code == splits.TRAIN) & rows.is_live] = 1.0
    kept = (rows.code != DROPPED) & ~exempt
    assignments = previous.extended(rows.content[kept], rows.code[kept])
    smallest = np.full(int(cluster.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, cluster, rows.content)
    return Index(rows.samples, rows.content, smallest[cluster], rows.code, rows.target, rows.weight, assignments)


class _Rows:
    """The rows of all parts side by side, while it is decided what becomes of them."""

    def __init__(
        self, parts: Sequence[Part], signature: Signature, live: Mapping[str, LiveLabel], tally: Tally
    ) -> None:
        self.parts = parts
        self.signature = signature
        self.tally = tally
        self.starts = np.cumsum([0, *[p.n for p in parts]])
        self.n = int(self.starts[-1])
        self.content: Keys = self.joined("content")
        self.target = self.joined("target").copy()
        self.is_live = np.repeat([p.live for p in parts], [p.n for p in parts])
        self.alive = np.ones(self.n, bool)
        self.weight = np.ones(self.n, np.float32)
        self.preset = np.full(self.n, splits.NONE, np.int8)
        self.code = np.full(self.n, DROPPED, np.uint8)
        self.tables_only = all(f.type not in ("image", "text") for f in signature.inputs)
        self._place_live(live)
        self.samples = self._sample_keys()

    def joined(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate([p.array(name) for p in self.parts])

    def _place_live(self, live: Mapping[str, LiveLabel]) -> None:
        """Labels, presets and weights of the live rows."""
        codes = {label: code for code, label in enumerate(self.signature.labels)}
        for part, start in zip(self.parts, self.starts, strict=False):
            if not part.live:
                continue
            for row, identifier in enumerate(part.origin.to_arrow().to_pylist(), int(start)):
                said = live.get(identifier)
                value = None if said is None else self._target_of(said.label, codes)
                if said is None or value is None:
                    self.alive[row] = False
                    if said is not None:
                        what = "live labels of no known class were left out"
                        self.tally.add(what, 1, [f"{identifier}: {said.label!r}"])
                    continue
                self.target[row] = value
                self.preset[row] = _PRESETS[said.split]
                self.weight[row] = said.weight

    def _target_of(self, label: Any, codes: Mapping[str, int]) -> float | None:
        if self.signature.kind == "classification":
            return codes.get(str(label))
        return float(label) if isinstance(label, int | float) and np.isfinite(label) else None

    def _sample_keys(self) -> Keys:
        """Content keys; in tables, rows that agree in content but not in label are samples of their own."""
        samples = self.content.copy()
        if not self.tables_only:
            return samples
        labelled = is_labelled(self.target) & ~self.is_live
        rows = np.flatnonzero(labelled)
        bits = self.target[rows].astype(np.float64).view(np.uint64)
        order = np.lexsort((bits, self.content[rows]))
        keys, labels = self.content[rows][order], bits[order]
        same_key = keys[1:] == keys[:-1]
        torn = np.unique(keys[1:][same_key & (labels[1:] != labels[:-1])])
        several = np.isin(self.content[rows], torn)
        samples[rows[several]] = mix(self.content[rows[several]] ^ mix(bits[several]))
        return samples

    def origins(self, rows: npt.NDArray[Any], more: npt.NDArray[Any] | None = None) -> list[str]:
        """What people call up to five rows, with the rows they were dropped for."""
        shown = [self.origin(int(r)) for r in rows[:EXAMPLES]]
        if more is not None:
            shown = [f"{a} = {self.origin(int(b))}" for a, b in zip(shown, more, strict=False)]
        return shown

    def origin(self, row: int) -> str:
        """What people call one row."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part].origin[row - int(self.starts[part])]

    def drop_empty(self) -> None:
        """Rows without any input."""
        empty = self.joined("empty") & self.alive
        self.alive &= ~empty
        self.tally.add("rows without any input were dropped", int(empty.sum()), self.origins(np.flatnonzero(empty)))

    def annotate(self, annotations: Mapping[str, Any]) -> None:
        """Labels that annotators gave to samples override those of the source."""
        if not annotations:
            return
        codes = {label: code for code, label in enumerate(self.signature.labels)}
        said: dict[int, float] = {}
        for identifier, label in annotations.items():
            value = self._target_of(label, codes)
            try:
                key = key_int(identifier.removeprefix("smp_"))
            except InputError:
                value = None
                key = 0
            if value is None:
                self.tally.add("annotations that fit no class or sample were left out", 1, [f"{identifier}: {label!r}"])
            else:
                said[key] = value
        known = np.array(sorted(said), np.uint64)
        values = np.array([said[int(k)] for k in known], self.target.dtype)
        if not len(known):
            return
        at = np.minimum(np.searchsorted(known, self.samples), len(known) - 1)
        hit = (known[at] == self.samples) & ~self.is_live
        old = is_labelled(self.target)
        changed = hit & old & (self.target != values[at])
        what = "labels of the source were overridden by annotators"
        self.tally.add(what, int(changed.sum()), self.origins(np.flatnonzero(changed)))
        given = hit & ~old
        what = "unlabelled samples were labelled by annotators"
        self.tally.add(what, int(given.sum()), self.origins(np.flatnonzero(given)))
        self.target[hit] = values[at][hit]

    def preset_from_sources(self, policy: SplitPolicy) -> None:
        """The source's own split, unless it leaves nothing to train on."""
        source = self.joined("source")
        imported = ~self.is_live
        if not (imported & self.alive & (source <= 0)).any() and (source > 0).any():
            what = "rows of a source that has no training split; its split was set aside"
            self.tally.add(what, int((source > 0).sum()), self.origins(np.flatnonzero(source > 0)))
            source = np.full(self.n, -1, np.int8)
        if policy.kind == "source" and not (imported & (source >= 0)).any():
            raise SourceError(
                "the splits are to be the source's own, but it has none.",
                where="splits.policy",
                mend="Name files or folders train and test, add a column `split`, or choose the policy `hash`.",
            )
        self.preset[imported] = source[imported] + 1

    def same_by_nature(self, inverse: npt.NDArray[np.int64]) -> Mask:
        """Rows of a table that repeat across the source's splits because there are few possible rows."""
        exempt = np.zeros(self.n, bool)
        if not self.tables_only:
            return exempt
        trains = self.alive & (self.preset == splits.SOURCE_TRAIN)
        judges = self.alive & np.isin(self.preset, (splits.SOURCE_TEST, splits.SOURCE_VALIDATION))
        judged = np.zeros(int(inverse.max()) + 1, bool)
        judged[inverse[judges]] = True
        repeats = trains & judged[inverse]
        if repeats.sum() <= SAME_TABLE * trains.sum():
            return exempt
        what = "rows that stand in several splits were kept, since the inputs can take few values only"
        self.tally.add(what, int(repeats.sum()), self.origins(np.flatnonzero(repeats)))
        torn = np.zeros(len(judged), bool)
        torn[inverse[repeats]] = True
        exempt |= torn[inverse] & (trains | judges)
        return exempt

    def report(self, assigned: Assigned) -> None:
        """Count what splitting did."""
        for what, which in (
            ("source rows that match rows of a test or validation split were dropped", assigned.leaked),
            ("newcomers that tie two splits together were dropped", assigned.quarantined),
            ("single samples of a class were put into train", assigned.alone),
            ("samples were moved so that no split stays without labels", assigned.moved),
        ):
            self.tally.add(what, int((which & self.alive).sum()), self.origins(np.flatnonzero(which & self.alive)))

    def merge_duplicates(self, inverse: npt.NDArray[np.int64]) -> None:
        """Of rows equal in content keep one; in tables one for each label, weighted by how often it occurs."""
        kept = np.flatnonzero(self.code != DROPPED)
        groups = inverse[kept].astype(np.int64) * 8 + self.code[kept]
        labelled = is_labelled(self.target[kept])
        # Within a group: imported before live, labelled before unlabelled, then in order.
        order = np.lexsort((kept, self.is_live[kept], ~labelled, groups))
        kept, groups, labelled = kept[order], groups[order], labelled[order]
        first = np.append(True, groups[1:] != groups[:-1])
        if first.all():
            return
        leader = np.maximum.accumulate(np.where(first, np.arange(len(kept)), 0))
        head = kept[leader]
        agrees = np.asarray(self.target[kept] == self.target[head], np.bool_)
        overruled = labelled & ~agrees & self.is_live[kept] & ~self.is_live[head]
        torn = np.isin(leader, leader[labelled & ~agrees & ~overruled])
        same = ~first & ~torn
        what = "live labels that contradict the label of an imported sample were left out"
        self.tally.add(what, int(overruled.sum()), self.origins(kept[overruled], head[overruled]))
        self.code[kept[same]] = DROPPED
        what = "exact duplicates were dropped"
        if self.tables_only:
            what = "equal rows were merged into one of their weight"
            counted = same & ~self.is_live[kept] & (labelled == labelled[leader])
            np.add.at(self.weight, head[counted], 1.0)
        self.tally.add(what, int((same & ~overruled).sum()), self.origins(kept[same], head[same]))
        for lead in np.unique(leader[torn]).tolist():  # few, so one after the other
            self._settle(kept[lead : int(np.searchsorted(leader, lead, side="right"))])

    def _settle(self, group: npt.NDArray[np.int64]) -> None:
        """Rows of equal content with several labels; the first is labelled, and imported if any of them is."""
        home = self.code[group[0]]
        rows = group[is_labelled(self.target[group]) & (self.is_live[group] == self.is_live[group[0]])]
        values, counts = np.unique(self.target[rows], return_counts=True)
        heads = np.array([rows[self.target[rows] == v][0] for v in values])
        said = " / ".join(f"{self._label(v)} ({n})" for v, n in zip(values, counts, strict=True))
        example = [f"{self.origin(int(rows[0]))}: {said}"]
        self.code[group] = DROPPED
        if self.tables_only:
            self.code[heads] = home
            self.weight[heads] = counts
            self.tally.add("rows of a table equal in content but not in label were kept", len(rows), example)
        elif (counts == counts.max()).sum() == 1:
            self.code[heads[counts.argmax()]] = home
            self.tally.add("duplicates with several labels were settled by majority", len(rows), example)
        else:
            self.code[heads[0]] = home
            self.target[heads[0]] = np.nan if self.target.dtype.kind == "f" else -1
            self.tally.add("duplicates with contradicting labels were taken for unlabelled", len(rows), example)

    def _label(self, value: float) -> str:
        return self.signature.labels[int(value)] if self.signature.labels else f"{value:g}"


def _clusters(rows: _Rows, workdir: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each row, the number of its content, and the number of its cluster: groups and near copies tied together."""
    unique, first, inverse = np.unique(rows.content, return_index=True, return_inverse=True)
    inverse = inverse.astype(np.int64)
    edges: list[npt.NDArray[np.int64]] = []
    if all("near" in p.index for p in rows.parts):
        edges.append(_equal_edges(rows.joined("near")[first], np.arange(len(unique))))
    if all("thumbs" in p.index for p in rows.parts):
        edges.append(_image_edges(rows, first, workdir))
    near = sum(len(e) for e in edges)
    if near:
        pairs = np.concatenate(edges)[:EXAMPLES]
        what = "near copies were found: they share a split, or are dropped"
        rows.tally.add(what, near, rows.origins(first[pairs[:, 0]], first[pairs[:, 1]]))
    groups = [p.array("group") if "group" in p.index else np.zeros(p.n, np.uint64) for p in rows.parts]
    group = np.concatenate(groups)
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


def _image_edges(rows: _Rows, first: npt.NDArray[np.int64], workdir: Path) -> npt.NDArray[np.int64]:
    """Near copies among the distinct images. Their thumbnails go into a mapped file, for they may be many."""
    picture = next(f.name for f in rows.signature.inputs if f.type == "image")
    path = workdir / "thumbs.npy"
    writer = ArrayWriter(path, np.uint8, (64,))
    for start in range(0, len(first), 65536):
        writer.append(_gather([p.array("thumbs") for p in rows.parts], rows.starts, first[start : start + 65536]))
    writer.close()
    pixels = [c for p in rows.parts if isinstance(c := p.columns[picture], np.ndarray)]
    pairs = near_pairs(open_array(path), lambda nodes: _gather(pixels, rows.starts, first[nodes]))
    path.unlink()
    return pairs


def _gather(
    arrays: Sequence[npt.NDArray[Any]], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Rows of several arrays that stand one after the other."""
    out = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
    part = np.searchsorted(starts, rows, side="right") - 1
    for i, array in enumerate(arrays):
        mine = part == i
        if mine.any():
            out[mine] = array[rows[mine] - starts[i]]
    return out


def _assign(
    rows: _Rows, cluster: npt.NDArray[np.int64], exempt: Mask, previous: Assignments, policy: SplitPolicy
) -> Assigned:
    """Splits of the living rows; exempt rows keep the source's own."""
    chosen = np.flatnonzero(rows.alive & ~exempt)
    _, compact = np.unique(cluster[chosen], return_inverse=True)
    labelled = is_labelled(rows.target)
    label = rows.target.astype(np.int64) if rows.target.dtype.kind == "i" else np.where(labelled, 0, -1)
    group = time = None
    if policy.kind == "group" and any("group" in p.index for p in rows.parts):
        group = np.concatenate(
            [p.array("group") if "group" in p.index else np.zeros(p.n, np.uint64) for p in rows.parts]
        )
    if policy.kind == "time" and any("time" in p.index for p in rows.parts):
        time = np.concatenate([p.array("time") if "time" in p.index else np.full(p.n, np.nan) for p in rows.parts])
    some = Rows(
        keys=rows.content[chosen],
        cluster=compact.astype(np.int64),
        preset=rows.preset[chosen],
        labelled=labelled[chosen],
        label=label[chosen],
        group=None if group is None else group[chosen],
        time=None if time is None else time[chosen],
    )
    part = splits.assign(some, previous, policy)
    whole = {}
    for name in ("leaked", "quarantined", "alone", "moved"):
        mask = np.zeros(rows.n, bool)
        mask[chosen] = getattr(part, name)
        whole[name] = mask
    rows.code[chosen] = part.codes
    natural = np.array([DROPPED, splits.TRAIN, splits.VALIDATION, splits.REFERENCE], np.uint8)
    rows.code[exempt] = natural[rows.preset[exempt]]
    return Assigned(rows.code, **whole)
