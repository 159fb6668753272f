"""Prepare: from sources and what people said to an immutable dataset version.

Import (cached), clean, settle, find duplicates and leakage, split, write. The same content gives the same dataset id
and no second row, so a cycle that was killed here starts again without harm.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tidemill.annotation.functions import LabellingFunction
from tidemill.annotation.weak import weak_labels, weight_of
from tidemill.config import Config
from tidemill.data import spelling
from tidemill.data.build import Index, build_index
from tidemill.data.clean import Tally
from tidemill.data.dataset import open_assignments, write_version
from tidemill.data.forgotten import Forgotten
from tidemill.data.learned import learned_labels
from tidemill.data.offers import ACTION
from tidemill.data.parts import Part, SideColumns, import_part, live_part, open_part
from tidemill.data.schema import NUMBERS, Signature
from tidemill.data.sources import Source
from tidemill.data.splits import DROPPED, MIN_LABELLED, SPLITS, TRAIN, SplitPolicy
from tidemill.data.storage import read_manifest
from tidemill.data.targets import Stated, is_labelled
from tidemill.data.tied import LiveLabel
from tidemill.errors import SourceError
from tidemill.records import Dataset, Prediction
from tidemill.store import Store
from tidemill.tasks._base import Task
from tidemill.tasks._sources import (
    open_sources,
    side_columns,
    signature_of,
    stated_labels,
    summarise_sources,
    veiled_summary,
)

Listener = Callable[[dict[str, Any]], None]
SOME_NUMBERS = 10
"""With as many different numbers among its words, a target may be a quantity that was garbled."""
MAX_LIVE_PARTS = 16
"""Each version adds its new live samples as one small part; when there are more, they are written as one."""


class LiveSample(Protocol):
    """A settled sample from traffic, as :mod:`tidemill.data.settled` gives it."""

    @property
    def prediction(self) -> Prediction:
        """The first prediction made for its inputs."""

    @property
    def label(self) -> Any:
        """What people say it is."""

    @property
    def split(self) -> str:
        """``train``, ``recent-validation`` or ``recent-test``."""

    @property
    def weight(self) -> float:
        """One over the probability with which it was drawn; 1 or less of those that train."""


class Settled(Protocol):
    """What people said so far, as :func:`tidemill.data.settled.settled_labels` gives it."""

    @property
    def live(self) -> Sequence[LiveSample]:
        """Labelled samples from traffic."""

    @property
    def annotations(self) -> Mapping[str, Any]:
        """Labels of imported samples by sample id."""

    @property
    def contradictions(self) -> Mapping[str, Any]:
        """Where authors disagree."""

    @property
    def held(self) -> Mapping[str, str]:
        """Where a label is held back, and why."""

    @property
    def limited(self) -> Mapping[str, int]:
        """Why labels weigh less than 1 in training, and how many."""


def prepare(
    store: Store,
    task: Task,
    config: Config,
    sources: Sequence[str],
    settled: Settled,
    *,
    seed: int | None = None,
    on_event: Listener | None = None,
    functions: Sequence[LabellingFunction] = (),
) -> str:
    """Make the dataset version that the sources and the settled labels amount to.

    Args:
        store: the project's store; its newest dataset says which keys are assigned already.
        task: says the signature.
        config: target, labels, inputs, splits and limits.
        sources: what to open, see :func:`tidemill.data.sources.open_source`.
        settled: what people said.
        seed: of the hash that splits keys without an assignment; the configuration's unless given.
        on_event: told about progress.
        functions: label training rows that have no label.

    Returns:
        The id of the dataset, ``data_…``.

    Raises:
        SourceError: a source cannot be read, the target is not there, or there is nothing to learn from.
        StoreError: the disk is full.
    """
    tell = on_event or (lambda _event: None)
    opened = open_sources(config, sources, task)
    forgotten = Forgotten.of(store)
    plain = {config.target, config.weight} if forgotten else None
    summary = summarise_sources(store.root, opened, lambda said: veiled_summary(said, plain, store.secret))
    known = config.model_copy(update={"labels": (*config.labels, *learned_labels(store))})
    signature = signature_of(task, known, summary, _known_labels(task, settled))
    side = side_columns(config, summary)
    parts = [_import(store.root, source, signature, side, tell, forgotten) for source in opened]
    if side.time is not None and all(np.isnan(part.array("time")).all() for part in parts):
        mend = "Name a column of dates or numbers under splits.key, or choose another policy."
        raise SourceError(f"no row has a moment in {side.time!r}.", where="splits.key", mend=mend)
    newest = next(iter(store.find(Dataset, limit=1, newest_first=True)), None)
    parts += _live_parts(store.root, newest, signature, settled.live)
    tell(_event("looking for duplicates and assigning splits"))
    tally = Tally()
    for part in parts:
        tally.merge(part.actions)
    live = {s.prediction.id: LiveLabel(s.label, s.split, s.weight) for s in settled.live}
    policy = SplitPolicy(
        kind=config.splits.policy,
        validation=config.splits.validation,
        reference=config.splits.reference,
        seed=config.splits.seed if seed is None else seed,
    )
    with tempfile.TemporaryDirectory(prefix=".work-", dir=store.root / "data") as work:
        index = build_index(
            parts,
            signature,
            live,
            settled.annotations,
            open_assignments(store.root, newest),
            policy,
            tally,
            Path(work),
        )
        if functions:
            index = replace(index, weak=np.zeros(len(index.split), np.bool_))
        tally.add(
            "inputs on which people disagree wait to be settled", len(settled.contradictions), settled.contradictions
        )
        for reason, count in Counter(settled.held.values()).items():
            subjects = [subject for subject, why in settled.held.items() if why == reason]
            tally.add(f"labels are held back: {reason}", count, subjects)
        for reason, count in settled.limited.items():
            tally.add(reason, count, [])
        voted = _label_weakly(index, functions, signature, parts, config, tally) if functions else []
        _check_target(index, signature, tally)
        _tell_labels(index, signature, tally)
        identifier = _unspoilt(store, index.identifier(signature))
        if store.exists(Dataset, identifier):
            tell(_event("nothing new: the dataset stands already"))
            return identifier
        notes = [*dict.fromkeys([*summary.notes, *(n for p in parts for n in p.notes)]), *_split_notes(policy, config)]
        report = {
            "rows": len(index.split),
            "sources": [s.name for s in opened],
            "actions": tally.to_json(),
            "notes": notes,
            **({"functions": voted} if functions else {}),
        }
        path = write_version(store.root, identifier, signature, parts, index, report)
        record = Dataset(
            id=identifier,
            path=path,
            counts=index.counts(),
            signature=signature.to_json(),
            report=report,
        )
        store.insert(record)
        tell(_event(f"dataset of {len(index.split):,} rows is ready", len(index.split), len(index.split)))
        return identifier


def _label_weakly(
    index: Index,
    functions: Sequence[LabellingFunction],
    signature: Signature,
    parts: Sequence[Part],
    config: Config,
    tally: Tally,
) -> list[dict[str, Any]]:
    """Write into *index* what labelling functions say of training rows without a label; what each function does."""
    found = weak_labels(functions, signature, parts, index.split, index.target, config.annotation.min_belief)
    index.target[found.rows] = found.codes
    index.weight[found.rows] *= weight_of(found.belief, len(signature.labels))
    assert index.weak is not None
    index.weak[found.rows] = True
    tally.add("unlabelled samples were labelled by functions", len(found.rows), [])
    return found.functions


def _unspoilt(store: Store, identifier: str) -> str:
    """The id, unless it is that of a version from which rows were erased since: these may have come by another way."""
    while store.exists(Dataset, identifier) and store.get(Dataset, identifier).report.get("erased"):
        identifier = f"data_{hashlib.sha256(identifier.encode()).hexdigest()[:26]}"
    return identifier


def _event(what: str, done: int | None = None, total: int | None = None) -> dict[str, Any]:
    return {"stage": "prepare", "what": what, "done": done, "total": total, "recipe": None}


def _known_labels(task: Task, settled: Settled) -> list[str]:
    """The labels that people stated, or the actions that were chosen since."""
    if task.kind == "choice":
        return stated_labels(sample.prediction.inputs[ACTION] for sample in settled.live)
    return stated_labels(settled.annotations.values())


def _check_target(index: Index, signature: Signature, tally: Tally) -> None:
    """Refuse what is no basis for learning anything.

    Raises:
        SourceError: no row trains, none of those that do has any weight, or all have the same label.
    """
    labelled = is_labelled(index.target) & (index.split != DROPPED)
    training = index.split == TRAIN
    known = labelled & training
    if labelled.any() and not training.any():
        raise SourceError(
            "no row is left to learn from: all that are labelled are test or validation rows.",
            where="; ".join(f"{what}: {count}" for what, count in tally.counts.items()) or None,
            mend="Give training rows whose inputs, and groups where there are such, are not those of test rows.",
        )
    total = int(known.sum())
    if total and not (index.weight[known] > 0).any():
        mend = "Give some of them a weight above 0."
        raise SourceError("every row to be learned from has the weight 0.", where="weight", mend=mend)
    if total < MIN_LABELLED:
        return
    if signature.kind in NUMBERS:
        values = index.target[known]
        alike = bool(values.min() == values.max())
    else:  # with unlabelled rows, answers may bring another label
        counts = _label_rows(index, known, len(signature.labels))
        alike = bool(np.isin(counts, (0, total)).all()) and not (training & ~labelled).any()
    if alike:
        raise SourceError(
            f"every value to be learned is {Stated(signature).shown(index.target[np.argmax(known)])}.",
            where=signature.target,
            mend="Name another target, or give training rows in which it differs.",
        )


def _tell_labels(index: Index, signature: Signature, tally: Tally) -> None:
    """Say which labels look like another column's values, and which cannot be learned."""
    if signature.kind in NUMBERS:
        return
    labelled = is_labelled(index.target)
    numbers = np.array([spelling.is_number(label) for label in signature.labels], bool)
    if numbers.sum() >= SOME_NUMBERS and not numbers.all():
        rows = _label_rows(index, labelled, len(signature.labels))
        what = f"numbers stand among the words of {signature.target!r}, and each was taken for a label"
        examples = [repr(signature.labels[code]) for code in np.flatnonzero(numbers).tolist()]
        tally.add(what, int(rows[numbers].sum()), examples)
    trained = _label_rows(index, labelled & (index.split == TRAIN), len(signature.labels))
    if not trained.any():
        return
    for code, what in ((code, name) for code, name in enumerate(SPLITS) if code != TRAIN):
        rows = _label_rows(index, labelled & (index.split == code), len(signature.labels))
        unseen = np.flatnonzero((rows > 0) & (trained == 0))
        shown = {"reference": "test", "recent-test": "recent test", "recent-validation": "recent validation"}
        where = f"labels occur in the {shown.get(what, what)} split, but not in training: the model cannot give them"
        examples = [f"{signature.labels[c]!r} in {rows[c]:,} rows" for c in unseen.tolist()]
        tally.add(where, int(rows[unseen].sum()), examples)


