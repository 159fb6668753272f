"""What a column's values are like, as JSON that can be drawn and compared with another sample's.

Everything here takes a sample that is in memory and says how many rows it has; what is sampled, and from what, is for
the caller to say (:mod:`tidemill.data.profile`). Besides the figures for people, each description carries a sketch by
which :mod:`tidemill.monitor.drift` compares it: points of the distribution function for numbers, counts by value for
categories, counts by hashed word for texts. Keys that begin with ``_`` are such sketches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Ragged
from tidemill.data.keys import hash_strings, mix
from tidemill.data.schema import FieldType
from tidemill.records import JSON

POINTS = 512
"""Of a distribution function; one with no more distinct values is kept as it is."""
VALUES = 256
"""Of a category; counts of those with more go into :data:`BUCKETS` as well."""
BUCKETS = 512
GROUPS = 8
"""The texts of a sample are counted in so many random groups, from which the spread of the counts is known."""
TEXTS = 10_000
"""Texts whose words are counted."""
LONGEST = 2000
"""Characters of a text that are read for words and scripts."""
SHOWN = 200
"""Characters of a category's value that are kept."""

_WORDS = 400
# Scripts that put no blank between words, and pictures: every sign is a word of its own.
_ALONE = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}])"
_BETWEEN = r"[^\p{L}\p{N}\p{M}'’\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}]+"
_SCRIPTS = (
    (0x00000, "signs"), (0x00030, "digits"), (0x0003A, "signs"), (0x00041, "Latin"), (0x0005B, "signs"),
    (0x00061, "Latin"), (0x0007B, "signs"), (0x000C0, "Latin"), (0x00250, "signs"), (0x00370, "Greek"),
    (0x00400, "Cyrillic"), (0x00530, "Armenian"), (0x00590, "Hebrew"), (0x00600, "Arabic"), (0x00780, "other"),
    (0x00900, "Devanagari"), (0x00980, "other"), (0x00E00, "Thai"), (0x00E80, "other"), (0x01100, "Hangul"),
    (0x01200, "other"), (0x01E00, "Latin"), (0x01F00, "Greek"), (0x02000, "signs"), (0x02600, "emoji"),
    (0x027C0, "signs"), (0x02E80, "Han"), (0x03000, "signs"), (0x03040, "kana"), (0x03100, "other"),
    (0x03400, "Han"), (0x0A000, "other"), (0x0AC00, "Hangul"), (0x0D7B0, "other"), (0x0F900, "Han"),
    (0x0FB00, "Latin"), (0x0FB1D, "Hebrew"), (0x0FB50, "Arabic"), (0x0FE00, "signs"), (0x0FE70, "Arabic"),
    (0x0FF00, "signs"), (0x10000, "other"), (0x1F000, "emoji"), (0x1FB00, "other"), (0x20000, "Han"),
    (0x30000, "other"),
)  # fmt: skip
_STARTS = np.array([start for start, _ in _SCRIPTS], np.uint32)
_NAMES = sorted({name for _, name in _SCRIPTS})
_CODES = np.array([_NAMES.index(name) for _, name in _SCRIPTS])

Floats = npt.NDArray[np.float64]


def describe(column: Column, kind: FieldType, *, seed: int = 0, sizes: npt.NDArray[np.int64] | None = None) -> JSON:
    """What one column of a sample is like; every description has ``rows`` and ``missing``.

    Args:
        column: of the type that *kind* stands for, see :class:`tidemill.data.schema.Field`.
        kind: the field's type.
        seed: which texts fall into which group.
        sizes: for texts that were cut, int64 ``[n]``, how many bytes each had.

    Returns:
        For numbers and dates see :func:`describe_numbers`, for categories :func:`describe_values`; for texts
        ``characters`` and ``words`` as numbers, ``scripts`` (shares) and ``top``; for images ``brightness`` and
        ``contrast`` (mean and deviation of grey, 0 to 1) as numbers, and ``shape``.

    >>> describe(np.array([1.0, 2.0, np.nan]), "number")["missing"]
    1
    """
    if isinstance(column, Ragged):
        return describe_texts(column, seed, sizes) if kind == "text" else describe_values(column)
    return describe_images(column) if kind == "image" else describe_numbers(column)


