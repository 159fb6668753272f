"""What is in a dataset version: its profile, labels that may be wrong, and how far it lies from others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidemill.data.describe import without_sketches
from tidemill.data.profile import open_profile
from tidemill.data.schema import NUMBERS, Field
from tidemill.data.storage import is_complete
from tidemill.errors import InputError, NotFoundError, NotReadyError, TrainingError
from tidemill.monitor.drift import drift, label_counts
from tidemill.monitor.label_errors import known_label_errors, label_errors_path, open_label_errors
from tidemill.project.findings import findings
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Cycle, Dataset

TOP = 20
"""Values and words of a column that are shown."""
_TESTS = ("reference", "recent-test")
_THIS, _BEFORE = "this version", "the version before"


def unheard(_what: str) -> None:
    """Nobody listens."""


def data(
    project: OpenProject,
    version: str | None = None,
    *,
    against: str | None = None,
    search: bool = True,
    say: Callable[[str], None] = unheard,
) -> JSON:
    """What is in a dataset version.

    Args:
        project: whose.
        version: its id; the last cycle's unless given.
        against: the version to compare it with; the one before it unless given.
        search: look for suspected label errors where that was not done yet, by up to eleven fits of a quick recipe.
        say: told what takes a while.

    Returns:
        ``{"task", "target", "kind", "version", "against", "findings", "profile", "missing", "label_errors", "drift",
        "report"}``:

        - ``version`` and ``against`` are ``{"id", "created", "counts"}``, the latter ``None`` where there is none;
        - ``findings`` are what stands out, see :func:`tidemill.project.findings.findings`;
        - ``profile`` is what :func:`tidemill.data.profile.profile` says, without sketches;
        - ``missing`` are the columns with missing values, ``{"column", "share", "splits": {SPLIT: share}}``, the
          emptiest first;
        - ``label_errors`` is what :func:`tidemill.monitor.label_errors.summarise_label_errors` says, or ``{"unknown":
          why}``;
        - ``drift`` is ``{"splits": [comparison, …], "versions": comparison or None}``; a comparison is ``{"before",
          "after", "columns", "moved", "added", "removed", "retyped"}``, and its columns are what
          :func:`tidemill.monitor.drift.drift` says;
        - ``report`` is what preparation did.

    Raises:
        NotReadyError: nothing has been prepared yet.
        NotFoundError: there is no such version, or its files were removed.
        InputError: a version is to be compared with itself.
        StoreError: its files are damaged, or the disk is full.
    """
    record = _version(project, version)
    other = _one_before(project, record) if against is None else _version(project, against)
    if other is not None and other.id == record.id:
        raise InputError("a version does not differ from itself", where=record.id, mend="Name another one.")
    root = project.store.root
    profile = open_profile(root, record)
    older = None if other is None else open_profile(root, other)
    found: JSON = {
        "task": project.config.task,
        "target": profile["target"],
        "kind": profile["kind"],
        "version": _named(record),
        "against": None if other is None else _named(other),
        "profile": _shortened(without_sketches(profile)),
        "missing": _missing(profile),
        "label_errors": _label_errors(project, record, search=search, say=say),
        "drift": {
            "splits": [_between_splits(profile, test) for test in _TESTS if {"train", test} <= set(profile["splits"])],
            "versions": None if older is None else _between_versions(older, profile, against or _BEFORE),
        },
        "report": record.report,
    }
    return {**found, "findings": findings(found)}


def data_of_report(project: OpenProject, version: str | None) -> JSON | None:
    """What a model's report says of the data it was made from, without looking for anything that takes long.

    ``None`` where the model has no version, or its files were removed.
    """
    if version is None or not _has_files(project.store.root, project.store.get(Dataset, version)):
        return None
    return data(project, version, search=False)


def _version(project: OpenProject, identifier: str | None) -> Dataset:
    found = project.dataset if identifier is None else project.store.get(Dataset, identifier)
    if found is None:
        raise NotReadyError("no data has been prepared yet", mend="Run `tidemill cycle` first.")
    if not _has_files(project.store.root, found):
        raise NotFoundError(
            "the files of this dataset version were removed",
            where=found.id,
            mend="`tidemill gc` keeps the newest three; look at one of these.",
        )
    return found


def _has_files(root: Path, record: Dataset) -> bool:
    return is_complete(root / record.path)


def _one_before(project: OpenProject, record: Dataset) -> Dataset | None:
    """The version of the newest cycle before this one's that used another, if its files are still there."""
    cycles = [c.dataset_id for c in project.store.find(Cycle, status="done", newest_first=True) if c.dataset_id]
    later = cycles.index(record.id) + 1 if record.id in cycles else 0
    for identifier in dict.fromkeys(cycles[later:]):
        if identifier != record.id and project.store.exists(Dataset, identifier):
            found = project.store.get(Dataset, identifier)
            if _has_files(project.store.root, found):
                return found
    return None


