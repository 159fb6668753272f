"""What the text tasks share: which columns they read, and made-up messages for their tests."""

from __future__ import annotations

import numpy as np

from tidemill.data.schema import Field
from tidemill.data.sources import Summary
from tidemill.errors import SourceError

_TOPICS = {
    "delivery": ("parcel", "courier", "late", "arrived", "doorstep", "tracking", "快递", "包裹", "送货"),
    "payment": ("card", "charged", "invoice", "refund", "twice", "price", "付款", "退款", "发票"),
    "praise": ("lovely", "thanks", "great", "perfect", "again", "friendly", "很好", "满意", "谢谢"),
}
_FILLER = ("the", "my", "order", "was", "and", "today", "it", "about", "with", "我的", "今天", "这个", "订单")


def only_texts(source: Summary, target: str) -> bool:
    """Whether every input is text."""
    columns = [c for c in source.columns if c.name != target]
    return bool(columns) and all(c.type == "text" for c in columns)


def text_fields(source: Summary, target: str) -> tuple[Field, ...]:
    """The text columns; where none looks like text, the categories, whose values may be short texts.

    Raises:
        SourceError: there is neither.
    """
    columns = [c for c in source.columns if c.name != target]
    texts = [c for c in columns if c.type == "text"] or [c for c in columns if c.type == "category"]
    if not texts:
        raise SourceError(
            f"there is no column of texts besides the target {target!r}",
            mend="Give a table with a column of texts, or a folder of text files in class folders.",
        )
    return tuple(Field(name=c.name, type="text", optional=c.missing > 0) for c in texts)


def made_up_messages(seed: int, rows: int, topics: int) -> list[tuple[str, list[str]]]:
    """Short messages to a shop, in two scripts, with the *topics* (at most) that each is about."""
    rng = np.random.default_rng(seed)
    names = list(_TOPICS)
    messages = []
    for row in range(rows):
        count = 1 if topics == 1 else int(rng.integers(0, topics + 1))
        about = [names[row % 3]] if topics == 1 else sorted(rng.choice(names, count, replace=False).tolist())
        words = [str(w) for w in rng.choice(_FILLER, int(rng.integers(4, 9)))]
        for topic in about:
            words += [str(w) for w in rng.choice(_TOPICS[topic], int(rng.integers(1, 4)))]
        rng.shuffle(words)
        messages.append((" ".join(words), about))
    return messages
