"""Prepare: from sources and what people said to an immutable dataset version.

Import (cached), clean, settle, find duplicates and leakage, split, write. The same content gives the same dataset id
and no second row, so a cycle that was killed here starts again without harm.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
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
from tidemill.data.forgotten import Forgotten, veiled
from tidemill.data.learned import learned_labels
from tidemill.data.offers import ACTION, LOGGED, OFFER
from tidemill.data.parts import Part, SideColumns, import_part, live_part, open_part
from tidemill.data.schema import NUMBERS, Signature
from tidemill.data.sources import Limits, Source, Summary, merge, open_source
from tidemill.data.sources._base import DISTINCT_CAP
from tidemill.data.splits import DROPPED, MIN_LABELLED, SPLITS, TRAIN, SplitPolicy
from tidemill.data.storage import is_complete, new_folder, read_manifest, write_manifest
from tidemill.data.targets import Stated, is_labelled
from tidemill.data.tied import LiveLabel
from tidemill.errors import SourceError
from tidemill.records import Dataset, Prediction
from tidemill.store import Store
from tidemill.tasks._base import Task

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
    summary = summarise_sources(store.root, opened, lambda said: _veiled(said, plain, store.secret))
    known = config.model_copy(update={"labels": (*config.labels, *learned_labels(store))})
    signature = signature_of(task, known, summary, _known_labels(task, settled))
    side = _side_columns(config, summary)
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


def source_limits(config: Config) -> Limits:
    """The configuration's limits for sources."""
    return Limits(
        max_image_pixels=int(config.limits.image_megapixels * 1e6),
        max_archive_bytes=int(config.limits.archive_gb * 1e9),
        max_archive_ratio=config.limits.archive_ratio,
        max_field_bytes=int(config.limits.text_mb * 1e6),
    )


def open_sources(config: Config, sources: Sequence[str], task: Task) -> list[Source]:
    """All sources as *task* reads them, opened but not read.

    Raises:
        SourceError: there is none, or one cannot be opened.
    """
    if not sources:
        raise SourceError("no data is named.", where="data", mend="Name a file, a folder or sklearn:digits.")
    opened = [open_source(s, limits=source_limits(config), target=config.target) for s in sources]
    return [task.open(source, config) for source in opened]


def summarise_sources(
    root: Path, sources: Sequence[Source], veil: Callable[[Summary], Summary] = lambda said: said
) -> Summary:
    """One summary of all sources, each cached under the root by its fingerprint as *veil* leaves it."""
    return merge([_summary(root, source, veil) for source in sources])


def _veiled(summary: Summary, plain: Collection[str | None] | None, secret: bytes) -> Summary:
    """A summary without values of columns other than *plain*, which a source may still hold of erased samples."""
    if plain is None:
        return summary
    columns = [
        column
        if column.name in plain
        else replace(column, examples=(), values=veiled(column.values, secret), members=veiled(column.members, secret))
        for column in summary.columns
    ]
    return replace(summary, columns=tuple(columns))


def _summary(root: Path, source: Source, veil: Callable[[Summary], Summary]) -> Summary:
    fingerprint = source.fingerprint()
    folder = _summary_folder(root, fingerprint)
    if not is_complete(folder):
        keep_summary(root, fingerprint, veil(source.summary()))
    return Summary.from_json(read_manifest(folder))


def keep_summary(root: Path, fingerprint: str, summary: Summary) -> None:
    """Cache what a source said of itself, so that it need not be read for that again.

    Args:
        root: the store's root.
        fingerprint: of the source, from before it was read.
        summary: what it said.

    Raises:
        StoreError: the disk is full.
    """
    folder = _summary_folder(root, fingerprint)
    if not is_complete(folder):
        with new_folder(folder) as target:
            write_manifest(target, summary.to_json())


def _summary_folder(root: Path, fingerprint: str) -> Path:
    return root / "data" / "summaries" / hashlib.sha256(f"summary 2 {fingerprint}".encode()).hexdigest()[:32]


