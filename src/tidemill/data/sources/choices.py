"""Logged choices out of any table: its columns under the names that a choice's have, and nothing that could be none.

What was chosen, with which probability, and what was offered are found by their columns' names or told by the
configuration. A row without an action, or with a propensity that can be none, is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tidemill.data import spelling
from tidemill.data.offers import ACTION, EVENT, FEATURE, LOGGED, OFFER, PROPENSITY, offered_text
from tidemill.data.sources._base import DISTINCT_CAP, Batch, Fault, RawColumn, Shapes, Source, Summary
from tidemill.data.sources._summary import summarise
from tidemill.errors import InputError, SourceError

ACTIONS = (ACTION, "item_id", "arm", "chosen_action", "action_id", "choice")
PROPENSITIES = (PROPENSITY, "propensity_score", "pscore", "action_prob", "probability", "prob")
OFFERS = (OFFER, "offered", "action_set")
"""Names by which columns are found, the surest first."""

_NUMBERED = ("", "Unnamed: 0", "column_1", "column 1")
"""What columns without a name come to be called; one that only numbers the rows is no context."""
_SURE = 1e-9


@dataclass(frozen=True, slots=True)
class Names:
    """What the columns of a log are called.

    Attributes:
        action: of what was chosen.
        propensity: of the probability of that choice.
        offered: of what was offered; ``None`` where everything always was.
        features: of what describes the chosen action.
    """

    action: str
    propensity: str
    offered: str | None = None
    features: tuple[str, ...] = ()


def names_in(
    columns: list[str], *, action: str | None, propensity: str | None, offered: str | None, features: tuple[str, ...]
) -> Names:
    """The names that are given, and for the others those found among *columns*.

    Raises:
        SourceError: there is no such column, or none is found.
    """
    for name in (action, propensity, offered, *features):
        if name is not None and name not in columns:
            mend = f"The columns are {', '.join(map(repr, columns[:20]))}."
            raise SourceError(f"there is no column {name!r}.", where="bandit", mend=mend)
    action = action or next((name for name in ACTIONS if name in columns), None)
    propensity = propensity or next((name for name in PROPENSITIES if name in columns), None)
    if action is None:
        mend = f"Name it as bandit.action in tidemill.yaml; the columns are {', '.join(map(repr, columns[:20]))}."
        raise SourceError("no column says what was chosen.", where="bandit.action", mend=mend)
    if propensity is None:
        raise SourceError(
            "no column says with which probability each action was chosen, and without that nothing can be learned "
            "of what would have come of another choice.",
            where="bandit.propensity",
            mend="Name the column as bandit.propensity in tidemill.yaml; of blind choices it is one over their number.",
        )
    offered = offered or next((name for name in OFFERS if name in columns), None)
    return Names(action, propensity, offered, features)


class ChoiceSource(Source):
    """Another source, read as logged choices.

    Args:
        inner: the table.
        names: which of its columns say what.
    """

    def __init__(self, inner: Source, names: Names) -> None:
        super().__init__(inner.name, inner.limits)
        self.inner = inner
        self.names = names
        self.notes = inner.notes

    def fingerprint(self) -> str:
        """The table's, and what is made of it."""
        return hashlib.sha256(f"choices 1 {self.names} {self.inner.fingerprint()}".encode()).hexdigest()

    def summary(self) -> Summary:
        """One pass over all rows; its values of the action are all names, also such as ``none``."""
        counts: Counter[str] = Counter()

        def counted() -> Iterator[Batch]:
            for batch in self.batches():
                seen = pa.array(batch.columns[ACTION]).value_counts()
                counts.update(dict(zip(seen.field(0).to_pylist(), seen.field(1).to_pylist(), strict=True)))
                yield batch

        said = summarise(self.name, counted(), self.notes)
        names = sorted(counts)[:DISTINCT_CAP]
        return replace(
            said,
            columns=tuple(
                replace(
                    column,
                    type="text",
                    missing=0,
                    distinct=len(counts),
                    examples=tuple(names[:5]),
                    values=tuple(names),
                    counts=tuple(counts[name] for name in names),
                )
                if column.name == ACTION
                else column
                for column in said.columns
            ),
        )

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows that can be choices, in order."""
        for batch in self.inner.batches(size, shapes=shapes):
            yield self._read(batch)

    def _read(self, batch: Batch) -> Batch:
        names = self.names
        action = spelling.strip(spelling.filled_strings(pa.array(batch.columns[names.action])))
        chance = _numbers(batch.columns[names.propensity])
        faults = list(batch.faults)
        good = np.ones(len(batch), np.bool_)

        def leave_out(which: npt.NDArray[np.bool_], what: str, column: str) -> None:
            rows = np.flatnonzero(which & good).tolist()
            faults.extend(Fault(batch.origin[row].as_py(), what, column) for row in rows)
            good[which] = False

        leave_out(spelling.empty(action), "choices without an action were left out", names.action)
        leave_out(np.isnan(chance), "choices without a propensity were left out", names.propensity)
        zero = "choices with a propensity of 0 were left out: what is never chosen was not chosen"
        leave_out(chance == 0, zero, names.propensity)
        wrong = "choices with a propensity that is no probability (below 0, or above 1) were left out"
        leave_out((chance < 0) | (chance > 1 + _SURE), wrong, names.propensity)
        columns: dict[str, RawColumn] = {}
        taken = {names.action, names.propensity, names.offered, *names.features}
        for name, column in batch.columns.items():
            if name in taken or (name in _NUMBERED and _counts(column)):
                continue
            if name in LOGGED or name == OFFER:
                mend = f"Rename the column {name!r}, or name it under bandit in tidemill.yaml."
                raise SourceError(f"{name!r} means something else in logged choices.", where=self.name, mend=mend)
            columns[name] = column
        columns |= {FEATURE + name.removeprefix(FEATURE): batch.columns[name] for name in names.features}
        columns[ACTION], columns[PROPENSITY] = action, pa.array(np.minimum(chance, 1.0))
        columns[EVENT] = pa.array(batch.origin).cast(pa.large_string())
        if names.offered is not None:
            offered, bad = _offered(batch.columns[names.offered], action)
            leave_out(bad, "choices of what was not offered, or of an offer that is none, were left out", OFFER)
            columns[OFFER] = offered
        if good.all():
            return Batch(columns, batch.split, batch.origin, tuple(faults))
        keep = np.flatnonzero(good)
        picked: dict[str, RawColumn] = {
            name: column[keep] if isinstance(column, np.ndarray) else pa.array(column).take(pa.array(keep))
            for name, column in columns.items()
        }
        return Batch(picked, batch.split[keep], batch.origin.take(pa.array(keep)), tuple(faults))


def _counts(column: RawColumn) -> bool:
    """Whether a column only numbers the rows."""
    if isinstance(column, np.ndarray) and column.ndim > 1:
        return False
    numbers = _numbers(column)
    return bool(len(numbers) > 1 and (np.diff(numbers) == 1).all())


def _numbers(column: RawColumn) -> npt.NDArray[np.float64]:
    array = pa.array(column)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return spelling.to_numbers(spelling.strip(spelling.filled_strings(array))).astype(np.float64)
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _offered(column: RawColumn, action: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """What each row offers, as it is stored, and which rows offer nothing that holds the chosen action."""
    array = pa.array(column)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        values = array.to_pylist()
    else:
        texts = spelling.strip(spelling.filled_strings(array)).to_pylist()
        values = [text if text.startswith("[") else text.split("|") if text else None for text in texts]
    found: list[str | None] = []
    bad = np.zeros(len(values), np.bool_)
    for row, (value, chosen) in enumerate(zip(values, action.to_pylist(), strict=True)):
        try:
            text = offered_text(value)
        except InputError:
            text, bad[row] = None, True
        found.append(text)
        if text is not None and f'"name":{_quoted(chosen)}' not in text:
            bad[row] = True
    return pa.array(found, pa.large_string()), bad


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
