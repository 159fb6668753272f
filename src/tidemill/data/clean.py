"""Cleaning: raw columns to typed columns, chunk by chunk, with a count and examples of everything that was changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data import images, spelling
from tidemill.data.arrays import Column, Ragged
from tidemill.data.schema import NUMBERS, Field, Signature
from tidemill.data.sources._base import Batch, RawColumn
from tidemill.data.targets import LARGEST, Mask, Target, row_form

EXAMPLES = 5
MIXED = 0.02
"""A column of words in which at least this share, and not nearly all, are numbers may be two columns in one."""
_EXACT = 2.0**53
"""From here on, whole numbers that differ by one may be the same floating-point number."""


@dataclass(slots=True)
class Tally:
    """What was done, to how many, with up to five examples each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, count: int, examples: Iterable[str] = ()) -> None:
        """Note that *what* was done *count* times; does nothing when *count* is 0."""
        if count == 0:
            return
        self.counts[what] = self.counts.get(what, 0) + int(count)
        shown = self.examples.setdefault(what, [])
        for example in examples:
            if len(shown) >= EXAMPLES:
                break
            if example not in shown:
                shown.append(example)

    def merge(self, actions: Iterable[dict[str, Any]]) -> None:
        """Take over what :meth:`to_json` wrote."""
        for action in actions:
            self.add(action["what"], action["count"], action["examples"])

    def leave_out(self, names: Sequence[str]) -> None:
        """Keep no example that mentions one of *names*."""
        for shown in self.examples.values() if names else ():
            shown[:] = [example for example in shown if not any(name in example for name in names)]

    def to_json(self) -> list[dict[str, Any]]:
        """``[{"what", "count", "examples"}, …]`` in the order of the first occurrence."""
        return [{"what": w, "count": n, "examples": self.examples[w]} for w, n in self.counts.items()]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One chunk as typed columns.

    Attributes:
        columns: the signature's inputs.
        target: int32 codes ``[n]``, int8 ``[n, labels]`` or float32 ``[n]``, see :mod:`tidemill.data.targets`.
        empty: bool ``[n]``: none of the inputs has a value.
    """

    columns: dict[str, Column]
    target: Target
    empty: Mask


@dataclass(slots=True)
class _NumbersAmongWords:
    known: int = 0
    numbers: int = 0
    examples: list[str] = field(default_factory=list)


class Cleaner:
    """Cleans the batches of one source for one signature.

    Args:
        signature: the fields and labels to clean for.
        tally: where to count.
    """

    def __init__(self, signature: Signature, tally: Tally) -> None:
        self.signature = signature
        self.tally = tally
        self._exact = {label: code for code, label in enumerate(signature.labels)}
        forms: dict[str, int] = {}
        for code, label in enumerate(signature.labels):
            forms.setdefault(spelling.label_form(label), code)
        self._forms = forms
        self._among: dict[str, _NumbersAmongWords] = {}

    def clean(self, batch: Batch) -> Cleaned:
        """One chunk."""
        for fault in batch.faults:
            self.tally.add(fault.what, 1, [f"{fault.origin}: {fault.detail}" if fault.detail else fault.origin])
        columns: dict[str, Column] = {}
        empty = np.ones(len(batch), bool)
        for f in self.signature.inputs:
            columns[f.name], gone = self._column(f, batch.columns.get(f.name), batch)
            empty &= gone
        target = batch.columns.get(self.signature.target)
        if self.signature.kind in NUMBERS:
            return Cleaned(columns, self._number_target(target, batch), empty)
        if self.signature.kind == "multilabel":
            return Cleaned(columns, self._label_sets(target, batch), empty)
        return Cleaned(columns, self._codes(target, batch), empty)

    def weights(self, name: str, batch: Batch) -> npt.NDArray[np.float32]:
        """What each row counts by a column of the source, float32 ``[n]``: 1 where nothing is said, NaN where it is
        negative, which leaves the row out.
        """
        raw = batch.columns.get(name)
        array = pa.nulls(len(batch), pa.float64()) if raw is None else pa.array(raw)
        weights = self._numbers(name, array, batch, missing="missing weights were taken for 1")
        weights[np.isnan(weights)] = 1.0
        weights[weights < 0] = np.nan
        return np.minimum(weights, LARGEST).astype(np.float32)

    def finish(self) -> None:
        """Say what only shows when all batches are through."""
        for name, seen in self._among.items():
            if MIXED * seen.known <= seen.numbers <= (1 - MIXED) * seen.known:
                what = f"numbers stand among the words of {name!r}, so it was read as words"
                self.tally.add(what, seen.numbers, seen.examples)

    def _column(self, f: Field, raw: RawColumn | None, batch: Batch) -> tuple[Column, Mask]:
        if f.type == "image":
            if not isinstance(raw, np.ndarray):
                return np.zeros((len(batch), *(f.shape or ())), np.uint8), np.ones(len(batch), bool)
            return images.fit_all(raw, f.shape or raw.shape[1:]), np.zeros(len(batch), bool)
        array = pa.nulls(len(batch), pa.large_string()) if raw is None else pa.array(raw)
        if f.type == "number":
            numbers = self._numbers(f.name, array, batch)
            return numbers, np.isnan(numbers)
        if f.type == "date":
            seconds = self._seconds(f.name, array, batch)
            return seconds, np.isnan(seconds)
        strings = self._stripped(f.name, spelling.filled_strings(array), batch)
        if f.type == "category":
            gone = self._spelled_missing(f.name, strings, batch)
            if gone.any():
                strings = pc.if_else(pa.array(gone), pa.scalar("", pa.large_string()), strings)
        else:
            gone = spelling.empty(strings)
        self._look_for_numbers(f.name, strings, gone, batch)
        self.count(f"missing values in {f.name!r}", gone, batch)
        return Ragged.from_arrow(strings), gone

    def _look_for_numbers(self, name: str, strings: pa.Array, gone: Mask, batch: Batch) -> None:
        seen = self._among.setdefault(name, _NumbersAmongWords())
        seen.known += len(strings) - int(gone.sum())
        found = np.flatnonzero(spelling.numeric(strings))
        seen.numbers += len(found)
        if len(seen.examples) < EXAMPLES:
            for i in found[: EXAMPLES - len(seen.examples)].tolist():
                seen.examples.append(f"{batch.origin[i].as_py()}: {name} = {strings[i].as_py()!r}")

    def _stripped(self, name: str, strings: pa.Array, batch: Batch) -> pa.Array:
        untidy = spelling.untidy(strings)
        if untidy is not None:
            what = "control characters and byte order marks inside of texts were removed"
            self.count(what, untidy, batch, name, strings)
            strings = spelling.tidy(strings)
        stripped = spelling.strip(strings)
        if stripped is not strings:
            padded = spelling.mask(pc.not_equal(pc.binary_length(strings), pc.binary_length(stripped)))
            self.count("padded values were stripped", padded, batch, name, strings)
        return stripped

    def _spelled_missing(self, name: str, strings: pa.Array, batch: Batch) -> Mask:
        gone = spelling.missing(strings)
        self._spelled(name, strings, gone, batch)
        return gone

    def _spelled(self, name: str, strings: pa.Array, gone: Mask, batch: Batch) -> None:
        if gone.any():
            spelled = gone & ~spelling.empty(strings)
            self.count("spellings of a missing value (?, NA, …) were taken for missing", spelled, batch, name, strings)

    def _numbers(self, name: str, array: pa.Array, batch: Batch, missing: str | None = None) -> npt.NDArray[np.float64]:
        missing = missing or f"missing values in {name!r}"
        plain = spelling.numbers_and_gaps(array) if _is_strings(array.type) else None
        if plain is not None and not (np.abs(plain[0]) >= _EXACT).any():
            numbers, gone = plain
            self._spelled(name, spelling.filled_strings(array), gone, batch)
            self.count(missing, gone, batch)
            return numbers + 0.0  # -0.0 and 0.0 are one value
        if _is_text(array.type):
            strings = self._stripped(name, spelling.filled_strings(array), batch)
            gone = self._spelled_missing(name, strings, batch)
            numbers = spelling.to_numbers(strings).copy()
            infinite = spelling.infinite(strings) | np.isinf(numbers)
            rounded = np.isfinite(numbers) & (np.abs(numbers) >= _EXACT)
            self.count("numbers of more digits than can be told apart were rounded", rounded, batch, name, strings)
            wrong = ~gone & np.isnan(numbers) & ~infinite
            self.count("text where a number belongs was taken for missing", wrong, batch, name, strings)
        else:
            numbers = np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            infinite = np.isinf(numbers)
        self.count("infinite numbers were taken for missing", infinite, batch, name)
        numbers[infinite] = np.nan
        numbers += 0.0  # -0.0 and 0.0 are one value
        self.count(missing, np.isnan(numbers), batch)
        return numbers

    def _seconds(self, name: str, array: pa.Array, batch: Batch) -> npt.NDArray[np.float64]:
        if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
            zone = array.type.tz if pa.types.is_timestamp(array.type) else None
            micros = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
            seconds = np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64) / 1e6
        else:
            strings = self._stripped(name, spelling.filled_strings(array), batch)
            gone = self._spelled_missing(name, strings, batch)
            seconds = spelling.to_seconds(strings)
            wrong = ~gone & np.isnan(seconds)
            self.count("text where a date belongs was taken for missing", wrong, batch, name, strings)
        self.count(f"missing values in {name!r}", np.isnan(seconds), batch)
        return seconds

    def _number_target(self, raw: RawColumn | None, batch: Batch) -> npt.NDArray[np.float32]:
        array = pa.nulls(len(batch), pa.float64()) if raw is None else pa.array(raw)
        numbers = self._numbers(self.signature.target, array, batch, missing=_UNLABELLED)
        beyond = np.abs(numbers) > LARGEST
        self.count("numbers too large for a target were taken for missing", beyond, batch, self.signature.target)
        self.count(_UNLABELLED, beyond, batch)
        numbers[beyond] = np.nan
        return numbers.astype(np.float32)

    def _codes(self, raw: RawColumn | None, batch: Batch) -> npt.NDArray[np.int32]:
        if raw is None:
            return np.full(len(batch), -1, np.int32)
        original = spelling.filled_strings(pa.array(raw))
        words = self._stripped(self.signature.target, original, batch).dictionary_encode()
        rows = words.indices.to_numpy()
        codes, empty, spelled = self._known(
            words.dictionary, rows, "labels of no known class were taken for unlabelled"
        )
        self.count(_UNLABELLED, empty[rows], batch)
        self.count(_SPELLED, spelled[rows], batch, self.signature.target, original)
        result: npt.NDArray[np.int32] = codes[rows]
        return result

    def _label_sets(self, raw: RawColumn | None, batch: Batch) -> npt.NDArray[np.int8]:
        """Which of the labels each row has: from lists, or from texts that a separator parts."""
        dtype, row = row_form(self.signature)
        target = np.full((len(batch), *row), -1, dtype)
        array = pa.nulls(len(batch), pa.large_string()) if raw is None else pa.array(raw)
        if _is_list(array.type):
            given = spelling.mask(pc.is_valid(array))
            lists = array
        else:
            cells = self._stripped(self.signature.target, spelling.filled_strings(array), batch)
            gone = spelling.missing(cells)
            if len(self._exact):  # a label may be spelled like a missing value
                gone &= ~spelling.mask(pc.is_in(cells, value_set=pa.array(list(self._exact), pa.large_string())))
            spelled = gone & spelling.mask(pc.not_equal(cells, ""))
            self.count(_SPELLED, spelled, batch, self.signature.target, cells)
            given = ~gone
            cells = pc.if_else(pa.array(given), cells, pa.scalar(None, pa.large_string()))
            separator = self.signature.separator
            lists = pc.split_pattern(cells, separator) if separator else _single(cells)
        self.count(_UNLABELLED, ~given, batch)
        target[given] = 0
        parents = pc.list_parent_indices(lists).to_numpy()
        members = spelling.strip(spelling.filled_strings(pc.list_flatten(lists)))
        words = members.dictionary_encode()
        indices = words.indices.to_numpy()
        codes, _, spelled = self._known(
            words.dictionary, indices, "labels of no known name were left out of their lists"
        )
        if spelled.any():
            at = np.zeros(len(batch), bool)
            at[parents[spelled[indices]]] = True
            self.count(_SPELLED, at, batch, self.signature.target)
        known = codes[indices] >= 0
        target[parents[known], codes[indices][known]] = 1
        return target

    def _known(self, words: pa.Array, rows: npt.NDArray[Any], unknown: str) -> tuple[npt.NDArray[np.int32], Mask, Mask]:
        """The codes of distinct labels, -1 for none; which of them are empty, and which only spell a missing value."""
        values = words.to_pylist()
        gone = spelling.missing(words) if len(values) else np.empty(0, bool)
        counts = np.bincount(rows, minlength=len(values))
        codes = np.full(len(values), -1, np.int32)
        for i, value in enumerate(values):
            code = self._exact.get(value, -1)
            if code < 0 and not gone[i]:
                code = self._forms.get(spelling.label_form(value), -1)
                if code >= 0:
                    said = f"{value!r} is {self.signature.labels[code]!r}"
                    self.tally.add("variant spellings of a label were merged", int(counts[i]), [said])
                else:
                    self.tally.add(unknown, int(counts[i]), [repr(value)])
            codes[i] = code
        empty = np.array([value == "" for value in values], bool)
        return codes, empty, gone & ~empty & (codes < 0)

    def count(self, what: str, which: Mask, batch: Batch, name: str = "", values: pa.Array | None = None) -> None:
        """Note that *what* was done to the rows of a batch, with their origins as examples."""
        count = int(which.sum())
        if not count:
            return
        shown = []
        if len(self.tally.examples.get(what, ())) < EXAMPLES:
            for i in np.flatnonzero(which)[:EXAMPLES].tolist():
                detail = f": {name}" if name else ""
                value = "" if values is None else f" = {values[i].as_py()[:60]!r}"
                shown.append(f"{batch.origin[i].as_py()}{detail}{value}")
        self.tally.add(what, count, shown)


_UNLABELLED = "samples without a label were kept, to be asked about"
_SPELLED = "labels spelled like a missing value were taken for none; a class of that name belongs under `labels`"


def _single(cells: pa.Array) -> pa.Array:
    """Each string as a list of its own, null where it is null."""
    offsets = pa.array(np.arange(len(cells) + 1), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, cells, mask=pc.is_null(cells))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_text(kind: pa.DataType) -> bool:
    return _is_strings(kind) or bool(pa.types.is_dictionary(kind) or pa.types.is_boolean(kind))
