"""``bpe``: texts as token ids, by a tokeniser learned from the project's own texts."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Columns, Ragged, length
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep
from tidemill.features._vocabulary import as_strings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SAMPLE = 4 << 20  # characters of texts that the tokeniser is learned from
_LONGEST = 4096  # characters of one text among them
_ROW = 8  # characters that a row among them counts for besides its own: a list of empty texts takes memory too
_CHARACTERS = 16  # a token has fewer on average, so this many times the length is all that is looked at of a text
_QUANTILE = 0.98
_SEPARATOR, _RESERVED = 1, 2  # 0 is padding, 1 stands between columns; the tokeniser's own ids follow


class Bpe(FeatureStep):
    """Ragged strings to int32 ``tokens`` ``[n, length]``; 0 is padding, and 1 stands between two columns.

    Byte pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909) over UTF-8 bytes: no text is beyond its
    vocabulary, whatever the script. It is learned from an even sample of the training rows of about four million
    characters, so memory stays flat. Texts are brought to Unicode's form NFKC first, and to lower case unless told
    otherwise.

    Args:
        columns: text columns, joined in this order.
        vocabulary: number of ids, at least 512; ``None`` is one for every 256 bytes of the sample, from 512 to 16,384.
        max_length: most tokens of a row, the rest is cut off; the length is what 98 % of the training rows need.
        lowercase: treat capitals like small letters.

    Raises:
        ConfigError: *vocabulary* or *max_length* is out of range.
    """

    name: ClassVar[str] = "bpe"
    handles: ClassVar[tuple[FieldType, ...]] = ("text",)

    def __init__(
        self, columns: list[str], *, vocabulary: int | None = None, max_length: int = 256, lowercase: bool = True
    ) -> None:
        super().__init__(columns)
        limits = (("vocabulary", vocabulary, 512, 1 << 17), ("max_length", max_length, 8, 8192))
        for name, value, low, high in limits:
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value}", where="feature step bpe", mend=f"Give a number from {low} to {high}."
                )
        self._size, self._most, self._lowercase = vocabulary, max_length, lowercase
        self._length = max_length
        self._sample: list[list[str]] = []
        self._stride, self._skip, self._kept = 1, 0, 0
        self._tokens: list[str] = []
        self._merges: list[tuple[str, str]] = []
        self._tokenizer: Tokenizer | None = None

    def observe(self, chunk: Columns) -> None:
        rows = length(chunk)
        columns = [as_strings(chunk[name]) for name in self.columns]
        for row in range(self._skip, rows, self._stride):
            texts = [column[row][:_LONGEST] for column in columns]
            self._sample.append(texts)
            self._kept += _cost(texts)
        self._skip = (self._skip - rows) % self._stride
        while self._kept > _SAMPLE and len(self._sample) > 1:
            self._skip += self._stride * (len(self._sample) % 2)
            self._stride *= 2
            self._skip %= self._stride
            self._sample = self._sample[::2]
            self._kept = sum(map(_cost, self._sample))

    def finish(self) -> None:
        from tokenizers import pre_tokenizers, trainers

        size = self._size
        if size is None:
            spoken = sum(len(text.encode()) for texts in self._sample for text in texts)
            size = int(np.clip(spoken // 256, 512, 16_384))
        trainer = trainers.BpeTrainer(
            vocab_size=size - _RESERVED,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            max_token_length=_CHARACTERS * 2,
        )
        tokenizer = _tokenizer([], [], lowercase=self._lowercase)
        tokenizer.train_from_iterator(chain.from_iterable(self._sample), trainer)
        model = json.loads(tokenizer.to_str())["model"]
        self._learned(sorted(model["vocab"], key=model["vocab"].__getitem__), model["merges"])
        # the longest rows of a small sample decide little, and cost a Transformer their length squared
        columns = {name: Ragged.from_strings(column) for name, column in self._by_column().items()}
        counts = sum(len(self.columns) - 1 + self._encoded(columns[name])[1] for name in self.columns)
        wanted = float(np.quantile(counts, _QUANTILE)) if self._sample else 0.0
        self._length = int(np.clip(-(-wanted // 8) * 8, 8, self._most))
        self._sample = []

    def _by_column(self) -> dict[str, list[str]]:
        return {name: [texts[i] for texts in self._sample] for i, name in enumerate(self.columns)}

    def _learned(self, tokens: list[str], merges: list[tuple[str, str]]) -> None:
        known = set(tokens)
        for one, other in merges:
            if not {one, other, one + other} <= known:
                raise ValueError(f"the merge of {one!r} and {other!r} is not in the vocabulary")
        self._tokens, self._merges = tokens, [(one, other) for one, other in merges]
        self._tokenizer = _tokenizer(self._tokens, self._merges, lowercase=self._lowercase)

    def _encoded(self, column: Column) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """A column's ids end to end, and how many each row has."""
        if self._tokenizer is None:
            raise RuntimeError("bpe: transform before finish or restore")
        strings = as_strings(column)
        cut = self._most * _CHARACTERS
        texts = [strings[row][:cut] for row in range(len(strings))]
        encode = self._tokenizer
        found = [encode.encode(texts[0])] if len(texts) == 1 else encode.encode_batch_fast(texts)
        ids = [encoding.ids for encoding in found]
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(chain.from_iterable(ids), np.int32, int(counts.sum())) + _RESERVED, counts

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        rows = length(columns)
        out = np.zeros((rows, self._length), np.int32)
        ends = np.zeros(rows, np.int64)
        for i, name in enumerate(self.columns):
            if i:
                fits = np.flatnonzero(ends < self._length)
                out[fits, ends[fits]] = _SEPARATOR
                ends += 1
            ids, counts = self._encoded(columns[name])
            row = np.repeat(np.arange(rows), counts)
            place = np.arange(len(ids)) + np.repeat(ends - (np.cumsum(counts) - counts), counts)
            fits = np.flatnonzero(place < self._length)
            out[row[fits], place[fits]] = ids[fits]
            ends += counts
        return {"tokens": out}

    def info(self) -> dict[str, FeatureInfo]:
        meta = {"vocabulary": len(self._tokens) + _RESERVED, "pad": 0}
        return {"tokens": FeatureInfo("int32", (self._length,), meta)}

    def state(self) -> dict[str, Any]:
        return {"tokens": self._tokens, "merges": [list(pair) for pair in self._merges], "length": self._length}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._length = int(state["length"])
        if not 1 <= self._length <= self._most:
            raise ValueError(f"length is {self._length}")
        self._learned([str(token) for token in state["tokens"]], [(str(one), str(two)) for one, two in state["merges"]])


def _cost(texts: list[str]) -> int:
    return _ROW + sum(map(len, texts))


def _tokenizer(tokens: list[str], merges: list[tuple[str, str]], *, lowercase: bool) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    forms: list[Any] = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(forms)
    # a blank before the first word too, so that it is the same token at the beginning as later
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer
