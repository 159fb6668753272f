"""Cleaning: raw columns to typed columns, chunk by chunk, with a count and examples of everything that was changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data import images, spelling
from tidemill.data.arrays import Column, Ragged
from tidemill.data.schema import Field, Signature
from tidemill.data.sources._base import Batch, RawColumn

Mask = npt.NDArray[np.bool_]
EXAMPLES = 5
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

    def to_json(self) -> list[dict[str, Any]]:
        """``[{"what", "count", "examples"}, …]`` in the order of the first occurrence."""
        return [{"what": w, "count": n, "examples": self.examples[w]} for w, n in self.counts.items()]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One chunk as typed columns.

    Attributes:
        columns: the signature's inputs.
        target: int32 codes ``[n]``, -1 for unlabelled; for regression float32 with NaN.
        empty: bool ``[n]``: none of the inputs has a value.
    """

    columns: dict[str, Column]
    target: npt.NDArray[Any]
    empty: Mask


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
        if self.signature.kind == "regression":
            return Cleaned(columns, self._number_target(target, batch), empty)
        return Cleaned(columns, self._codes(target, batch), empty)

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
        strings = self._stripped(f.name, spelling.strings_of(array).fill_null(""), batch)
        if f.type == "category":
            gone = self._spelled_missing(f.name, strings, batch)
            strings = pc.if_else(pa.array(gone), pa.scalar("", pa.large_string()), strings)
        else:
            gone = spelling.mask(pc.equal(strings, ""))
        self._count(f"missing values in {f.name!r}", gone, batch)
        return Ragged.from_arrow(strings), gone

    def _stripped(self, name: str, strings: pa.Array, batch: Batch) -> pa.Array:
        stripped = spelling.strip(strings)
        padded = spelling.mask(pc.not_equal(pc.binary_length(strings), pc.binary_length(stripped)))
        self._count("padded values were stripped", padded, batch, name, strings)
        return stripped

    def _spelled_missing(self, name: str, strings: pa.Array, batch: Batch) -> Mask:
        gone = spelling.missing(strings)
        spelled = gone & spelling.mask(pc.not_equal(strings, ""))
        self._count("spellings of a missing value (?, NA, …) were taken for missing", spelled, batch, name, strings)
        return gone

    def _numbers(self, name: str, array: pa.Array, batch: Batch) -> npt.NDArray[np.float64]:
        plain = spelling.plain_numbers(array) if _is_strings(array.type) else None
        if plain is not None and np.abs(plain).max(initial=0.0) < _EXACT:
            return plain + 0.0  # -0.0 and 0.0 are one value
        if _is_text(array.type):
            strings = self._stripped(name, spelling.strings_of(array).fill_null(""), batch)
            gone = self._spelled_missing(name, strings, batch)
            numbers = spelling.to_numbers(strings).copy()
            infinite = spelling.infinite(strings) | np.isinf(numbers)
            rounded = np.isfinite(numbers) & (np.abs(numbers) >= _EXACT)
            self._count("numbers of more digits than can be told apart were rounded", rounded, batch, name, strings)
            wrong = ~gone & np.isnan(numbers) & ~infinite
            self._count("text where a number belongs was taken for missing", wrong, batch, name, strings)
        else:
            numbers = np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            infinite = np.isinf(numbers)
        self._count("infinite numbers were taken for missing", infinite, batch, name)
        numbers[infinite] = np.nan
        numbers += 0.0  # -0.0 and 0.0 are one value
        self._count(f"missing values in {name!r}", np.isnan(numbers), batch)
        return numbers

    def _seconds(self, name: str, array: pa.Array, batch: Batch) -> npt.NDArray[np.float64]:
        if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
            zone = array.type.tz if pa.types.is_timestamp(array.type) else None
            micros = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
            seconds = np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64) / 1e6
        else:
            strings = self._stripped(name, spelling.strings_of(array).fill_null(""), batch)
            gone = self._spelled_missing(name, strings, batch)
            seconds = spelling.to_seconds(strings)
            wrong = ~gone & np.isnan(seconds)
            self._count("text where a date belongs was taken for missing", wrong, batch, name, strings)
        self._count(f"missing values in {name!r}", np.isnan(seconds), batch)
        return seconds

    def _number_target(self, raw: RawColumn | None, batch: Batch) -> npt.NDArray[np.float32]:
        array = pa.nulls(len(batch), pa.float64()) if raw is None else pa.array(raw)
        return self._numbers(self.signature.target, array, batch).astype(np.float32)

    def _codes(self, raw: RawColumn | None, batch: Batch) -> npt.NDArray[np.int32]:
        if raw is None:
            return np.full(len(batch), -1, np.int32)
        original = spelling.strings_of(pa.array(raw)).fill_null("")
        words = self._stripped(self.signature.target, original, batch).dictionary_encode()
        values = words.dictionary.to_pylist()
        gone = spelling.missing(words.dictionary) if len(values) else np.empty(0, bool)
        counts = np.bincount(words.indices.to_numpy(), minlength=len(values))
        codes = np.full(len(values), -1, np.int32)
        for i, value in enumerate(values):
            code = self._exact.get(value, -1)
            if code < 0 and not gone[i]:
                code = self._forms.get(spelling.label_form(value), -1)
                if code >= 0:
                    said = f"{value!r} is {self.signature.labels[code]!r}"
                    self.tally.add("variant spellings of a label were merged", int(counts[i]), [said])
                else:
                    self.tally.add("labels of no known class were taken for unlabelled", int(counts[i]), [repr(value)])
            codes[i] = code
        rows = words.indices.to_numpy()
        empty = np.array([value == "" for value in values], bool)
        self._count("samples without a label were kept, to be asked about", empty[rows], batch)
        what = "labels spelled like a missing value were taken for none; a class of that name belongs under `labels`"
        self._count(what, (gone & ~empty & (codes < 0))[rows], batch, self.signature.target, original)
        result: npt.NDArray[np.int32] = codes[rows]
        return result

    def _count(self, what: str, which: Mask, batch: Batch, name: str = "", values: pa.Array | None = None) -> None:
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


def _is_strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_text(kind: pa.DataType) -> bool:
    return _is_strings(kind) or bool(pa.types.is_dictionary(kind) or pa.types.is_boolean(kind))
