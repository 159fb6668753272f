"""Splits: assigned once by key, and stored.

Precedence: an earlier assignment of the key; the source's own split (``test`` is called ``reference`` here); a hash of
the key. All rows of a cluster (a group, or near copies of one another) go the same way, so nothing that is judged on
was trained on:

- a training row of the source that equals, or nearly equals, a row of its test or validation split is dropped;
- a newcomer that ties two splits together, or nearly equals a sample of another split than its own, is dropped;
- where a source has no validation (or no test) split, it is carved out of its training rows by hash;
- policy ``group``: groups go by the hash of their names, as many as it takes for the shares of rows; a group with more
  than half of the rows of the smaller share trains, as far as the others are enough to judge;
- policy ``time``: of the keys that are new to a version, the newest share becomes ``reference`` and the next newest
  ``validation``; keys assigned earlier stay, so the window rolls with every import.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidemill.data.keys import Keys, mix
from tidemill.data.sorting import IN_MEMORY, Sorter
from tidemill.data.storage import ArrayWriter, open_array, save_array

SPLITS = ("train", "validation", "reference", "recent-validation", "recent-test")
TRAIN, VALIDATION, REFERENCE, RECENT_VALIDATION, RECENT_TEST = range(5)
UNKNOWN = 254
DROPPED = 255

Codes = npt.NDArray[np.uint8]

# What a row brings along before it is assigned: the source's split, or the split of its live key.
NONE, SOURCE_TRAIN, SOURCE_VALIDATION, SOURCE_TEST, LIVE_TRAIN, LIVE_VALIDATION, LIVE_TEST = range(7)
_STAYS = {
    SOURCE_VALIDATION: VALIDATION,
    SOURCE_TEST: REFERENCE,
    LIVE_TRAIN: TRAIN,
    LIVE_VALIDATION: RECENT_VALIDATION,
    LIVE_TEST: RECENT_TEST,
}
MIN_LABELLED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPolicy:
    """How keys without an earlier assignment are split.

    Attributes:
        kind: ``hash``, ``group``, ``time``, or ``source`` (the source's own split is required).
        validation: share of the keys.
        reference: share of the keys.
        seed: of the hash.
    """

    kind: Literal["hash", "group", "time", "source"] = "hash"
    validation: float = 0.1
    reference: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Assignments:
    """Which key is in which split, for every key that ever was in one.

    Attributes:
        keys: uint64 ``[n]``, sorted.
        codes: uint8 ``[n]``, indices into :data:`SPLITS`.
    """

    keys: Keys
    codes: Codes

    @classmethod
    def empty(cls) -> Assignments:
        """No keys."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint8))

    @classmethod
    def open(cls, folder: Path) -> Assignments:
        """What :meth:`save` wrote, memory-mapped."""
        return cls(open_array(folder / "assigned-keys.npy"), open_array(folder / "assigned-codes.npy"))

    def save(self, folder: Path) -> None:
        """Write both arrays."""
        save_array(folder / "assigned-keys.npy", self.keys)
        save_array(folder / "assigned-codes.npy", self.codes)

    def lookup(self, keys: Keys) -> Codes:
        """uint8 ``[n]``: the codes of *keys*, 254 for those without one; by binary search.

        >>> known = Assignments(np.array([3, 7], np.uint64), np.array([0, 2], np.uint8))
        >>> known.lookup(np.array([7, 5], np.uint64)).tolist()
        [2, 254]
        """
        if not len(self.keys):
            return np.full(len(keys), UNKNOWN, np.uint8)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: Codes = np.where(self.keys[at] == keys, self.codes[at], UNKNOWN).astype(np.uint8)
        return found

    def extended(self, chunks: Iterable[tuple[Keys, Codes]], workdir: Path) -> Assignments:
        """With the keys in *chunks* that are not in it yet; many keys are sorted in files in *workdir*."""
        fresh: list[Path] = []
        count = 0
        for keys, codes in chunks:
            new = self.lookup(keys) == UNKNOWN
            count += int(new.sum())
            if new.any():
                path = workdir / f"fresh{len(fresh)}.npy"
                save_array(path, np.stack([keys[new], codes[new].astype(np.uint64)]))
                fresh.append(path)
        if not count:
            return self
        total = len(self.keys) + count
        sorter = Sorter(workdir, total)
        for start in range(0, len(self.keys), IN_MEMORY):
            end = start + IN_MEMORY
            sorter.add(self.keys[start:end], self.codes[start:end].astype(np.int64))
        for path in fresh:
            pair = np.load(path)
            sorter.add(pair[0], pair[1].astype(np.int64))
            path.unlink()
        out_keys = ArrayWriter(workdir / "assigned-keys.npy", np.uint64)
        out_codes = ArrayWriter(workdir / "assigned-codes.npy", np.uint8)
        for keys, values in sorter.runs():
            first = np.append(True, keys[1:] != keys[:-1]) if len(keys) else np.zeros(0, bool)
            out_keys.append(keys[first])
            out_codes.append(values[first].astype(np.uint8))
        out_keys.close()
        out_codes.close()
        return Assignments.open(workdir)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What splitting has to know of each row; all arrays have one entry a row.

    Attributes:
        keys: content keys, uint64.
        cluster: int64 cluster numbers from 0: rows of one cluster must not be torn apart.
        preset: int8, one of :data:`NONE` … :data:`LIVE_TEST`.
        labelled: bool.
        label: int64, to find classes with a single sample; -1 for unlabelled, all 0 for the kinds without classes.
        group: uint64 group keys for the hash, 0 for none; ``None`` without groups.
        time: float64 for policy ``time``.
    """

    keys: Keys
    cluster: npt.NDArray[np.int64]
    preset: npt.NDArray[np.int8]
    labelled: npt.NDArray[np.bool_]
    label: npt.NDArray[np.int64]
    group: Keys | None = None
    time: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The outcome: codes uint8 ``[n]``, and masks of what happened to which rows.

    Attributes:
        codes: indices into :data:`SPLITS`, or 255 for dropped.
        leaked: source rows dropped because they match a row that is judged on.
        quarantined: newcomers dropped because they tie splits together.
        alone: rows moved to train, as the only one of their class.
        moved: rows moved so that no split stays empty.
    """

    codes: Codes
    leaked: npt.NDArray[np.bool_]
    quarantined: npt.NDArray[np.bool_]
    alone: npt.NDArray[np.bool_]
    moved: npt.NDArray[np.bool_]


def assign(
    rows: Rows,
    previous: Assignments,
    policy: SplitPolicy,
    *,
    judged_by_source: tuple[bool, bool] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
) -> Assigned:
    """The split of every row, by the precedence above.

    Then two repairs for small sets, both among newcomers without a fixed split only: the single labelled row of a class
    goes to train; and when at least ten rows are labelled, train, validation and reference each get a labelled row,
    taken from the largest of them by the order of the hash.

    Args:
        rows: what is known of each row; whole clusters.
        previous: the assignments of the version before.
        policy: for keys without one.
        judged_by_source: whether the source has a validation and a test split, where *rows* are not all rows.
        labels: how many samples each class has, where *rows* are not all rows; the second repair is left out then.
    """
    n = len(rows.keys)
    clusters = int(rows.cluster.max()) + 1 if n else 0
    earlier = previous.lookup(rows.keys)
    codes = earlier.copy()
    new = earlier == UNKNOWN
    hashed = _unit(_cluster_keys(rows, clusters), policy.seed)
    presets = (SOURCE_VALIDATION, SOURCE_TEST)
    has = judged_by_source or (bool((rows.preset == presets[0]).any()), bool((rows.preset == presets[1]).any()))
    free = _decide(rows, new, codes, clusters, policy, hashed, has)
    _drop_intruders(rows, codes, clusters)
    dropped = codes == DROPPED
    torn = new & (_present(rows.cluster, earlier, ~new, clusters).sum(axis=1) > 1)[rows.cluster]
    quarantined = dropped & (torn | (rows.preset > SOURCE_TEST) | (rows.preset == NONE))
    leaked = dropped & ~quarantined
    alone = _alone(rows, codes, free, labels)
    codes[alone] = TRAIN
    moved = np.zeros(n, bool) if labels is not None else _fill_empty(rows, codes, free & ~alone, hashed)
    return Assigned(codes, leaked, quarantined, alone, moved)


def _cluster_keys(rows: Rows, clusters: int) -> Keys:
    """One key for each cluster, for the hash: the smallest of its groups' or else of its contents'."""
    keys = np.full(clusters, np.iinfo(np.uint64).max, np.uint64)
    own = rows.keys if rows.group is None else np.where(rows.group == 0, rows.keys, rows.group)
    np.minimum.at(keys, rows.cluster, own)
    return keys


def _unit(keys: Keys, seed: int) -> npt.NDArray[np.float64]:
    """Uniform in [0, 1) by key and seed."""
    salted = mix(keys ^ mix(np.array([seed], np.uint64)))
    return (salted >> np.uint64(11)).astype(np.float64) / 2.0**53


def _present(
    cluster: npt.NDArray[np.int64], values: npt.NDArray[np.generic], among: npt.NDArray[np.bool_], clusters: int
) -> npt.NDArray[np.bool_]:
    """A table bool ``[clusters, 7]``: which of the values 0 to 6 each cluster holds."""
    table = np.zeros((clusters, 7), bool)
    kept = among & (values.astype(np.int64) < 7)
    table[cluster[kept], values[kept].astype(np.int64)] = True
    return table


def _decide(
    rows: Rows,
    new: npt.NDArray[np.bool_],
    codes: Codes,
    clusters: int,
    policy: SplitPolicy,
    hashed: npt.NDArray[np.float64],
    judged_by_source: tuple[bool, bool],
) -> npt.NDArray[np.bool_]:
    """Fill in the codes of the newcomers; returns which of them the hash decided."""
    anchors = _present(rows.cluster, codes, ~new, clusters)
    count = anchors.sum(axis=1)
    presets = _present(rows.cluster, rows.preset, new, clusters)
    has_validation, has_test = judged_by_source

    # What each cluster without an anchor wants: its strongest preset, else the hash.
    wanted = np.full(clusters, UNKNOWN, np.uint8)
    for preset in (LIVE_TRAIN, LIVE_TEST, LIVE_VALIDATION, SOURCE_VALIDATION, SOURCE_TEST):
        wanted[presets[:, preset]] = _STAYS[preset]
    drawn = wanted == UNKNOWN
    carved = presets[:, SOURCE_TRAIN]
    shares_reference = np.where(carved & has_test, 0.0, policy.reference)
    shares_validation = np.where(carved & has_validation, 0.0, policy.validation)
    place = hashed
    if policy.kind == "time" and rows.time is not None:
        place = _ranks(rows, new, clusters, hashed)
    elif policy.kind == "group" and rows.group is not None:
        place = _by_size(rows, new & (drawn & (count == 0))[rows.cluster], clusters, policy, hashed)
    by_hash = np.where(
        place < shares_reference, REFERENCE, np.where(place < shares_reference + shares_validation, VALIDATION, TRAIN)
    )
    wanted[drawn] = by_hash[drawn]
    wanted[count == 1] = anchors[count == 1].argmax(axis=1)
    wanted[count > 1] = DROPPED

    aim = wanted[rows.cluster]
    fits = rows.preset == NONE
    trains = rows.preset == SOURCE_TRAIN
    fits |= trains & (aim == TRAIN)
    fits |= trains & (aim == VALIDATION) & (not has_validation)
    fits |= trains & (aim == REFERENCE) & (not has_test)
    if has_test or has_validation:  # a training row beside test rows is leakage, whoever carved what
        judged = presets[:, SOURCE_TEST] | presets[:, SOURCE_VALIDATION]
        fits &= ~(trains & judged[rows.cluster])
    for preset, code in _STAYS.items():
        fits |= (rows.preset == preset) & (aim == code)
    codes[new] = np.where(fits, aim, DROPPED)[new]
    free: npt.NDArray[np.bool_] = new & fits & (drawn & (count == 0))[rows.cluster]
    return free


def _drop_intruders(rows: Rows, codes: Codes, clusters: int) -> None:
    """Drop rows that an earlier assignment of their key put among the rows which own that split by nature."""
    natural = np.zeros((clusters, len(SPLITS)), bool)
    for preset, code in _STAYS.items():
        owns = (rows.preset == preset) & (codes == code)
        natural[rows.cluster[owns], code] = True
    for code in range(VALIDATION, len(SPLITS)):
        owner = next(p for p, c in _STAYS.items() if c == code)
        strange = (codes == code) & (rows.preset != owner) & (rows.preset != NONE)
        codes[strange & (natural[rows.cluster, code] | (rows.preset == LIVE_TRAIN))] = DROPPED


def _ranks(
    rows: Rows, new: npt.NDArray[np.bool_], clusters: int, hashed: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where each cluster stands among the new ones by time: 0 the newest, towards 1 the oldest and the undated."""
    assert rows.time is not None
    oldest = np.full(clusters, np.inf)
    np.fmin.at(oldest, rows.cluster, np.where(np.isnan(rows.time), -np.inf, rows.time))
    fresh = np.zeros(clusters, bool)
    fresh[rows.cluster[new]] = True
    order = np.lexsort((hashed, -oldest))
    order = order[fresh[order]]
    place = np.ones(clusters)
    place[order] = (np.arange(len(order)) + 0.5) / max(1, len(order))
    return place


def _by_size(
    rows: Rows, new: npt.NDArray[np.bool_], clusters: int, policy: SplitPolicy, hashed: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where each cluster stands among the new rows, from 0 to 1: by the hash, the large ones last."""
    sizes = np.bincount(rows.cluster[new], minlength=clusters)
    large = sizes > 0.5 * min(policy.validation, policy.reference) * sizes.sum()
    order = np.lexsort((hashed, large))
    place = np.ones(clusters)
    place[order] = (np.cumsum(sizes[order]) - 0.5 * sizes[order]) / max(1, sizes.sum())
    return place


def _alone(
    rows: Rows, codes: Codes, free: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.bool_]:
    """Free rows outside train whose class has no other sample."""
    known = rows.labelled & (codes <= RECENT_TEST)
    if not known.any():
        return np.zeros(len(codes), bool)
    counts = np.bincount(rows.label[known], minlength=1) if labels is None else labels
    single = np.zeros(len(codes), bool)
    single[known] = counts[rows.label[known]] == 1
    if len(counts) <= 1:  # regression, or a single class: nothing is rare
        single[:] = False
    moved: npt.NDArray[np.bool_] = single & free & (codes != TRAIN)
    return moved


def _fill_empty(
    rows: Rows, codes: Codes, free: npt.NDArray[np.bool_], hashed: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Move whole clusters so that train, validation and reference each hold a labelled row."""
    moved = np.zeros(len(codes), bool)
    if int((rows.labelled & (codes <= REFERENCE)).sum()) < MIN_LABELLED:
        return moved
    for needy in (TRAIN, VALIDATION, REFERENCE):
        if (rows.labelled & (codes == needy)).any():
            continue
        sizes = [int((rows.labelled & free & (codes == c)).sum()) for c in (TRAIN, VALIDATION, REFERENCE)]
        donor = int(np.argmax(sizes))
        candidates = np.unique(rows.cluster[rows.labelled & free & (codes == donor)])
        if len(candidates) < 2:
            continue
        wished = max(1, len(candidates) // 10) if needy != TRAIN else len(candidates) // 2
        chosen = candidates[np.argsort(hashed[candidates], kind="stable")][:wished]
        which = free & np.isin(rows.cluster, chosen) & (codes == donor)
        codes[which] = needy
        moved |= which
    return moved