def _label_rows(index: Index, which: np.ndarray[Any, np.dtype[np.bool_]], labels: int) -> np.ndarray[Any, Any]:
    """How many of some rows have each label, int64 ``[labels]``."""
    if index.target.ndim > 1:
        return np.asarray((index.target[which] > 0).sum(axis=0, dtype=np.int64))
    return np.bincount(index.target[which], minlength=labels)


def _import(
    root: Path, source: Source, signature: Signature, side: SideColumns, tell: Listener, forgotten: Forgotten
) -> Part:
    def progress(rows: int) -> None:
        tell(_event(f"reading {source.name}", rows))

    return import_part(root, source, signature, side, progress, forgotten)


def _live_parts(root: Path, newest: Dataset | None, signature: Signature, samples: Sequence[LiveSample]) -> list[Part]:
    """The live parts of the version before and one with what is new."""
    if not samples:
        return []
    old: list[Part] = []
    if newest is not None and json.dumps(newest.signature) == json.dumps(signature.to_json()):
        opened = [open_part(root, p) for p in read_manifest(root / newest.path)["parts"] if p.startswith("data/live/")]
        old = opened if len(opened) < MAX_LIVE_PARTS else []
    seen = {identifier for part in old for identifier in part.origin.to_arrow().to_pylist()}
    fresh = [(s.prediction.id, s.prediction.inputs) for s in samples if s.prediction.id not in seen]
    new = live_part(root, signature, fresh) if fresh else None
    return [*old, *([new] if new else [])]


def _split_notes(policy: SplitPolicy, config: Config) -> list[str]:
    weighted = [] if config.weight is None else [f"samples count as {config.weight!r} says"]
    return [*_policy_notes(policy, config), *weighted]


def _policy_notes(policy: SplitPolicy, config: Config) -> list[str]:
    shares = f"validation {policy.validation:.0%}, reference {policy.reference:.0%}"
    if policy.kind == "time":
        return [f"splits by time in {config.splits.key!r}: of the new keys the newest are reference, {shares}"]
    if policy.kind == "group":
        return [f"splits by groups of {config.splits.key!r}, {shares} where the source has no split of its own"]
    return [f"splits by hash of the content, {shares} where the source has no split of its own"]