def describe_numbers(values: npt.NDArray[Any]) -> JSON:
    """Numbers, NaN for missing.

    Returns:
        ``{"rows", "missing", "distinct", "whole", "mean", "std", "min", "max", "quantiles", "_values", "_cdf"}``;
        ``quantiles`` are those of 1, 5, 25, 50, 75, 95 and 99 %. Without a single value all of these are ``None``.

    >>> found = describe_numbers(np.array([3.0, 1.0, 1.0, np.nan]))
    >>> found["distinct"], found["min"], found["_values"], found["_cdf"]
    (2, 1.0, [1.0, 3.0], [0.6667, 1.0])
    """
    known = np.sort(values[~np.isnan(values)].astype(np.float64))
    n = len(known)
    found: JSON = {"rows": len(values), "missing": len(values) - n, "distinct": 0, "whole": False}
    if not n:
        names = ("mean", "std", "min", "max", "quantiles")
        return found | dict.fromkeys(names) | {"_values": [], "_cdf": []}
    first = np.flatnonzero(np.append(True, known[1:] != known[:-1]))
    distinct = known[first]
    upto = np.append(first[1:], n)
    if len(distinct) > POINTS:
        places = np.unique(np.searchsorted(upto, np.linspace(1, n, POINTS)))
        distinct, upto = distinct[places], upto[places]
    scale = max(abs(known[0]), abs(known[-1])) or 1.0  # squares of the largest floats overflow
    scaled = known / scale
    levels = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    return found | {
        "distinct": len(first),
        "whole": bool((known == np.rint(known)).all()),
        "mean": _short(float(scaled.mean() * scale)),
        "std": _short(float(scaled.std() * scale)),
        "min": float(known[0]),
        "max": float(known[-1]),
        "quantiles": {f"{level:g}": float(known[min(int(level * n), n - 1)]) for level in levels},
        "_values": distinct.tolist(),
        "_cdf": np.round(upto / n, 4 if n < 5000 else 6).tolist(),
    }


def describe_values(column: Ragged) -> JSON:
    """Categories, the empty string for missing.

    Returns:
        ``{"rows", "missing", "distinct", "top", "_buckets"}``; ``top`` are up to 256 ``[value, count]``, the most
        frequent first; ``_buckets`` counts of hashed values where there are more, else ``None``.
    """
    counted = column.to_arrow().value_counts()
    values, counts = counted.field("values"), np.asarray(counted.field("counts"), np.int64)
    present = np.asarray(pc.not_equal(values, ""), bool)
    missing = int(counts[~present].sum())
    values, counts = values.filter(pa.array(present)), counts[present]
    order = np.argsort(-counts, kind="stable")[:VALUES]
    top = zip(values.take(pa.array(order)).to_pylist(), counts[order].tolist(), strict=True)
    buckets = None
    if len(values) > VALUES:
        places = (mix(hash_strings(Ragged.from_arrow(values))) % np.uint64(BUCKETS)).astype(np.int64)
        buckets = np.bincount(places, counts, BUCKETS).astype(np.int64).tolist()
    return {
        "rows": len(column),
        "missing": missing,
        "distinct": len(values),
        "top": [[value[:SHOWN], count] for value, count in top],
        "_buckets": buckets,
    }


def describe_texts(column: Ragged, seed: int = 0, sizes: npt.NDArray[np.int64] | None = None) -> JSON:
    """Texts, the empty string for missing.

    Returns:
        ``{"rows", "missing", "distinct", "read", "characters", "words", "scripts", "top", "_groups", "_words"}``:
        ``read`` is the number of texts whose first 2,000 characters were read for words and scripts; ``top`` the words
        in most of them, ``_groups`` for each of 8 random groups of texts the number of texts, then the number of texts
        with a word of each bucket.
    """
    text = column.to_arrow()
    present = pc.not_equal(text, "")
    missing = len(text) - int(pc.sum(present).as_py() or 0)
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.asarray(present, bool))
    if len(known) > TEXTS:
        known = np.sort(rng.choice(known, TEXTS, replace=False))
    read = pc.utf8_slice_codeunits(text.take(pa.array(known)), 0, LONGEST)
    lists = _split(read)
    characters = np.asarray(pc.utf8_length(text), np.float64)
    if sizes is not None:  # a text that was cut is about as much longer in characters as it is in bytes
        characters = np.rint(characters * (sizes / np.maximum(column.offsets[1:] - column.offsets[:-1], 1)))
    return {
        "rows": len(text),
        "missing": missing,
        "distinct": int(pc.count_distinct(text).as_py()) - (missing > 0),
        "read": len(read),
        "characters": describe_numbers(characters[characters > 0]),
        "words": describe_numbers(np.asarray(pc.list_value_length(lists), np.float64)),
        "scripts": _scripts(read),
        **_vocabulary(lists, rng),
    }


def _split(texts: pa.Array) -> pa.Array:
    spaced = pc.replace_substring_regex(texts, _ALONE, r" \1 ")
    trimmed = pc.replace_substring_regex(pc.utf8_lower(spaced), rf"^{_BETWEEN}|{_BETWEEN}$", "")
    lists = pc.split_pattern_regex(trimmed, _BETWEEN)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar([], lists.type), lists)


def _vocabulary(lists: pa.Array, rng: np.random.Generator) -> JSON:
    """In how many texts each word stands."""
    group = rng.permutation(len(lists)) % GROUPS
    counts = np.zeros((GROUPS, BUCKETS + 1), np.int64)
    counts[:, 0] = np.bincount(group, minlength=GROUPS)
    words = pc.list_flatten(lists).dictionary_encode()
    if not len(words):
        return {"top": [], "_groups": counts.tolist(), "_words": []}
    text = np.asarray(pc.list_parent_indices(lists), np.int64)
    size = len(words.dictionary)
    once = np.unique(text * size + np.asarray(words.indices, np.int64))
    text, word = once // size, once % size
    bucket = (mix(hash_strings(Ragged.from_arrow(words.dictionary))) % np.uint64(BUCKETS)).astype(np.int64)
    np.add.at(counts, (group[text], bucket[word] + 1), 1)
    frequency = np.bincount(word, minlength=size)
    order = np.argsort(-frequency, kind="stable")[:_WORDS]
    top = [[w[:40], n] for w, n in zip(words.dictionary.take(pa.array(order)).to_pylist(), frequency[order].tolist(),
                                       strict=True)]  # fmt: skip
    return {"top": top[:50], "_groups": counts.tolist(), "_words": top}