def signature_of(task: Task, config: Config, summary: Summary, labels: Sequence[str] = ()) -> Signature:
    """The task's signature for what the configuration chooses of the sources.

    Args:
        task: infers the types.
        config: target, inputs, ignored columns, more labels.
        summary: of all sources.
        labels: what annotators said, for a start without any known classes.

    Raises:
        SourceError: the target or a chosen column is not there, or there is nothing to learn from.
    """
    names = [c.name for c in summary.columns]
    weight = () if config.weight is None else (config.weight,)
    for key, wanted in (
        ("target", (config.target,)),
        ("inputs", config.inputs or ()),
        ("ignore", config.ignore),
        ("weight", weight),
    ):
        for name in wanted:
            if name not in names:
                said = [note for note in summary.notes if repr(name) in note and "left out" in note]
                raise _no_column(name, names, said[0] if said else key)
    target = summary.column(config.target)
    assert target is not None
    if target.type == "image":
        raise SourceError(f"{config.target!r} holds images.", where="target", mend="Name the column to predict.")
    if target.distinct > DISTINCT_CAP and not config.labels and task.kind not in NUMBERS and not target.members:
        raise SourceError(
            f"{config.target!r} has more than {DISTINCT_CAP:,} different values, too many for classes.",
            where="target",
            mend="Name another target, give rare classes one name, or choose a task that predicts a number.",
        )
    if config.splits.policy in ("group", "time") and config.splits.key == config.target:
        raise SourceError("samples cannot be split by the target.", where="splits.key", mend="Name another column.")
    left_out = {*config.ignore}
    if config.weight is not None:
        _check_weight(config, summary)
        left_out.add(config.weight)
    if config.splits.policy == "group" and config.splits.key:
        left_out.add(config.splits.key)
    chosen = set(names) - left_out if config.inputs is None else set(config.inputs) - {config.weight}
    if task.kind == "choice":  # what was chosen, and how, is said beside the inputs
        chosen |= {*LOGGED, OFFER} & set(names)
    # A list of labels can be a target; as an input there is no encoding for it.
    columns = tuple(c for c in summary.columns if (c.name in chosen and not c.lists) or c.name == config.target)
    if len(columns) < 2:
        raise SourceError("there is no column to learn from.", where="inputs", mend="Name at least one input column.")
    single = target.values if not target.lists and target.separator is None else ()
    if task.kind == "choice":
        named = summary.column(ACTION)
        known = {*(named.values if named is not None else ()), *config.labels, *labels}
        return task.signature(replace(summary, columns=columns), config.target, sorted(known))
    known = {*(target.members or single if task.kind == "multilabel" else target.values), *config.labels}
    if len(known) < 2:  # else a slip of an annotator would make a class
        known.update(labels)
    return task.signature(replace(summary, columns=columns), config.target, sorted(known))


def _check_weight(config: Config, summary: Summary) -> None:
    """Refuse a column of weights that can be none."""
    if config.weight == config.target:
        mend = "Name another column, or none."
        raise SourceError("the target cannot be its own weight.", where="weight", mend=mend)
    column = summary.column(config.weight or "")
    seen = () if column is None or column.type == "number" else column.values or column.examples
    if column is not None and seen and not any(map(spelling.is_number, seen)):
        raise SourceError(
            f"the weights in {config.weight!r} are no numbers, for example {', '.join(column.examples[:3])}.",
            where="weight",
            mend="Name a column of numbers, none of them negative.",
        )


def _no_column(name: str, names: Sequence[str], key: str) -> SourceError:
    near = get_close_matches(name, names, 1, 0.5)
    mend = f"Did you mean {near[0]!r}?" if near else f"The columns are {', '.join(map(repr, names[:20]))}."
    return SourceError(f"there is no column {name!r}.", where=key, mend=mend)


def stated_labels(labels: Iterable[Any]) -> list[str]:
    """Every label that people stated, each once; of several for one sample, each by itself.

    >>> stated_labels(["b", ["a", "b"], 3])
    ['3', 'a', 'b']
    """
    return sorted({str(one) for label in labels for one in (label if isinstance(label, list | tuple) else [label])})


def _known_labels(task: Task, settled: Settled) -> list[str]:
    """The labels that people stated, or the actions that were chosen since."""
    if task.kind == "choice":
        return stated_labels(sample.prediction.inputs[ACTION] for sample in settled.live)
    return stated_labels(settled.annotations.values())


def _side_columns(config: Config, summary: Summary) -> SideColumns:
    policy, key = config.splits.policy, config.splits.key
    if policy not in ("group", "time"):
        return SideColumns(weight=config.weight)
    if key is None:
        mend = "Name the column under splits.key."
        raise SourceError(f"policy {policy!r} needs a column to split by.", where="splits.key", mend=mend)
    if summary.column(key) is None:
        raise _no_column(key, [c.name for c in summary.columns], "splits.key")
    if policy == "group":
        return SideColumns(group=key, weight=config.weight)
    return SideColumns(time=key, weight=config.weight)


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
