"""``tokenizer``: texts as the token ids of a pretrained model, by its own tokeniser."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.checkpoints import open_checkpoint
from tidemill.checkpoints.tokens import Tokens, tokeniser
from tidemill.data.arrays import Columns, length
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep
from tidemill.features._vocabulary import as_strings

LONGEST = 8192


class Tokenizer(FeatureStep):
    """Ragged strings to int32 ``tokens`` ``[n, length]``: 0 is padding, and every id of the checkpoint is one larger.

    The package carries the whole tokeniser, so answering needs no checkpoint.

    Args:
        columns: text columns, joined in this order by a line break.
        checkpoint: whose tokeniser: ``folder:PATH``, ``hub:OWNER/NAME@REVISION`` or ``package:NAME``.
        max_length: most tokens of a row, its marks included; ``None`` is 128, or fewer where the checkpoint takes no
            more.

    Raises:
        ConfigError: *max_length* is out of range.
    """

    name: ClassVar[str] = "tokenizer"
    handles: ClassVar[tuple[FieldType, ...]] = ("text",)
    learns: ClassVar[bool] = False

    def __init__(self, columns: list[str], *, checkpoint: str | None = None, max_length: int | None = None) -> None:
        super().__init__(columns)
        self._checkpoint = checkpoint
        self._most = checked_length(max_length, self.name)
        self._tokens: Tokens | None = None

    def observe(self, chunk: Columns) -> None:
        """Nothing is learned from the rows."""

    def finish(self) -> None:
        if self._checkpoint is None:
            raise ConfigError(
                "step tokenizer is not told whose tokens", where="the recipe's features", mend="Name a checkpoint."
            )
        self._tokens = tokeniser(open_checkpoint(self._checkpoint), self._most)

    @property
    def tokens(self) -> Tokens:
        """The tokeniser."""
        if self._tokens is None:
            raise RuntimeError("tokenizer: transform before finish or restore")
        return self._tokens

    def packed(self) -> FeatureStep | None:
        """The same without the checkpoint's name, which means nothing elsewhere."""
        if self._checkpoint is None:
            return None
        alone = Tokenizer(self.columns)
        alone.restore(self.state())
        return alone

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {"tokens": self.tokens(joined(columns, self.columns))}

    def info(self) -> dict[str, FeatureInfo]:
        meta = {"vocabulary": self.tokens.vocabulary, "pad": 0}
        return {"tokens": FeatureInfo("int32", (self.tokens.length,), meta)}

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self.tokens.told, "length": self.tokens.length}

    def restore(self, state: Mapping[str, Any]) -> None:
        told, most = state["tokenizer"], int(state["length"])
        if not isinstance(told, dict) or not 1 <= most <= LONGEST:
            raise ValueError(f"the tokeniser is a {type(told).__name__}, and its length {most}")
        self._tokens = Tokens(told, most)


def checked_length(given: int | None, step: str) -> int | None:
    """A length from 8 to :data:`LONGEST`, or ``None``.

    Raises:
        ConfigError: it is not.
    """
    if given is not None and not 8 <= given <= LONGEST:
        mend = f"Give a number from 8 to {LONGEST}."
        raise ConfigError(f"max_length is {given}", where=f"feature step {step}", mend=mend)
    return given


def joined(columns: Columns, names: list[str]) -> list[str]:
    """The texts of all named columns, row by row, with a line break between two columns."""
    parts = [as_strings(columns[name]) for name in names]
    rows = length({name: columns[name] for name in names})
    if len(parts) == 1:
        return [parts[0][row] for row in range(rows)]
    return ["\n".join([part[row] for part in parts]) for row in range(rows)]


def longest_first(tokens: npt.NDArray[np.int32], at_once: int) -> list[npt.NDArray[np.int64]]:
    """Row numbers in groups of similar length, the longest first, each of at most *at_once* tokens with padding.

    >>> [rows.tolist() for rows in longest_first(np.array([[5, 0, 0], [5, 6, 7], [5, 6, 0]], np.int32), 4)]
    [[1], [2, 0]]
    """
    counts = np.maximum((tokens != 0).sum(axis=1), 1)
    order = np.argsort(-counts, kind="stable")
    groups, start = [], 0
    while start < len(order):
        stop = start + max(1, at_once // int(counts[order[start]]))
        groups.append(order[start:stop])
        start = stop
    return groups
