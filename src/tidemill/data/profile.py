"""What is in a dataset version, column by column and split by split: for the data page, and for drift.

A profile is made when it is first asked for and kept as ``profile.json`` beside the version's index, which never
changes. It reads samples: of each split at most so many rows, drawn with a fixed seed; labels, duplicates and sources
are counted over all rows.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Rows
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.describe import describe, describe_numbers, histogram, histogram_edges
from tidemill.data.previews import pictures, preview, read_column, some
from tidemill.data.schema import NUMBERS, Field
from tidemill.data.sorting import repeated
from tidemill.data.splits import DROPPED, SPLITS
from tidemill.data.storage import read_manifest
from tidemill.data.targets import is_labelled
from tidemill.errors import StoreError
from tidemill.records import JSON, Dataset

SCHEMA = 2
MOST_ROWS = 100_000
"""Of each split that are read; fewer where there are more than 20 columns, and of texts and images."""
_VALUES = 2_000_000
_TEXTS, _IMAGES = 20_000, 5_000
_CHUNK = 1 << 20
_EXAMPLES, _MEMBERS = 6, 3


def open_profile(root: Path, dataset: Dataset, *, seed: int = 0) -> JSON:
    """The profile of a dataset version; made and kept at the first call.

    Args:
        root: the store's root.
        dataset: the version's record.
        seed: which rows are read.

    Returns:
        See :func:`profile`.

    Raises:
        StoreError: the version's files are missing or damaged, or the disk is full.
    """
    return kept(
        root / dataset.path / "profile.json",
        {"schema": SCHEMA, "seed": seed},
        lambda: profile(open_dataset(root, dataset), read_manifest(root / dataset.path)["report"], seed=seed),
    )


def kept(path: Path, like: JSON, make: Any) -> JSON:
    """The JSON in a file, if it agrees with *like*; else what *make* gives, which is written there as a whole.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        found: JSON = json.loads(path.read_bytes())
        if all(found.get(key) == value for key, value in like.items()):
            return found
    except (OSError, ValueError, AttributeError):
        pass  # there is none, or a torso
    made: JSON = like | make()
    write_json(path, made)
    return made


