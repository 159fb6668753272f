"""Which rows of which dataset versions hold what is erased, and which models have learned from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Rows
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.erasing import OVERWRITTEN, rows_in, rows_of
from tidemill.data.forgotten import SAMPLE
from tidemill.data.keys import Keys, key_array, key_text
from tidemill.data.parts import Part
from tidemill.data.splits import DROPPED, TRAIN, VALIDATION
from tidemill.data.storage import is_complete
from tidemill.records import Annotation, Dataset, Feedback, Model, Run
from tidemill.store import Store
from tidemill.store.erasing import keys_of, with_keys

_NONE = np.empty(0, np.int64)
_NO_KEYS = np.empty(0, np.uint64)


def on_disk(store: Store) -> Iterator[tuple[Dataset, DatasetArrays]]:
    """The dataset versions whose files ``tidemill gc`` has left, opened."""
    for record in store.find(Dataset):
        if is_complete(store.root / record.path):
            yield record, open_dataset(store.root, record)


@dataclass(frozen=True, slots=True)
class Found:
    """What a sample's id stands for: content keys of imported rows, and the predictions behind live ones."""

    content: Keys
    live: set[str]


def find_samples(store: Store, keys: Keys) -> Found:
    """The rows of samples by the keys in their ids, over all versions."""
    content = _NO_KEYS
    live: set[str] = set()
    for _, arrays in on_disk(store):
        for part, rows in _by_part(arrays, np.flatnonzero(np.isin(arrays.samples, keys))):
            if part.live:
                live.update(part.origin[row] for row in rows.tolist())
            else:
                content = np.union1d(content, part.array("content")[rows])
    return Found(content, live)


def samples_of_content(store: Store, content: Keys) -> set[str]:
    """The ids of imported samples that have one of the content keys, in any version."""
    found: set[str] = set()
    for _, arrays in on_disk(store):
        rows = np.flatnonzero(np.isin(arrays.content, content) & (arrays.split != DROPPED))
        for i, (part, inner) in enumerate(_by_part(arrays, rows)):
            start = int(arrays.starts[i])
            if not part.live:
                found |= {f"{SAMPLE}{key_text(arrays.samples[start + row])}" for row in inner.tolist()}
    return found


def _by_part(arrays: DatasetArrays, rows: npt.NDArray[np.intp]) -> Iterator[tuple[Part, Rows]]:
    """Rows of a version as rows of its parts, one after the other."""
    for part, start in zip(arrays.parts, arrays.starts, strict=False):
        yield part, rows[(rows >= start) & (rows < start + part.n)].astype(np.int64) - start


class Aim:
    """What rows are looked for.

    Attributes:
        content: content keys of imported rows that are erased.
        origins: predictions whose live rows are erased.
        spoken: predictions whose live rows may have their label from a statement that is erased, and when the first
            such statement was made, UTC seconds: versions from before do not know it.
        labelled: the same for imported samples, by the keys in their ids.
        since: when the first of it came into the project, UTC seconds; 0 where that is not known.
    """

    def __init__(
        self,
        store: Store,
        content: Keys,
        predictions: Collection[str],
        feedback: Collection[str],
        annotations: Collection[str],
    ) -> None:
        said: list[Feedback | Annotation] = [
            *store.find(Feedback, id=feedback),
            *store.find(Annotation, id=annotations),
        ]
        first: dict[str, float] = {}
        for statement in sorted(said, key=lambda s: -s.created):
            first[statement.subject] = statement.created
        latest_first = sorted(keys_of(store, first.keys()).items(), key=lambda item: -first[item[0]])
        by_key = {key: first[identifier] for identifier, key in latest_first}  # the earliest is written last
        self.content = content
        self.origins = set(predictions)
        self.spoken = {i: by_key[key] for i, key in with_keys(store, by_key.keys()).items() if i not in self.origins}
        self.labelled = {s.removeprefix(SAMPLE): when for s, when in first.items() if s.startswith(SAMPLE)}
        self.trains = bool(len(content) or said)
        self.since = 0.0 if len(content) else min((s.created for s in said), default=0.0)


@dataclass(frozen=True)
class Touched:
    """The rows of one version that an erasure is about.

    Attributes:
        record: of the version.
        arrays: opened.
        gone: rows whose payload is erased.
        taken_back: rows that lose their label, since somebody's word for it is erased.
    """

    record: Dataset
    arrays: DatasetArrays
    gone: Rows
    taken_back: Rows

    @cached_property
    def rows(self) -> Rows:
        """All of them."""
        return np.union1d(self.gone, self.taken_back)

    @property
    def learned(self) -> bool:
        """Whether models of this version learned from one of them."""
        return bool(np.isin(self.arrays.split[self.rows], (TRAIN, VALIDATION)).any())

    def names(self) -> set[str]:
        """What people call the rows: their sample ids and origins."""
        ids = {f"{SAMPLE}{key_text(key)}" for key in self.arrays.samples[self.rows].tolist()}
        return ids | {origin for row in self.rows.tolist() if (origin := self.arrays.origin(row)).strip()}


def touched(store: Store, aim: Aim) -> list[Touched]:
    """The versions with such rows, among those whose files are there."""
    found = []
    for record, arrays in on_disk(store):
        labelled = key_array(key for key, when in aim.labelled.items() if when < record.created)
        spoken = {identifier for identifier, when in aim.spoken.items() if when < record.created}
        gone, back = [_NONE], [np.flatnonzero(np.isin(arrays.samples, labelled)).astype(np.int64)]
        for part, start in zip(arrays.parts, arrays.starts, strict=False):
            gone += [start + rows_of(part, aim.content, aim.origins), start + rows_in(part, OVERWRITTEN)]
            if part.live:
                back.append(start + rows_of(part, _NO_KEYS, spoken))
        one = Touched(record, arrays, np.unique(np.concatenate(gone)), np.unique(np.concatenate(back)))
        if len(one.rows):
            found.append(one)
    return found


def models_that_saw(store: Store, found: Collection[Touched], aim: Aim) -> tuple[list[str], int]:
    """The ids of models that learned from the rows, or from a model that did.

    Where the files of a version are gone nobody can tell; its models are named if they may have.

    Returns:
        The ids, oldest first; and how many such versions there are.
    """
    versions = {one.record.id for one in found if one.learned}
    unknown = {
        record.id
        for record in (store.find(Dataset, created_after=aim.since) if aim.trains else ())
        if not is_complete(store.root / record.path)
    }
    runs = {run.id: run for run in store.find(Run)}
    saw: list[str] = []
    for model in store.find(Model):
        run = runs.get(model.run_id or "")
        before = set() if run is None else {*run.parents, (run.recipe.get("init") or {}).get("model")}
        if model.dataset_id in versions | unknown or not before.isdisjoint(saw):
            saw.append(model.id)
    return saw, len(unknown)