def _scripts(texts: pa.Array) -> dict[str, float]:
    """The share of each script among letters, digits and pictures; signs and blanks do not count."""
    joined = "".join(texts.to_pylist())
    points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    codes = _CODES[np.searchsorted(_STARTS, points, side="right") - 1]
    counts = np.bincount(codes, minlength=len(_NAMES))
    counts[_NAMES.index("signs")] = 0
    total = int(counts.sum())
    order = np.argsort(-counts, kind="stable")
    return {_NAMES[i]: round(int(counts[i]) / total, 4) for i in order.tolist() if total and counts[i]}


def describe_images(pixels: npt.NDArray[Any]) -> JSON:
    """Images, uint8 ``[n, h, w, c]``."""
    n = len(pixels)
    mean, spread = np.empty(n), np.empty(n)
    step = max(1, (8 << 20) // max(1, int(np.prod(pixels.shape[1:]))))
    for start in range(0, n, step):
        part = np.asarray(pixels[start : start + step])
        grey = part.mean(axis=3, dtype=np.float32).reshape(len(part), -1) / np.float32(255)
        mean[start : start + step], spread[start : start + step] = grey.mean(axis=1), grey.std(axis=1)
    return {
        "rows": n,
        "missing": 0,
        "shape": list(pixels.shape[1:]),
        "blank": int((spread < 1 / 255).sum()),
        "brightness": describe_numbers(np.round(mean, 6)),
        "contrast": describe_numbers(np.round(spread, 6)),
    }


def share_below(described: JSON, points: Floats) -> Floats:
    """The share of a description's numbers that are at most each of *points*, float64 ``[k]``.

    Exact where there were at most :data:`POINTS` distinct values, else within 1 / :data:`POINTS`.

    >>> share_below(describe_numbers(np.array([1.0, 2.0, 2.0, 4.0])), np.array([0.0, 2.0, 3.0, 9.0])).tolist()
    [0.0, 0.75, 0.75, 1.0]
    """
    values, cdf = np.array(described["_values"]), np.array(described["_cdf"])
    if not len(values):
        return np.zeros(len(points))
    if described["distinct"] <= POINTS:
        steps: Floats = np.append(0.0, cdf)[np.searchsorted(values, points, side="right")]
        return steps
    return np.asarray(np.interp(points, values, cdf, left=0.0), np.float64)


def histogram_edges(described: JSON, bins: int = 24) -> list[float]:
    """Round enough edges for a histogram of a description's numbers; the outer hundredths go into the outer bins.

    Whole numbers of few values have a bin each.

    >>> histogram_edges(describe_numbers(np.array([0.0, 1.0, 1.0, 3.0])))
    [-0.5, 0.5, 1.5, 2.5, 3.5]
    """
    if not described["_values"]:
        return []
    low, high = described["quantiles"]["0.01"], described["quantiles"]["0.99"]
    if described["whole"] and described["max"] - described["min"] < bins:
        return [float(v) for v in np.arange(described["min"] - 0.5, described["max"] + 1)]
    if low == high:
        low, high = described["min"], described["max"]
    if low == high:
        return [low - 0.5, low + 0.5]
    return [low * (1 - i / bins) + high * (i / bins) for i in range(bins + 1)]  # high - low may be too large a float


def histogram(described: JSON, edges: list[float]) -> list[float]:
    """The share of a description's numbers in each bin; what lies beyond the edges is in the outer bins.

    >>> histogram(describe_numbers(np.array([0.0, 1.0, 1.0, 9.0])), [-0.5, 0.5, 1.5])
    [0.25, 0.75]
    """
    if len(edges) < 2:
        return []
    inner = share_below(described, np.array(edges[1:-1]))
    whole = 1.0 if described["_values"] else 0.0
    return [round(float(v), 5) for v in np.diff(np.concatenate([[0.0], inner, [whole]]))]


def without_sketches(value: Any) -> Any:
    """A description as people and programs read it, without the keys that begin with ``_``.

    >>> without_sketches({"rows": 2, "_cdf": [1.0], "words": [{"_values": [], "mean": 1.5}]})
    {'rows': 2, 'words': [{'mean': 1.5}]}
    """
    if isinstance(value, dict):
        return {k: without_sketches(v) for k, v in value.items() if not k.startswith("_")}
    return [without_sketches(v) for v in value] if isinstance(value, list) else value


def _short(value: float) -> float:
    return float(f"{value:.9g}")
