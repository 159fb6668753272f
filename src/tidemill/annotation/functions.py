"""Labelling functions: short rules that guess a label, or say nothing.

A pattern in ``tidemill.yaml`` is one, and so is every function of the project's ``labelling.py`` whose name begins with
``label_``. It is given a row's inputs by name and returns a label, or ``None``:

>>> def label_shouts(row):
...     return "spam" if row["text"].isupper() else None
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.annotation.label_model import SILENT, Votes
from tidemill.config import Config
from tidemill.data.arrays import Columns, Ragged, length
from tidemill.data.encode import decode_row
from tidemill.data.schema import Signature
from tidemill.errors import ConfigError, InputError
from tidemill.tasks import load_file

PREFIX = "label_"
_MOST_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class LabellingFunction:
    """One rule.

    Attributes:
        name: what it is called.
        vote: a row's inputs, as a request has them, to a label or ``None``.
        marks: what changes when the rule does.
    """

    name: str
    vote: Callable[[Mapping[str, Any]], Any]
    marks: str


def labelling_functions(config: Config, folder: Path) -> list[LabellingFunction]:
    """The project's functions: patterns first, then those of its files.

    Args:
        config: of the project.
        folder: where its files lie.

    Raises:
        ConfigError: a file cannot be imported, or two functions share a name.
    """
    found = [_pattern(f.name or f.pattern, f.pattern, f.column, f.label) for f in config.annotation.functions]
    for name in config.annotation.files:
        path = folder / name
        if not path.is_file():
            if name != "labelling.py":
                raise ConfigError(f"there is no file {name}", where="tidemill.yaml, annotation.files")
            continue
        module = load_file(path)
        text = path.read_text(encoding="utf-8")
        for attribute, member in vars(module).items():
            if attribute.startswith(PREFIX) and inspect.isfunction(member) and member.__module__ == module.__name__:
                found.append(LabellingFunction(attribute.removeprefix(PREFIX), member, text))
    names = [f.name for f in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(
            f"two labelling functions are called {twice[0]!r}",
            where="tidemill.yaml, annotation",
            mend="Give one of them another name.",
        )
    return found


def _pattern(name: str, pattern: str, column: str | None, label: str) -> LabellingFunction:
    compiled = re.compile(pattern)

    def vote(row: Mapping[str, Any]) -> str | None:
        if column is not None and column not in row:
            raise KeyError(column)
        values = row.values() if column is None else [row[column]]
        texts = (str(value)[:_MOST_TEXT] for value in values if isinstance(value, str | int | float))
        return label if any(compiled.search(text) for text in texts if not text.startswith("data:image/")) else None

    return LabellingFunction(name, vote, f"{pattern}\n{column}\n{label}")


def votes_of(
    functions: Sequence[LabellingFunction], signature: Signature, columns: Columns, rows: Sequence[int] | None = None
) -> Votes:
    """What every function says of rows, codes int64 ``[n, m]``, :data:`~tidemill.annotation.label_model.SILENT` where
    it says nothing.

    Args:
        functions: in the order of the columns of the result.
        signature: names inputs and labels; of one label a row.
        columns: the inputs.
        rows: which of their rows; all unless given.

    Raises:
        ConfigError: a function fails on a row, or names a label or column that there is not.
    """
    codes = {label: code for code, label in enumerate(signature.labels)}
    wanted = range(length(columns)) if rows is None else rows
    votes = np.full((len(wanted), len(functions)), SILENT, np.int64)
    texts_only = all(isinstance(column, Ragged) for column in columns.values())
    for place, row in enumerate(wanted):
        inputs = (
            {name: column[row] for name, column in columns.items() if isinstance(column, Ragged)}
            if texts_only
            else decode_row(signature, columns, int(row))
        )
        for j, function in enumerate(functions):
            votes[place, j] = _code(function, inputs, codes)
    return votes


def _code(function: LabellingFunction, inputs: Mapping[str, Any], codes: Mapping[str, int]) -> int:
    try:
        said = function.vote(inputs)
    except KeyError as error:
        raise ConfigError(
            f"the labelling function {function.name!r} asks for {error.args[0]!r}, which is no input",
            mend=f"The inputs are {', '.join(inputs)}.",
        ) from None
    except Exception as error:  # whatever a user's own function does is told as its fault
        raise ConfigError(
            f"the labelling function {function.name!r} failed: {type(error).__name__}: {error}",
            mend="Let it return None for rows of which it says nothing.",
        ) from error
    if said is None:
        return SILENT
    if str(said) not in codes:
        raise ConfigError(
            f"the labelling function {function.name!r} says {said!r:.80}, which is no label",
            mend=f"The labels are {', '.join(list(codes)[:20])}.",
        )
    return codes[str(said)]


def require_classes(signature: Signature) -> None:
    """Refuse labelling functions where answers are no single label.

    Raises:
        InputError: they are several labels, or numbers.
    """
    if signature.kind != "classification":
        what = "several labels" if signature.kind == "multilabel" else "numbers"
        raise InputError(
            f"labelling functions vote for one label, and this task has {what}",
            where="tidemill.yaml, annotation.functions",
            mend="Remove them.",
        )