def write_json(path: Path, content: Any) -> None:
    """Write a file as a whole, forced to disk.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        what = f"what was found out about the data cannot be kept: {error.strerror or error}"
        raise StoreError(what, where=str(path), mend="Free disk space or mend the permissions.") from error


def profile(dataset: DatasetArrays, report: JSON, *, seed: int = 0) -> JSON:
    """What is in a dataset version.

    Args:
        dataset: the version.
        report: what preparation reported; names the sources.
        seed: which rows are read.

    Returns:
        ``{"dataset", "kind", "target", "labels", "splits", "columns", "balance", "spread", "pictures", "duplicates",
        "sources"}``. ``splits`` gives for each ``rows``, ``labelled`` and ``read``; a column is ``{"name", "type",
        "splits": {SPLIT: see tidemill.data.describe}, "histogram": {"of", "edges", "shares": {SPLIT: […]}}}``.
        ``balance`` holds for each split ``counts`` by label, for several labels a row ``per_row``, and for regression
        ``numbers`` alone; ``spread`` is the histogram of these numbers. ``pictures`` are training images, ``[{"label",
        "images": [data URL, …]}]``; none without a column of images.
    """
    signature = dataset.signature
    rng = np.random.default_rng(seed)
    rows = {name: dataset.rows(name, labelled=None) for name in SPLITS}
    rows = {name: found for name, found in rows.items() if len(found)}
    most = int(np.clip(_VALUES // max(1, len(signature.inputs)), 10_000, MOST_ROWS))
    picked = {name: some(found, most, rng) for name, found in rows.items()}
    labelled = {name: int(is_labelled(dataset.target[found]).sum()) for name, found in rows.items()}
    balance = {name: _balance(dataset, found, picked[name]) for name, found in rows.items()}
    return {
        "dataset": dataset.id,
        "kind": signature.kind,
        "target": signature.target,
        "labels": list(signature.labels),
        "splits": {
            name: {"rows": len(found), "labelled": labelled[name], "read": len(picked[name])}
            for name, found in rows.items()
        },
        "columns": [_column_profile(dataset, f, picked, seed) for f in signature.inputs],
        "balance": balance,
        "spread": _spread(signature.kind, balance),
        "pictures": pictures(dataset, rows.get("train", np.empty(0, np.int64)), rng),
        "duplicates": _duplicates(dataset),
        "sources": _sources(dataset, report),
    }


def _column_profile(dataset: DatasetArrays, f: Field, picked: dict[str, Rows], seed: int) -> JSON:
    most = {"text": _TEXTS, "image": _IMAGES}.get(f.type, MOST_ROWS)
    splits = {}
    for name, rows in picked.items():
        column, sizes = read_column(dataset, f.name, some(rows, most, np.random.default_rng(seed)))
        splits[name] = describe(column, f.type, seed=seed, sizes=sizes)
    return {"name": f.name, "type": f.type, "splits": splits, "histogram": _histogram(f, splits)}


def _histogram(f: Field, splits: dict[str, JSON]) -> JSON | None:
    of = {"number": None, "date": None, "text": "words", "image": "brightness"}.get(f.type, "")
    if of == "":
        return None
    return _bars(of or f.type, {name: found if of is None else found[of] for name, found in splits.items()})


def _bars(of: str, numbers: dict[str, JSON]) -> JSON:
    """The same edges for all splits, by the first that has values."""
    edges = next((e for found in numbers.values() if (e := histogram_edges(found))), [])
    return {"of": of, "edges": edges, "shares": {name: histogram(found, edges) for name, found in numbers.items()}}


def _spread(kind: str, balance: dict[str, JSON]) -> JSON | None:
    key = "per_row" if kind == "multilabel" else "numbers" if kind in NUMBERS else None
    return None if key is None else _bars(key, {name: found[key] for name, found in balance.items()})


def _balance(dataset: DatasetArrays, rows: Rows, picked: Rows) -> JSON:
    """Labels of one split: counts by label over all rows, or a description of numbers."""
    signature = dataset.signature
    if signature.kind in NUMBERS:
        values = np.asarray(dataset.target[picked], np.float64)
        return {"numbers": describe_numbers(values)}
    counts = np.zeros(len(signature.labels), np.int64)
    per_row: list[npt.NDArray[np.int64]] = []
    for chunk in _chunks(rows):
        target = dataset.target[chunk]
        target = target[is_labelled(target)]
        if signature.kind == "multilabel":
            counts += (target == 1).sum(axis=0)
            per_row.append((target == 1).sum(axis=1))
        else:
            counts += np.bincount(target, minlength=len(counts))
    found: JSON = {"counts": counts.tolist()}
    if signature.kind == "multilabel":
        found["per_row"] = describe_numbers(np.concatenate(per_row).astype(np.float64))
    return found


def _chunks(rows: Rows) -> Iterator[Rows]:
    for start in range(0, max(len(rows), 1), _CHUNK):
        yield rows[start : start + _CHUNK]


def _duplicates(dataset: DatasetArrays) -> JSON:
    """Rows that share their content or their split key, over all rows."""
    with tempfile.TemporaryDirectory() as folder:
        every = ((dataset.keys[c], c) for c in _chunks(np.arange(dataset.n)))
        rows = repeated(Path(folder), every, dataset.n)
    keys, content, code = dataset.keys[rows], dataset.content[rows], dataset.split[rows]
    here = code != DROPPED
    dropped = np.isin(keys, keys[here]) & ~here
    exact = dropped & np.isin(content, content[here])
    # the first kept row of each content and of each key, to name what a dropped one repeats
    contents, at = np.unique(content[here], return_index=True)
    origin_of = rows[here][at]
    pairs = [(int(r), int(origin_of[np.searchsorted(contents, c)])) for r, c in
             zip(rows[exact][:_EXAMPLES], content[exact][:_EXAMPLES], strict=True)]  # fmt: skip
    _, member, sizes = np.unique(keys[here], return_inverse=True, return_counts=True)
    several = sizes > 1
    grouped = any("group" in part.index for part in dataset.parts)
    return {
        "exact": {
            "dropped": int(exact.sum()),
            "examples": [{"row": _member(dataset, a), "same_as": _member(dataset, b)} for a, b in pairs],
        },
        "near": {
            "dropped": int((dropped & ~exact).sum()),
            "clusters": int(several.sum()),
            "rows": int(sizes[several].sum()),
            "largest": int(sizes.max(initial=0)) if several.any() else 0,
            "by": "group" if grouped else "likeness",
            "examples": [] if grouped else _clusters(dataset, rows[here], member, np.flatnonzero(several)),
        },
    }


def _clusters(
    dataset: DatasetArrays, rows: Rows, member: npt.NDArray[np.int64], several: npt.NDArray[np.int64]
) -> list[list[JSON]]:
    found = []
    for cluster in several[:_EXAMPLES].tolist():
        mine = rows[member == cluster][:_MEMBERS]
        found.append([_member(dataset, int(row)) for row in mine])
    return found


def _member(dataset: DatasetArrays, row: int) -> JSON:
    code = int(dataset.split[row])
    return {
        "origin": dataset.origin(row),
        "split": SPLITS[code] if code < len(SPLITS) else None,
        "inputs": preview(dataset, row),
    }


def _sources(dataset: DatasetArrays, report: JSON) -> list[JSON]:
    names: Sequence[str] = report.get("sources", [])
    found, start = [], 0
    for i, part in enumerate(dataset.parts):
        counts = np.bincount(dataset.split[start : start + part.n], minlength=256)
        name = "live traffic" if part.live else names[i] if i < len(names) else part.path
        splits = {s: int(counts[code]) for code, s in enumerate(SPLITS) if counts[code]}
        found.append({"name": name, "rows": part.n, "splits": splits, "dropped": int(counts[DROPPED])})
        start += part.n
    return found
