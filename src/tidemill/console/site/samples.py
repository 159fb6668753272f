"""Samples of a version: browsed by split and label, found by a text in them, opened one by one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from tidemill.console.site.visit import Place, Visit
from tidemill.data.arrays import Ragged
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.previews import preview
from tidemill.data.splits import DROPPED, SPLITS
from tidemill.data.storage import is_complete
from tidemill.data.targets import is_labelled
from tidemill.errors import InputError, NotFoundError, NotReadyError
from tidemill.monitor.label_errors import known_suspects
from tidemill.records import JSON, Annotation, Dataset, QueueItem, to_json
from tidemill.store.erasing import last_erasure

SHOWN = 36
SCANNED = 50_000
"""Rows in which a text is looked for at one time; the next page goes on from there."""
_KEPT = 3


def samples(visit: Visit) -> Response:
    """Some rows that fit what is asked for, from one row number on."""
    record, arrays = opened(visit)
    split, label, text = visit.asked("split"), visit.asked("label"), visit.asked("q")
    labelled = visit.asked("labelled")
    start = visit.number("from") or 0
    wanted = _fitting(arrays, split, label, labelled)
    rows, until = _next(arrays, wanted, start, text)
    return visit.page(
        "samples.html",
        record=record,
        samples=[_shown(arrays, row) for row in rows],
        splits=SPLITS,
        labels=arrays.signature.labels[:500],
        text_columns=[f.name for f in arrays.signature.inputs if f.type in ("text", "category")],
        split=split,
        label=label,
        labelled=labelled,
        q=text,
        start=start,
        after=until,
        rows=arrays.n,
    )


def sample(visit: Visit) -> Response:
    """One sample, whole."""
    record, arrays = opened(visit)
    identifier = visit.path("id")
    row = arrays.row_of(identifier)
    doubt = _doubt(visit, record, identifier)
    return visit.page(
        "sample.html",
        record=record,
        id=identifier,
        row=row,
        inputs=arrays.show(row),
        fields={f.name: f.type for f in arrays.signature.inputs},
        target=arrays.signature.target,
        label=_label(arrays, row),
        split=SPLITS[int(arrays.split[row])],
        weight=float(arrays.weight[row]),
        origin=arrays.origin(row),
        annotations=[to_json(a) for a in visit.store.find(Annotation, subject=identifier) if not a.erased],
        questions=[to_json(q) for q in visit.store.find(QueueItem, subject=identifier, limit=5)],
        doubt=doubt,
        siblings=_siblings(arrays, row),
    )


def opened(visit: Visit) -> tuple[Dataset, DatasetArrays]:
    """The version that is asked for, the last cycle's unless named, and its arrays.

    Raises:
        NotReadyError: nothing has been prepared yet.
        NotFoundError: there is no such version, or its files were removed.
    """
    wanted = visit.asked("version")
    record = visit.project.dataset if wanted is None else visit.store.get(Dataset, wanted)
    if record is None:
        raise NotReadyError("no data has been prepared yet", mend="Start a cycle first.")
    root = visit.store.root
    if not is_complete(root / record.path):
        raise NotFoundError(
            "the files of this dataset version were removed", where=record.id, mend="Look at a newer version."
        )
    known = visit.site.arrays
    name = (record.id, *last_erasure(visit.store))
    if name not in known:
        while len(known) >= _KEPT:
            known.pop(next(iter(known)))
        known[name] = open_dataset(root, record)
    return record, known[name]


def _fitting(
    arrays: DatasetArrays, split: str | None, label: str | None, labelled: str | None
) -> npt.NDArray[np.bool_]:
    """Which rows fit, bool ``[n]``.

    Raises:
        InputError: there is no such split or label.
    """
    if split is None:
        fits = np.asarray(arrays.split) != DROPPED
    elif split in SPLITS:
        fits = np.asarray(arrays.split) == SPLITS.index(split)
    else:
        raise InputError(f"there is no split {split!r:.40}", where="split", mend=f"Use one of {', '.join(SPLITS)}.")
    if labelled in ("yes", "no"):
        fits = fits & (is_labelled(np.asarray(arrays.target)) == (labelled == "yes"))
    if label is not None:
        labels = arrays.signature.labels
        if label not in labels:
            raise InputError(f"there is no label {label!r:.60}", where="label", mend="Choose one of the list.")
        code, target = labels.index(label), arrays.target
        fits = fits & ((target[:, code] > 0) if target.ndim == 2 else (np.asarray(target) == code))
    return np.asarray(fits, np.bool_)


def _next(
    arrays: DatasetArrays, fits: npt.NDArray[np.bool_], start: int, text: str | None
) -> tuple[list[int], int | None]:
    """The next rows that fit, and from where to go on; ``None`` at the end."""
    rows = np.flatnonzero(fits[start:]) + start
    if text is None:
        more = int(rows[SHOWN]) if len(rows) > SHOWN else None
        return rows[:SHOWN].tolist(), more
    if text.startswith("smp_"):
        return _by_id(arrays, text), None
    end = min(arrays.n, start + SCANNED)
    has = _containing(arrays, start, end, text)
    found = [row for row in rows[: int(np.searchsorted(rows, end))].tolist() if has[row - start]]
    if len(found) > SHOWN:
        return found[:SHOWN], found[SHOWN]
    return found, end if end < arrays.n else None


def _by_id(arrays: DatasetArrays, identifier: str) -> list[int]:
    try:
        return [arrays.row_of(identifier)]
    except (NotFoundError, InputError, ValueError):
        return []


def _containing(arrays: DatasetArrays, start: int, end: int, text: str) -> npt.NDArray[np.bool_]:
    """Which of the rows from *start* to *end* hold *text* in an input or their origin, whatever its case, bool."""
    has = np.zeros(end - start, np.bool_)
    pattern = re.compile(re.escape(text).encode(), re.IGNORECASE)
    for part, first in zip(arrays.parts, arrays.starts[:-1].tolist(), strict=True):
        low, high = max(start, first), min(end, first + part.n)
        if low >= high:
            continue
        for column in (*part.columns.values(), part.origin):
            if isinstance(column, Ragged):
                has[_rows_with(column, low - first, high - first, pattern) + low - start] = True
    return has


def _rows_with(column: Ragged, low: int, high: int, pattern: re.Pattern[bytes]) -> npt.NDArray[np.int64]:
    """Which texts of a column match, counted from *low*; a match that runs from one text into the next is none."""
    offsets = np.asarray(column.offsets[low : high + 1]) - int(column.offsets[low])
    content = column.values[int(column.offsets[low]) : int(column.offsets[high])].tobytes()
    spans = np.array([found.span() for found in pattern.finditer(content)], np.int64).reshape(-1, 2)
    rows = np.searchsorted(offsets, spans[:, 0], side="right") - 1
    whole = spans[:, 1] <= offsets[np.minimum(rows + 1, len(offsets) - 1)]
    return np.unique(rows[whole])


def _shown(arrays: DatasetArrays, row: int) -> JSON:
    return {
        "id": arrays.sample_id(row),
        "inputs": preview(arrays, row),
        "label": _label(arrays, row),
        "split": SPLITS[int(arrays.split[row])],
        "origin": arrays.origin(row),
    }


def _label(arrays: DatasetArrays, row: int) -> Any:
    """What a row's label says; ``None`` where it has none."""
    target, labels = arrays.target, arrays.signature.labels
    if not bool(is_labelled(np.asarray(target[row : row + 1]))[0]):
        return None
    if target.ndim == 2:
        return [labels[code] for code in np.flatnonzero(target[row] > 0)]
    return labels[int(target[row])] if labels and target.dtype.kind != "f" else float(target[row])


def _siblings(arrays: DatasetArrays, row: int) -> list[str]:
    """Samples that share the split key: near copies, or the same group."""
    same = np.flatnonzero((np.asarray(arrays.keys) == arrays.keys[row]) & (np.asarray(arrays.split) != DROPPED))
    return [arrays.sample_id(int(other)) for other in same[:12] if int(other) != row]


def _doubt(visit: Visit, record: Dataset, identifier: str) -> JSON | None:
    """What is known of a doubtful label."""
    issues = known_suspects(visit.store.root, record)
    return next((issue for issue in issues if issue["sample"] == identifier), None)


PLACES = (Place("/data/samples", samples, "label"), Place("/data/samples/{id}", sample, "label"))
