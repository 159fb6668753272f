"""What the sources hold, and what of it the configuration chooses: summaries, and the task's signature for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tidemill.config import Config
from tidemill.data import spelling
from tidemill.data.forgotten import veiled
from tidemill.data.offers import ACTION, LOGGED, OFFER
from tidemill.data.parts import SideColumns
from tidemill.data.schema import NUMBERS, Signature
from tidemill.data.sources import Limits, Source, Summary, merge, open_source
from tidemill.data.sources._base import DISTINCT_CAP
from tidemill.data.storage import is_complete, new_folder, read_manifest, write_manifest
from tidemill.errors import SourceError
from tidemill.tasks._base import Task


def source_limits(config: Config) -> Limits:
    """The configuration's limits for sources."""
    return Limits(
        max_image_pixels=config.limits.image_pixels,
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


def veiled_summary(summary: Summary, plain: Collection[str | None] | None, secret: bytes) -> Summary:
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


def side_columns(config: Config, summary: Summary) -> SideColumns:
    """The columns that say how to split and to weigh, and are no inputs.

    Raises:
        SourceError: the column to split by is not named, or not there.
    """
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