def _named(record: Dataset) -> JSON:
    return {"id": record.id, "created": record.created, "counts": record.counts}


def _shortened(profile: JSON) -> JSON:
    """Without the values and words that nobody reads."""
    for column in profile["columns"]:
        for described in column["splits"].values():
            if "top" in described:
                described["top"] = described["top"][:TOP]
    return profile


def _missing(profile: JSON) -> list[JSON]:
    found = []
    for column in profile["columns"]:
        splits = {name: d["missing"] / d["rows"] if d["rows"] else 0.0 for name, d in column["splits"].items()}
        rows = sum(d["rows"] for d in column["splits"].values())
        missing = sum(d["missing"] for d in column["splits"].values())
        if missing:
            found.append({"column": column["name"], "share": missing / rows, "splits": splits})
    return sorted(found, key=lambda line: -line["share"])


def _label_errors(project: OpenProject, record: Dataset, *, search: bool, say: Callable[[str], None]) -> JSON:
    """What is kept, or found now; else why nothing is known."""
    store, kind = project.store, record.signature["kind"]
    if kind == "choice":
        return {"unknown": "of a choice nobody knows what would have been right"}
    if not label_errors_path(store.root, record).is_file():
        if not search:
            unknown = {"unknown": "nobody has looked for label errors in this version yet (tidemill data does)"}
            return known_label_errors(store.root, record) or unknown
        if kind != project.task.kind:
            return {"unknown": f"this version is of another kind ({kind}) than the task {project.task.name}"}
        say("looking for labels that may be wrong; this is done once for a dataset version")
    try:
        return open_label_errors(store, project.task, record, threads=project.threads)
    except (NotReadyError, TrainingError) as error:
        return {"unknown": error.what}


def _between_splits(profile: JSON, test: str) -> JSON:
    return _compared((profile, "train"), (profile, test), ("train", test))


def _between_versions(older: JSON, profile: JSON, name: str) -> JSON:
    """Training rows of two versions: samples keep their splits, so what came in shows there."""
    return _compared((older, "train"), (profile, "train"), (name, _THIS))


def _compared(before: tuple[JSON, str], after: tuple[JSON, str], names: tuple[str, str]) -> JSON:
    (old, old_split), (new, new_split) = before, after
    was, now = ({c["name"]: c for c in side["columns"]} for side in (old, new))
    shared = [name for name in now if name in was and now[name]["type"] == was[name]["type"]]
    fields = [Field(name=name, type=now[name]["type"]) for name in shared]
    labels = None
    if old["kind"] == new["kind"] and old_split in old["splits"] and new_split in new["splits"]:
        labels = _labels(old, old_split), _labels(new, new_split)
    sides = ({n: side[n]["splits"][split] for n in shared if split in side[n]["splits"]}
             for side, split in ((was, old_split), (now, new_split)))  # fmt: skip
    lines = drift(fields, *sides, names=names, labels=labels)
    return {
        "before": names[0],
        "after": names[1],
        "columns": lines,
        "moved": [line["column"] for line in lines if line["moved"]],
        "added": [name for name in now if name not in was],
        "removed": [name for name in was if name not in now],
        "retyped": [name for name in now if name in was and name not in shared],
    }


def _labels(profile: JSON, split: str) -> JSON:
    balance: dict[str, Any] = profile["balance"][split]
    if profile["kind"] in NUMBERS:
        numbers: JSON = balance["numbers"]
        return numbers
    rows = profile["splits"][split]["labelled"] if profile["kind"] == "multilabel" else None
    return label_counts(profile["labels"], balance["counts"], rows)
