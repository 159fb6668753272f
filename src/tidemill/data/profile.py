"""What is in a dataset version, column by column and split by split: for the data page, and for drift.

A profile is made when it is first asked for and kept as ``profile.json`` beside the version's index, which never
changes. It reads samples: of each split at most so many rows, drawn with a fixed seed; labels, duplicates and sources
are counted over all rows.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import images
from tidemill.data.arrays import Column, Ragged, Rows
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.describe import describe, describe_numbers, histogram, histogram_edges
from tidemill.data.schema import Field
from tidemill.data.sorting import repeated
from tidemill.data.splits import DROPPED, SPLITS
from tidemill.data.storage import read_manifest
from tidemill.data.targets import is_labelled
from tidemill.errors import StoreError
from tidemill.records import JSON, Dataset

SCHEMA = 1
MOST_ROWS = 100_000
"""Of each split that are read; fewer where there are more than 20 columns, and of texts and images."""
_VALUES = 2_000_000
_TEXTS, _IMAGES = 20_000, 5_000
_CUT = 16_384  # bytes of a text that are read
_CHUNK = 1 << 20
_EXAMPLES, _MEMBERS = 6, 3
_SIDE, _WORDS, _COLUMNS = 64, 300, 6


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


def write_json(path: Path, content: JSON) -> None:
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
        ``{"dataset", "kind", "target", "labels", "splits", "columns", "balance", "duplicates", "sources"}``. ``splits``
        gives for each ``rows``, ``labelled`` and ``read``; a column is ``{"name", "type", "splits": {SPLIT: see
        tidemill.data.describe}, "histogram": {"of", "edges", "shares": {SPLIT: […]}}}``.
    """
    signature = dataset.signature
    rng = np.random.default_rng(seed)
    rows = {name: dataset.rows(name, labelled=None) for name in SPLITS}
    rows = {name: found for name, found in rows.items() if len(found)}
    most = int(np.clip(_VALUES // max(1, len(signature.inputs)), 10_000, MOST_ROWS))
    picked = {name: _some(found, most, rng) for name, found in rows.items()}
    labelled = {name: int(is_labelled(dataset.target[found]).sum()) for name, found in rows.items()}
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
        "balance": {name: _balance(dataset, found, picked[name]) for name, found in rows.items()},
        "duplicates": _duplicates(dataset),
        "sources": _sources(dataset, report),
    }


def _some(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _column_profile(dataset: DatasetArrays, f: Field, picked: dict[str, Rows], seed: int) -> JSON:
    most = {"text": _TEXTS, "image": _IMAGES}.get(f.type, MOST_ROWS)
    splits = {}
    for name, rows in picked.items():
        column, sizes = read_column(dataset, f.name, _some(rows, most, np.random.default_rng(seed)))
        splits[name] = describe(column, f.type, seed=seed, sizes=sizes)
    return {"name": f.name, "type": f.type, "splits": splits, "histogram": _histogram(f, splits)}


def _histogram(f: Field, splits: dict[str, JSON]) -> JSON | None:
    """The same edges for all splits, by the first that has values."""
    of = {"number": None, "date": None, "text": "words", "image": "brightness"}.get(f.type, "")
    if of == "":
        return None
    numbers = {name: found if of is None else found[of] for name, found in splits.items()}
    edges = next((e for found in numbers.values() if (e := histogram_edges(found))), [])
    shares = {name: histogram(found, edges) for name, found in numbers.items()}
    return {"of": of or f.type, "edges": edges, "shares": shares}


def read_column(dataset: DatasetArrays, name: str, rows: Rows) -> tuple[Column, npt.NDArray[np.int64] | None]:
    """One input of some rows, in memory; texts are cut at 16 kB, with the bytes that each had before."""
    starts = np.cumsum([0, *[part.n for part in dataset.parts]])
    at = np.searchsorted(starts, rows, side="right") - 1
    arrays: list[npt.NDArray[Any]] = []
    texts: list[Ragged] = []
    sizes = []
    for i, part in enumerate(dataset.parts):
        mine = rows[at == i] - starts[i]
        column = part.columns[name]
        if isinstance(column, Ragged):
            length = column.offsets[mine + 1] - column.offsets[mine]
            sizes.append(length)
            texts.append(_cut(column, mine, np.minimum(length, _CUT)))
        else:
            arrays.append(np.asarray(column[mine]))
    if arrays:  # rows are sorted, as are the parts
        return np.concatenate(arrays), None
    offsets = np.cumsum(np.concatenate([[0], *[t.offsets[1:] - t.offsets[:-1] for t in texts]]))
    return Ragged(np.concatenate([t.values for t in texts]), offsets.astype(np.int64)), np.concatenate(sizes)


def _cut(column: Ragged, rows: Rows, length: npt.NDArray[np.int64]) -> Ragged:
    """The first bytes of some texts; never half a character."""
    first = column.offsets[rows]
    ends = first + length
    whole = ends == column.offsets[rows + 1]
    for _ in range(3):  # UTF-8 continues a character by up to three bytes 10xxxxxx
        inside = ~whole & (ends > first)
        inside[inside] = (column.values[ends[inside]] & 0xC0) == 0x80
        ends = ends - inside
    offsets = np.concatenate([[0], np.cumsum(ends - first)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], ends - first)
    return Ragged(np.asarray(column.values[places]), offsets)


def _balance(dataset: DatasetArrays, rows: Rows, picked: Rows) -> JSON:
    """Labels of one split: counts by label over all rows, or a description of numbers."""
    signature = dataset.signature
    if signature.kind == "regression":
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


def preview(dataset: DatasetArrays, row: int) -> JSON:
    """The inputs of a row for people: the first six, texts cut, images small."""
    fields = dataset.signature.inputs[:_COLUMNS]
    shown: JSON = {}
    for f in fields:
        column, _ = read_column(dataset, f.name, np.array([row]))
        if isinstance(column, Ragged):
            text = column[0]
            shown[f.name] = (text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…") or None
        elif f.type == "image":
            step = -(-max(column.shape[1:3]) // _SIDE)
            png = images.encode_png(np.ascontiguousarray(column[0, ::step, ::step]))
            shown[f.name] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        else:
            value = float(column[0])
            shown[f.name] = _plain_number(value, f.type)
    return shown


def _plain_number(value: float, kind: str) -> Any:
    if np.isnan(value):
        return None
    if kind == "date":
        return str(np.datetime64(round(value * 1e6), "us").astype("datetime64[s]")).replace("T", " ") + " UTC"
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


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
