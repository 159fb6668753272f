"""One pass over a source that tells the type of each column and counts its values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data import spelling
from tidemill.data.schema import FieldType
from tidemill.data.sources._base import DISTINCT_CAP, SPLIT_NAMES, Batch, ColumnSummary, Fault, RawColumn, Summary
from tidemill.data.sources._separated import LabelParts
from tidemill.errors import SourceError

TARGET_NAMES = (
    "label", "target", "class", "y", "labels", "category", "income", "outcome", "reward", "click", "clicked",
)  # fmt: skip
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_UNSPACED_PER_WORD = 2
"""Scripts without blanks between words; two of their characters count as a word."""
_EMOJI = "[\\x{1F300}-\\x{1FAFF}\\x{2600}-\\x{27BF}]"

Times: TypeAlias = "npt.NDArray[np.int64] | None"
"""How often each of some values occurs; ``None``: once."""


class ColumnCounter:
    """Counts the values of one column, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = self.empty = self.spelled_missing = 0
        self.numbers = self.whole = self.dates = 0
        self.letters = self.words = self.emoji = 0
        self.counts: dict[str, int] | None = {}
        self.examples: list[str] = []
        self.shape: tuple[int, ...] | None = None
        self.nested = False
        self.lists = False
        self.parts = LabelParts()

    def add(self, column: RawColumn) -> None:
        """Take in one chunk."""
        if isinstance(column, np.ndarray):
            if column.ndim > 1:
                self.shape = tuple(column.shape[1:])
                self.known += len(column)
                return
            column = pa.array(column)
        kind = column.type
        if is_labels(kind):
            self._lists(column)
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self.nested = True
        elif pa.types.is_temporal(kind):
            self._temporal(column)
        else:
            self._values(column)

    def _lists(self, column: pa.Array) -> None:
        """Lists of labels; an empty one is known, a null is missing."""
        self.lists = True
        self.known += len(column) - column.null_count
        self.empty += column.null_count
        labels = spelling.strip(column.flatten().cast(pa.large_string())).drop_null()
        if len(labels):
            self._distinct(labels)

    def _temporal(self, column: pa.Array) -> None:
        present = column.drop_null()
        self.known += len(present)
        self.dates += len(present)
        self.empty += column.null_count
        self._distinct(present)

    def _values(self, column: pa.Array) -> None:
        kind = column.type
        times: Times = None
        if self.counts is not None:  # each different value is looked at once, while they are few
            seen = pc.value_counts(column)
            if len(seen) <= min(3 * DISTINCT_CAP, len(column) // 2):
                column, times = seen.field(0), seen.field(1).to_numpy()
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._numbers(column, times)
            return
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        plain = spelling.numbers_and_gaps(column) if text else None
        if plain is not None:
            numbers, gone = plain
            self._missing(column, gone, times)
            self.known += _total(~gone, times)
            self.numbers += _total(~gone, times)
            self.whole += _total(numbers == np.floor(numbers), times)
            if self._counting:
                self._distinct(*_only(column, times, ~gone))
            return
        strings = spelling.strip(spelling.strings_of(column))
        gone = spelling.missing(strings)
        self._missing(strings, gone, times)
        present, times = _only(strings, times, ~gone)
        self.known += len(present) if times is None else int(times.sum())
        if not len(present):
            return
        dates = spelling.dates(present)
        numeric = np.zeros(len(present), bool)
        if not dates.all():  # none of them is a number
            numeric = spelling.numeric(present) | spelling.infinite(present)
        if not text and not pa.types.is_boolean(kind) and not pa.types.is_dictionary(kind):
            numeric[:] = True
        self.numbers += _total(numeric, times)
        self.dates += _total(dates & ~numeric, times)
        if numeric.any():
            values = spelling.to_numbers(present)
            self.whole += _total(values == np.floor(values), times)
        if not numeric.all():
            self._words(*_only(present, times, ~numeric))
        self._distinct(present, times)

    def _numbers(self, column: pa.Array, times: Times) -> None:
        """Numbers that are stored as such."""
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        known = spelling.mask(pc.is_valid(column)) & ~np.isnan(values)
        count = _total(known, times)
        self.known += count
        self.numbers += count
        self.empty += _total(~known, times)
        self.whole += _total(np.isfinite(values) & (values == np.floor(values)), times)
        if count and self._counting:
            self._distinct(*_only(column, times, known))

    def _missing(self, strings: pa.Array, gone: spelling.Mask, times: Times) -> None:
        """Count what is missing: nothing at all, or a word for it."""
        nothing = spelling.empty(strings)
        if strings.null_count:
            nothing |= spelling.mask(pc.is_null(strings))
        self.empty += _total(nothing, times)
        self.spelled_missing += _total(gone & ~nothing, times)

    def _words(self, strings: pa.Array, times: Times) -> None:
        """What tells texts from names, of stripped strings."""
        ends, data = spelling.laid_out(strings)
        space = (data == 32) | ((data >= 9) & (data <= 13) & (data != 11))
        first = space.copy()
        first[1:] &= ~space[:-1]  # no string begins with a blank
        if times is None:
            self.words += int(first.sum()) + len(strings)
        else:
            self.words += int(np.add.reduceat(first, ends[:-1], dtype=np.int64) @ times) + int(times.sum())
        if data.max(initial=0) < 0x80:
            self.letters += _summed(np.diff(ends), times)
            return
        self.letters += _summed(pc.utf8_length(strings), times)
        self.words += _summed(pc.count_substring_regex(strings, _UNSPACED), times) // _UNSPACED_PER_WORD
        self.emoji += _total(spelling.mask(pc.match_substring_regex(strings, _EMOJI)), times)

    @property
    def _counting(self) -> bool:
        """Values are still told apart."""
        return len(self.examples) < 5 or self.counts is not None or self.parts.open

    def _distinct(self, present: pa.Array, times: Times = None) -> None:
        if not self._counting:
            return
        if len(self.examples) < 5:
            for value in _as_text(present.slice(0, 200).unique()):
                if len(self.examples) < 5 and value[:80] not in self.examples:
                    self.examples.append(value[:80])
        if self.counts is None and not self.parts.open:
            return
        if times is None:
            seen = pc.value_counts(present)
            if len(seen) > 3 * DISTINCT_CAP and len(present.slice(0, 4 * DISTINCT_CAP).unique()) > 3 * DISTINCT_CAP:
                self.counts = None  # counting the rest would be in vain
                self.parts.close()
                return
            present, times = seen.field(0), seen.field(1).to_numpy()
        found: dict[str, int] = {}
        for value, count in zip(_as_text(present), times.tolist(), strict=True):
            found[value] = found.get(value, 0) + count  # two zeros, of either sign, are written alike
        if self.counts is None:
            self._split(found)
            return
        few = len(found) <= 2 * DISTINCT_CAP
        for value, count in found.items():
            self.counts[value] = self.counts.get(value, 0) + count
        if not few or len(self.counts) > DISTINCT_CAP:
            self._split(self.counts)
            self.counts = None

    def _split(self, found: dict[str, int]) -> None:
        if self.parts.open and not self.lists:
            self.parts.add(found)

    def _type(self, distinct: int) -> FieldType:
        if self.shape is not None:
            return "image"
        if not self.known:
            return "category"
        if self.numbers == self.known or (self.numbers >= 0.98 * self.known and distinct > 50):
            return "number"
        if self.dates >= 0.98 * self.known:
            return "date"
        others = max(1, self.known - self.numbers)
        wordy = self.words / others >= 3 or self.letters / others >= 24 or self.emoji / others >= 0.3
        few = max(min(20, 0.6 * self.known), 0.05 * self.known)  # a small set of texts has few of them
        return "text" if wordy and distinct > min(DISTINCT_CAP, few) else "category"

    def summary(self) -> ColumnSummary:
        """What was counted."""
        self._split(self.counts or {})
        distinct = DISTINCT_CAP + 1 if self.counts is None else len(self.counts)
        separator = None if self.lists else self.parts.separator()
        kind = "category" if self.lists or separator else self._type(distinct)
        merged = {} if self.counts is None or kind == "image" else merge_variants(self.counts)
        return ColumnSummary(
            name=self.name,
            type=kind,
            distinct=0 if kind == "image" else distinct,
            missing=self.empty + (0 if kind == "text" else self.spelled_missing),
            examples=tuple(self.examples),
            shape=self.shape,
            integers=kind == "number" and self.whole == self.numbers,
            values=tuple(merged),
            counts=tuple(merged.values()),
            lists=self.lists,
            separator=separator,
            members=tuple(merged) if self.lists else self._members(separator) if separator else (),
        )

    def _members(self, separator: str) -> tuple[str, ...]:
        """The single labels; a chunk of plain numbers was not split, but it holds no separator either."""
        alone = {v for v in self.counts or {} if separator not in v}
        return tuple(sorted({*self.parts.members(separator), *alone}))


def _total(which: spelling.Mask, times: Times) -> int:
    """How many of the values are chosen."""
    return int(np.count_nonzero(which) if times is None else times[which].sum())


def _summed(numbers: pa.Array | npt.NDArray[np.int64], times: Times) -> int:
    """The sum of one number a value."""
    each = np.asarray(numbers)
    return int(each.sum() if times is None else each @ times)


def _only(values: pa.Array, times: Times, which: spelling.Mask) -> tuple[pa.Array, Times]:
    """The chosen values, and how often each occurs."""
    if which.all():
        return values, times
    return values.filter(pa.array(which)), None if times is None else times[which]


def _as_text(values: pa.Array) -> list[str]:
    strings: list[str] = spelling.strings_of(values).to_pylist()
    return strings


def is_labels(kind: pa.DataType) -> bool:
    """A list of texts, whole numbers or truth values: several labels a row."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    item = kind.value_type
    item = item.value_type if pa.types.is_dictionary(item) else item
    return bool(
        pa.types.is_string(item)
        or pa.types.is_large_string(item)
        or pa.types.is_integer(item)
        or pa.types.is_boolean(item)
        or pa.types.is_null(item)
    )


def merge_variants(counts: dict[str, int]) -> dict[str, int]:
    """Spellings of one label merged into the most frequent one, in sorted order.

    >>> merge_variants({"<=50K": 20, "<=50K.": 9, ">50K": 5})
    {'<=50K': 29, '>50K': 5}
    """
    groups: dict[str, list[str]] = {}
    for value in counts:
        groups.setdefault(spelling.label_form(value), []).append(value)
    merged = {
        spelling.whole_number(max(g, key=lambda v: (counts[v], v))): sum(counts[v] for v in g) for g in groups.values()
    }
    return dict(sorted(merged.items()))


def summarise(name: str, batches: Iterable[Batch], notes: list[str], target: str | None = None) -> Summary:
    """The summary of a source from its batches.

    Args:
        name: the source's name, for messages.
        batches: all of them.
        notes: the source's notes; read when the batches are through.
        target: the column that the source takes for the target, if it knows.
    """
    counters: dict[str, ColumnCounter] = {}
    per_split = np.zeros(3, np.int64)
    rows = unread = 0
    first: Fault | None = None
    for batch in batches:
        rows += len(batch)
        if not rows and batch.faults:
            unread += len(batch.faults)
            first = first or batch.faults[0]
        per_split += np.bincount(batch.split[batch.split >= 0], minlength=3)
        for column_name, column in batch.columns.items():
            counters.setdefault(column_name, ColumnCounter(column_name)).add(column)
    if not rows and first is not None:
        message = f"nothing in it can be used: {first.what} ({unread:,} in all)."
        raise SourceError(message, where=f"{name}, {first.origin}", mend="Mend it, or give other data.")
    if rows == 0:
        raise SourceError("the source has no rows.", where=name, mend="Give data with at least one row.")
    nested = [c.name for c in counters.values() if c.nested]
    said = [f"column {column!r} holds nested or binary values and is left out" for column in nested]
    columns = tuple(c.summary() for c in counters.values() if not c.nested)
    return Summary(
        columns=columns,
        rows=rows,
        splits=tuple(SPLIT_NAMES[i] for i in range(3) if per_split[i]),
        notes=(*notes, *said),
        target=target if target in counters else likely_target([c.name for c in columns]),
    )


def likely_target(names: list[str]) -> str | None:
    """The column that people mean by the target: one named so, else the last."""
    lower = {n.casefold(): n for n in names}
    return next((lower[t] for t in TARGET_NAMES if t in lower), names[-1] if names else None)


def merge(summaries: list[Summary]) -> Summary:
    """One summary of several sources that are used together.

    Raises:
        SourceError: a column is of different types in two of them.
    """
    if len(summaries) == 1:
        return summaries[0]
    names = list(dict.fromkeys(c.name for s in summaries for c in s.columns))
    rows = sum(s.rows or 0 for s in summaries)
    columns = tuple(_merge_columns([(c, s.rows or 0) for s in summaries if (c := s.column(n))], rows) for n in names)
    return Summary(
        columns=columns,
        rows=rows,
        splits=tuple(n for n in SPLIT_NAMES if any(n in s.splits for s in summaries)),
        notes=tuple(dict.fromkeys(note for s in summaries for note in s.notes)),
        target=summaries[0].target,
    )


def _merge_columns(found: list[tuple[ColumnSummary, int]], rows: int) -> ColumnSummary:
    columns = [c for c, _ in found]
    first = columns[0]
    kinds = {c.type for c in columns}
    if len(kinds) > 1 and "image" in kinds:
        raise SourceError(
            f"column {first.name!r} holds images in one source and {min(kinds - {'image'})} in another.",
            mend="Give sources of one kind, or rename the column.",
        )
    if len({c.lists for c in columns if c.values}) > 1:
        raise SourceError(
            f"column {first.name!r} holds lists in one source and single values in another.",
            mend="Write it in one way in all of them.",
        )
    separators = {c.separator for c in columns} - {None}
    if len(separators) > 1:
        said = " and ".join(map(repr, sorted(separators, key=str)))
        message = f"column {first.name!r} parts its labels by {said}."
        raise SourceError(message, mend="Use one separator in all sources.")
    separator = next(iter(separators), None)
    counts: dict[str, int] = {}
    for column in columns:
        for value, count in zip(column.values, column.counts, strict=True):
            counts[value] = counts.get(value, 0) + count
    capped = any(c.distinct > DISTINCT_CAP for c in columns) or len(counts) > DISTINCT_CAP
    merged = {} if capped else merge_variants(counts)
    kind: FieldType = first.type if len(kinds) == 1 else "text" if "text" in kinds else "category"
    kind = "category" if separator else kind
    members = {m for c in columns for m in c.members}
    if separator:  # a source in which every row has a single label shows no separator
        members.update(v for c in columns if c.separator is None for v in c.values)
    return ColumnSummary(
        name=first.name,
        type=kind,
        distinct=DISTINCT_CAP + 1 if capped else len(counts),
        missing=sum(c.missing for c in columns) + rows - sum(n for _, n in found),
        examples=first.examples,
        shape=first.shape,
        integers=all(c.integers for c in columns),
        values=tuple(merged),
        counts=tuple(merged.values()),
        lists=any(c.lists for c in columns),
        separator=separator,
        members=tuple(sorted(members)) if len(members) <= DISTINCT_CAP else (),
    )
