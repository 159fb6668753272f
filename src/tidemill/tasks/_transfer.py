"""Recipes that start from a checkpoint: frozen, with adapters, and fine-tuned as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from tidemill.data.schema import Signature
from tidemill.records import JSON, Recipe
from tidemill.tasks._recipes import PIXELS

Depth = Literal["frozen", "lora", "full"]

_FINE: JSON = {"passes": 0.3, "batch_size": 32, "warmup": 0.1, "average": 0.0, "clip": 1.0, "label_smoothing": 0.0}
_LORA: JSON = {**_FINE, "learning_rate": 1e-3, "head_rate": 3.0}
_FULL: JSON = {**_FINE, "learning_rate": 1e-4, "head_rate": 10.0, "layer_decay": 0.9, "unfreeze": 0.2}
_COMMON = frozenset(
    (
        *(
            "the",
            "of",
            "and",
            "to",
            "in",
            "a",
            "is",
            "that",
            "for",
            "on",
            "with",
            "was",
            "as",
            "at",
            "by",
            "it",
            "from",
        ),
        *("are", "be", "this", "an", "have", "not", "you", "i", "my", "we"),
    )
)
_ENOUGH, _MOST_FOREIGN = 0.1, 0.1


def reads(signature: Signature) -> Literal["text", "image"] | None:
    """What a checkpoint must read to be started from here; ``None`` where none can be."""
    if signature.kind not in ("classification", "multilabel", "regression"):
        return None
    types = {field.type for field in signature.inputs}
    if types == {"text"}:
        return "text"
    return "image" if types == {"image"} and len(signature.inputs) == 1 else None


def transfer_recipes(
    task: str,
    name: str,
    reference: str,
    kind: Literal["text", "image"],
    depths: Iterable[Depth],
    *,
    licence: str | None = None,
    max_length: int | None = None,
    side: int | None = None,
) -> list[Recipe]:
    """A recipe for each depth, named ``NAME-frozen``, ``NAME-lora`` and ``NAME-full``.

    Args:
        reference: of the checkpoint, see :mod:`tidemill.checkpoints`.
        kind: what it reads.
        max_length: most tokens of a text.
        side: pixels that images are brought to.
    """
    size: JSON = {"max_length": max_length} if kind == "text" and max_length is not None else {}
    place: JSON = {"side": side} if kind == "image" and side is not None else {}
    encoded: Sequence[JSON] = ({"step": "encoder", "checkpoint": reference, **size, **place},)
    raw = ({"step": "tokenizer", "checkpoint": reference, **size},) if kind == "text" else PIXELS
    made = []
    for depth in depths:
        if depth == "frozen":
            network, params, space = None, {"method": "ridge"}, {}
        else:
            adapter = {"adapter": "lora"} if depth == "lora" else {}
            network = {"name": "pretrained", "checkpoint": reference, **adapter, **place}
            params = dict(_LORA if depth == "lora" else _FULL)
            low, high = (2e-4, 5e-3) if depth == "lora" else (2e-5, 5e-4)
            space = {"learning_rate": {"type": "float", "low": low, "high": high, "log": True}}
        made.append(
            Recipe(
                name=f"{name}-{depth}",
                task=task,
                learner="closed_form" if depth == "frozen" else "gradient",
                features=tuple(encoded if depth == "frozen" else raw),
                network=network,
                params=params,
                space=space,
                init={"checkpoint": reference},
                licence=licence,
            )
        )
    return made


def english(texts: Sequence[str]) -> bool:
    """Whether most of what is written there is English: its commonest words, and few letters of other scripts.

    >>> english(["The parcel was late, and I have not heard of it."]), english(["Das Paket kam zu spät."])
    (True, False)
    """
    words = [word.strip(".,;:!?\"'()").lower() for text in texts for word in text.split()]
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    if not words or not letters:
        return False
    foreign = sum(not letter.isascii() for letter in letters) / len(letters)
    return sum(word in _COMMON for word in words) / len(words) >= _ENOUGH and foreign < _MOST_FOREIGN
