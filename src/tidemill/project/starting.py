"""A new project: the source is opened, the task inferred and said why, and a commented ``tidemill.yaml`` written."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidemill.config import CONFIG_NAME, Config, make_config, read_environment, write_config
from tidemill.config.model import is_id
from tidemill.data.sources import Summary, merge, open_source
from tidemill.data.sources._base import DISTINCT_CAP
from tidemill.errors import ConflictError, SourceError, StoreError
from tidemill.project.opened import make_state
from tidemill.tasks import Task, answer_spec, get_task, task_names
from tidemill.tasks._sources import keep_summary, signature_of, source_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What ``init`` found: the task and why, and what it noticed about the data."""

    folder: Path
    task: str
    target: str
    reason: str
    rows: int | None
    columns: tuple[str, ...]
    inputs: tuple[str, ...]
    notes: tuple[str, ...]


def start_project(
    folder: Path,
    *,
    data: str | Path | Sequence[str | Path],
    target: str | None = None,
    task: str | None = None,
    labels: Sequence[str] = (),
    **settings: Any,
) -> Started:
    """Make a project in *folder*.

    Args:
        folder: made when missing; may hold other files, but no project.
        data: path or id of the data, or several.
        target: the column to predict; unless given, the one that is named like a target (``label``, ``target``, …).
        task: inferred from the data unless given.
        labels: labels that the data does not show yet.
        settings: further keys of ``tidemill.yaml``.

    Raises:
        ConflictError: there is a project already.
        SourceError: the data cannot be read, has no such target, or fits no task.
        ConfigError: a setting is wrong, or what wrong answers cost does not fit the task or its labels.
    """
    folder = folder.resolve()
    if (folder / CONFIG_NAME).exists():
        raise ConflictError("there is a project already", where=str(folder), mend="Name another folder.")
    specs = [str(d) for d in ([data] if isinstance(data, str | Path) else data)]
    opened = [open_source(spec, target=target) for spec in specs]
    found = [(source.fingerprint(), source.summary()) for source in opened]
    summary = merge([said for _, said in found])
    target = target or summary.target or "label"
    files = [folder / file for file in settings.get("tasks", ())]
    relative = [s if is_id(s) else os.path.relpath(Path(s).resolve(), folder) for s in specs]
    config = make_config(
        task=task or "undecided",
        data=[{"id": s} if is_id(s) else {"path": s} for s in relative],
        target=target,
        labels=list(labels),
        **settings,
    )
    of_use = _of_use(summary, config)
    chosen, reason = choose_task(of_use, target, task, files=files)
    config = config.model_copy(update={"task": chosen.name})
    read = [chosen.open(source, config) for source in opened]
    if read != opened:
        opened, found = read, [(source.fingerprint(), source.summary()) for source in read]
        summary = merge([said for _, said in found])
        of_use = _of_use(summary, config)
    signature = signature_of(chosen, config, summary)
    answer_spec(chosen, signature, config)
    inputs = tuple(field.name for field in signature.inputs)
    aside = [f"{c.name} ({c.type})" for c in of_use.columns if c.name not in (*inputs, target)]
    try:
        with closing(make_state(folder, read_environment().store or config.store)) as store:
            for source, (fingerprint, said) in zip(opened, found, strict=True):
                if source.limits == source_limits(config):
                    keep_summary(store.root, fingerprint, said)
        write_config(folder / CONFIG_NAME, config)  # last: with it, the folder is a project
    except OSError as error:
        raise StoreError(
            f"the project cannot be written ({error.strerror})",
            where=str(error.filename or folder),
            mend="Name a folder that you may write to, on a disk with space.",
        ) from error
    return Started(
        folder=folder,
        task=chosen.name,
        target=target,
        reason=reason,
        rows=summary.rows,
        columns=tuple(c.name for c in summary.columns),
        inputs=inputs,
        notes=(*summary.notes, *([f"{chosen.name} leaves aside {', '.join(aside)}"] if aside else [])),
    )


def choose_task(
    summary: Summary, target: str, name: str | None = None, *, files: Sequence[Path] = ()
) -> tuple[Task, str]:
    """The task for a source, and why: the one asked for, or the one with the strongest claim.

    Raises:
        SourceError: the target is not there, or no task fits.
    """
    names = [c.name for c in summary.columns]
    column = summary.column(target)
    if column is None:
        near = difflib.get_close_matches(target, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The columns are {', '.join(map(repr, names[:20]))}."
        said = [note for note in summary.notes if repr(target) in note and "left out" in note]
        raise SourceError(f"there is no column {target!r}", where=said[0] if said else "--target", mend=hint)
    if name is not None:
        return get_task(name, files), "it was asked for"
    claims = [
        (claim, task) for name in task_names(files) if (claim := (task := get_task(name, files)).claim(summary, target))
    ]
    if not claims:
        if len(names) < 2:
            mend = "Give a table with at least one input column, or ignore fewer."
            raise SourceError(f"there is no column besides the target {target!r}", mend=mend)
        if column.type == "number" and any(c.type == "image" for c in summary.columns):
            many = column.distinct if column.distinct <= DISTINCT_CAP else f"more than {DISTINCT_CAP}"
            raise SourceError(
                f"the target {target!r} is a quantity ({many} different numbers), and no task here predicts quantities "
                "from images",
                mend="Name a column of classes with --target, or turn the numbers into classes, such as low and high.",
            )
        raise SourceError(
            f"no task fits the target {target!r} and the columns {', '.join(names[:20])}",
            where="; ".join(n for n in summary.notes if "left out" in n) or None,
            mend=f"Name one with --task ({', '.join(task_names(files))}), or another target with --target.",
        )
    best, task = max(claims, key=lambda pair: pair[0].confidence)
    return task, best.reason


def _of_use(summary: Summary, config: Config) -> Summary:
    """The columns that the configuration does not keep from models: what those hold says nothing of the task."""
    kept = {*config.ignore, config.weight, config.splits.key if config.splits.policy == "group" else None}
    chosen = [c for c in summary.columns if config.inputs is None or c.name in config.inputs]
    if config.inputs is not None and len(chosen) < len(config.inputs):
        return summary  # one of them is not there; who reads them says so
    target = [c for c in summary.columns if c.name == config.target]
    return replace(summary, columns=(*(c for c in chosen if c.name not in kept | {config.target}), *target))
