"""All rows of a version's parts, one part after the other, read in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.clean import Tally
from tidemill.data.keys import Keys, key_int
from tidemill.data.near import near_pairs
from tidemill.data.parts import FORGOTTEN, Part
from tidemill.data.sorting import IN_MEMORY, repeated
from tidemill.data.splits import SplitPolicy
from tidemill.data.storage import ArrayWriter, open_array
from tidemill.data.targets import Mask, class_counts, is_labelled
from tidemill.errors import InputError, SourceError

FEW_LABELS = 100_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of all rows before any is judged.

    Attributes:
        training: number of rows in the source's training split.
        has_validation: the source has a validation split.
        has_test: the source has a test split.
        set_aside: the source's split leaves nothing to train on and does not count.
        labels: number of labelled rows by class; of one class for the kinds that have no classes.
    """

    training: int
    has_validation: bool
    has_test: bool
    set_aside: bool
    labels: npt.NDArray[np.int64]


class Table:
    """The rows of all parts.

    Args:
        parts: imported parts, then live parts.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *[p.n for p in parts]])
        self.n = int(self.starts[-1])
        self.imported = sum(p.n for p in parts if not p.live)

    def chunks(self) -> Iterator[npt.NDArray[np.int64]]:
        """All row numbers, a chunk at a time."""
        for start in range(0, self.n, IN_MEMORY):
            yield np.arange(start, min(start + IN_MEMORY, self.n))

    def gather(self, name: str, rows: npt.NDArray[np.int64], default: Any = None) -> npt.NDArray[Any]:
        """One array of the parts' indexes for some rows; *default* where a part has none."""
        arrays = [p.array(name) if name in p.index or default is None else None for p in self.parts]
        return self._gathered(arrays, rows, default)

    def pixels(self, column: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """An image column for some rows."""
        return self._gathered([c for p in self.parts if isinstance(c := p.columns[column], np.ndarray)], rows, None)

    def _gathered(
        self, arrays: Sequence[npt.NDArray[Any] | None], rows: npt.NDArray[np.int64], default: Any
    ) -> npt.NDArray[Any]:
        sample = next((a for a in arrays if a is not None), None)
        if sample is None:
            return np.full(len(rows), default)
        if len(arrays) == 1:
            return sample[rows]
        out = np.empty((len(rows), *sample.shape[1:]), sample.dtype)
        part = np.searchsorted(self.starts, rows, side="right") - 1
        for i, array in enumerate(arrays):
            mine = part == i
            if mine.any():
                out[mine] = default if array is None else array[rows[mine] - self.starts[i]]
        return out

    def is_live(self, rows: npt.NDArray[np.int64]) -> Mask:
        """Which rows came from traffic."""
        return np.asarray(rows >= self.imported, np.bool_)

    def origin(self, row: int) -> str:
        """What people call a row."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part].origin[row - int(self.starts[part])]

    def has(self, name: str) -> bool:
        """All parts have this array."""
        return all(name in p.index for p in self.parts)

    def facts(self, policy: SplitPolicy, classes: int, tally: Tally) -> Facts:
        """One pass over the sources' splits and the labels; *classes* is 1 for the kinds that have no classes.

        Raises:
            SourceError: policy ``source`` meets sources without a split.
        """
        by_split = np.zeros(4, np.int64)
        labels = np.zeros(max(1, classes), np.int64)
        first: list[str] = []
        for rows in self.chunks():
            imported = rows[~self.is_live(rows)]
            source = self.gather("source", imported)
            by_split += np.bincount(source + 1, minlength=4)
            if len(first) < 5:
                first += [self.origin(int(r)) for r in imported[source > 0][: 5 - len(first)]]
            labels += class_counts(self.gather("target", rows), len(labels))
        _, training, validation, test = by_split.tolist()
        if policy.kind == "source" and training + validation + test == 0:
            raise SourceError(
                "the splits are to be the source's own, but it has none.",
                where="splits.policy",
                mend="Name files or folders train and test, add a column `split`, or choose the policy `hash`.",
            )
        aside = by_split[0] + training == 0
        if aside:
            what = "rows of a source that has no training split; its split was set aside"
            tally.add(what, validation + test, first)
            return Facts(0, has_validation=False, has_test=False, set_aside=True, labels=labels)
        return Facts(training, validation > 0, test > 0, set_aside=False, labels=labels)

    def tied(
        self, facts: Facts, policy: SplitPolicy, picture: str | None, annotations: Mapping[str, Any], workdir: Path
    ) -> npt.NDArray[np.int64]:
        """The rows that have to be seen together, sorted; all of them when they are not many.

        They are the live, empty, annotated and erased ones, those whose content or near text occurs twice, near copies
        of images, the only ones of their class, and all labelled ones when these are few. Under the policies ``group``
        and ``time`` they are all rows.
        """
        if self.n <= IN_MEMORY or policy.kind in ("group", "time"):
            return np.arange(self.n)
        mask = np.zeros(self.n, bool)
        mask[self.imported :] = True
        annotated = _annotated(annotations)
        rare = np.flatnonzero(facts.labels == 1) if len(facts.labels) > 1 else np.empty(0, np.int64)
        few = facts.labels.sum() <= FEW_LABELS
        for rows in self.chunks():
            here = self.gather("empty", rows) | np.isin(self.gather("content", rows), annotated)
            here |= self.gather(FORGOTTEN, rows, np.uint8(0)) > 0
            here |= np.isnan(self.gather("weight", rows, np.float32(1)))
            if few or len(rare):
                target = self.gather("target", rows)
                here |= is_labelled(target) if few else np.isin(target, rare)
            mask[rows] |= here
        for name in ("content", "near"):
            if self.has(name):
                pairs = ((self.gather(name, rows), rows) for rows in self.chunks())
                mask[repeated(workdir, pairs, self.n)] = True
        if picture is not None and self.has("thumbs"):
            mask[self.near_images(np.arange(self.n), picture, workdir).ravel()] = True
        return np.flatnonzero(mask)

    def near_images(self, rows: npt.NDArray[np.int64], picture: str, workdir: Path) -> npt.NDArray[np.int64]:
        """Pairs of places in *rows* that hold near copies. Thumbnails may be many: they go into a mapped file."""
        path = workdir / "thumbs.npy"
        writer = ArrayWriter(path, np.uint8, (64,))
        for start in range(0, len(rows), 65536):
            writer.append(self.gather("thumbs", rows[start : start + 65536]))
        writer.close()
        pairs = near_pairs(open_array(path), lambda places: self.pixels(picture, rows[places]))
        path.unlink()
        return pairs


def _annotated(annotations: Mapping[str, Any]) -> Keys:
    keys = []
    for identifier in annotations:
        try:
            keys.append(key_int(identifier.removeprefix("smp_")))
        except InputError:  # counted when the annotations are applied
            continue
    return np.array(keys, np.uint64)
