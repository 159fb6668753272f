"""A checkpoint's own tokeniser, as JSON of the ``tokenizers`` library: what a package carries of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.checkpoints.folder import Checkpoint
from tidemill.errors import ExtraMissingError, TrainingError

_CHARACTERS = 16  # a token has fewer on average, so this many times the length is all that is looked at of a text
_MARKS = {
    "mask": ("[MASK]", "<mask>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
}
_VOCABULARIES = ("vocab.txt", "vocab.json", "spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")
"""Where a checkpoint without ``tokenizer.json`` keeps its tokens; without one of them the library makes up some."""


class Tokens:
    """Texts to token ids, int32 ``[n, length]``: 0 is padding, and every id of the checkpoint is one larger.

    So padding is 0 whatever a checkpoint pads with.

    Args:
        told: what the ``tokenizers`` library writes as JSON.
        length: most tokens of a text, its marks included.

    Raises:
        ValueError: it is no tokeniser.
    """

    def __init__(self, told: dict[str, Any], length: int) -> None:
        from tokenizers import Tokenizer

        self.told = told
        self.length = length
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(told))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the tokeniser cannot be read ({str(error)[:200]})") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=length)

    @property
    def largest(self) -> int:
        """The largest of the checkpoint's own ids."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    @property
    def vocabulary(self) -> int:
        """How many ids there are, padding's included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True)) + 1

    def mark(self, name: str) -> int:
        """The checkpoint's own id of a mark: ``mask``, ``cls``, ``sep`` or ``pad``; -1 where it has none."""
        for written in _MARKS[name]:
            found = self._tokenizer.token_to_id(written)
            if found is not None:
                return int(found)
        return -1

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Int32 ``[n, length]``."""
        cut = self.length * _CHARACTERS
        short = [text[:cut] for text in texts]
        if len(short) == 1:
            found = [self._tokenizer.encode(short[0]).ids]
        else:
            found = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(short)]
        out = np.zeros((len(short), self.length), np.int32)
        for row, ids in enumerate(found):
            out[row, : len(ids)] = ids
            out[row, : len(ids)] += 1
        return out


def tokeniser(checkpoint: Checkpoint, length: int | None) -> Tokens:
    """The tokeniser of a checkpoint.

    Args:
        length: most tokens of a text; ``None`` is 128, or fewer where the checkpoint takes no more.

    Raises:
        TrainingError: it brings none that can be read.
    """
    folder = checkpoint.folder
    told = checkpoint.json("tokenizer.json") or _converted(checkpoint)
    most = most_tokens(checkpoint)
    try:
        tokens = Tokens(told, min(128 if length is None else length, most))
    except ValueError as error:
        raise TrainingError(str(error), where=str(folder), mend="Download or copy it again.") from error
    known = int(checkpoint.config.get("vocab_size") or 0)
    if tokens.largest >= known:
        raise TrainingError(
            f"its tokeniser gives ids up to {tokens.largest}, and the model knows {known}",
            where=str(folder),
            mend="Download or copy it again: tokeniser and weights belong together.",
        )
    return tokens


def most_tokens(checkpoint: Checkpoint) -> int:
    """How many places for tokens the checkpoint has; some count two of them for padding."""
    places = int(checkpoint.config.get("max_position_embeddings") or 512)
    return places - (2 if checkpoint.family in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0)


def _converted(checkpoint: Checkpoint) -> dict[str, Any]:
    """What older checkpoints hold in several files, brought into one."""
    folder = checkpoint.folder
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise TrainingError("it brings no tokeniser", where=str(folder), mend="Add its tokenizer.json.")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ExtraMissingError(
            "pretrained models need the package `transformers`", mend="pip install 'tidemill[transfer]'"
        ) from error
    try:
        made = AutoTokenizer.from_pretrained(str(folder), use_fast=True, trust_remote_code=False, local_files_only=True)
        told: dict[str, Any] = json.loads(made.backend_tokenizer.to_str())
    except (OSError, ValueError, AttributeError, KeyError, TypeError, ImportError) as error:
        raise TrainingError(
            "it brings no tokeniser that can be read", where=str(folder), mend="Add its tokenizer.json."
        ) from error
    return told
