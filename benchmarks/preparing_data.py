"""Made-up data for preparing.py and growth.py: a table of mixed columns, and short texts; a seed gives the same.

Words are those of AG News by how often they stand there, each class with its own, and behind them blends of two words
on the tail of Zipf's law, so that new ones turn up for ever, as names and slips do in real texts.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from _common import data_folder

CHUNK = 65_536
BLENDS = 200_000
SPELLINGS = pa.array(["", "NA", "?", "N/A", "null"], pa.large_string())
"""How CSV spells what is missing; Parquet has nulls, and these in its columns of words."""
FIRST = np.datetime64("2021-01-01T00:00", "m")
MINUTES = 4 * 365 * 24 * 60

Blocks = Callable[[int, np.random.Generator, bool], dict[str, pa.Array]]


def write_mixed(path: Path, rows: int, seed: int = 0) -> Path:
    """Six numbers, five columns of words (4 to 100,000 values), two dates, a short text, and a label that follows."""
    return write(path, rows, seed, mixed)


def write_texts(path: Path, rows: int, seed: int = 0) -> Path:
    """Texts of 5 to 20 words, and one label of four that their words tell of."""
    return write(path, rows, seed, texts)


def write(path: Path, rows: int, seed: int, make: Blocks) -> Path:
    """A CSV or a Parquet file by its suffix, a block of rows at a time."""
    rng = np.random.default_rng(seed)
    spelled = path.suffix == ".csv"
    writer: Any = None
    for start in range(0, rows, CHUNK):
        block = pa.table(make(min(CHUNK, rows - start), rng, spelled))
        writer = writer or (pacsv.CSVWriter if spelled else pq.ParquetWriter)(path, block.schema)
        writer.write_table(block)
    writer.close()
    return path


def mixed(n: int, rng: np.random.Generator, spelled: bool) -> dict[str, pa.Array]:
    """One block of :func:`write_mixed`."""
    age = rng.integers(18, 90, n)
    amount = np.round(rng.lognormal(3, 1, n), 2)
    channel = rng.integers(0, 4, n)
    numbers = {
        "age": (pa.array(age), 0.03),
        "amount": (pa.array(amount), 0.05),
        "balance": (pa.array(np.round(rng.normal(0, 1000, n), 2)), 0.1),
        "score": (pa.array(np.round(rng.random(n), 6)), 0.0),
        "visits": (pa.array(rng.poisson(4, n)), 0.02),
        "distance": (pa.array(np.round(rng.exponential(12, n), 3)), 0.01),
    }
    words = {
        "channel": (names("channel", channel), 0.0),
        "region": (names("region", rng.integers(0, 12, n)), 0.02),
        "product": (names("product", zipf(rng, 300, n)), 0.0),
        "shop": (names("shop", zipf(rng, 5_000, n)), 0.01),
        "customer": (names("customer", rng.integers(0, 100_000, n)), 0.0),
    }
    ordered = FIRST + rng.integers(0, MINUTES, n).astype("timedelta64[m]")
    due = (ordered + rng.integers(1, 60, n).astype("timedelta64[D]")).astype("datetime64[D]")
    moments = {"ordered": (pa.array(ordered.astype("datetime64[s]")), 0.01), "due": (pa.array(due), 0.05)}
    columns = {
        name: gaps(column, share, rng, spelled, words=name in words)
        for name, (column, share) in {**numbers, **words, **moments}.items()
    }
    topic = rng.integers(0, 4, n)
    yes = age / 40 + np.log(amount) + (channel == 1) + (topic == 2) + rng.normal(0, 1, n) > 5.5
    label = pa.array(np.where(yes, "yes", "no"), pa.large_string())
    return {**columns, "note": sentences(topic, rng, 3, 8), "label": label}


def texts(n: int, rng: np.random.Generator, _spelled: bool) -> dict[str, pa.Array]:
    """One block of :func:`write_texts`."""
    topic = rng.integers(0, 4, n)
    label = pa.array(["world", "sports", "business", "science"], pa.large_string()).take(pa.array(topic))
    return {"text": sentences(topic, rng, 5, 20), "label": label}


def names(stem: str, codes: npt.NDArray[Any]) -> pa.Array:
    return pc.binary_join_element_wise(stem, pa.array(codes).cast(pa.string()), " ").cast(pa.large_string())


def zipf(rng: np.random.Generator, values: int, n: int) -> npt.NDArray[np.int64]:
    """Codes from 0 whose frequency falls as one over their rank."""
    shares = np.cumsum(1 / np.arange(1, values + 1))
    return np.searchsorted(shares, rng.random(n) * shares[-1])


def gaps(column: pa.Array, share: float, rng: np.random.Generator, spelled: bool, *, words: bool) -> pa.Array:
    """A column in which a share of the values is missing, in one of the spellings where it is text."""
    gone = pa.array(rng.random(len(column)) < share)
    if not spelled and not words:
        return pc.if_else(gone, pa.scalar(None, column.type), column)
    spelling = SPELLINGS.take(pa.array(rng.integers(0, len(SPELLINGS), len(column))))
    return pc.if_else(gone, spelling, column.cast(pa.large_string()))


def sentences(topic: npt.NDArray[np.int64], rng: np.random.Generator, low: int, high: int) -> pa.Array:
    """Words drawn for each text's class, *low* to *high* of them."""
    spelled, shares = vocabulary()
    sizes = rng.integers(low, high + 1, len(topic))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    drawn = rng.random(offsets[-1])
    of = np.repeat(topic, sizes)
    places = np.empty(len(drawn), np.int64)
    for one in range(4):
        mine = of == one
        places[mine] = np.searchsorted(shares[one], drawn[mine] * shares[one][-1])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), spelled.take(pa.array(places)))
    return pc.binary_join(lists, pa.scalar(" ", pa.large_string()))


@cache
def vocabulary() -> tuple[pa.Array, list[npt.NDArray[np.float64]]]:
    """All words, and for each of the four classes the running sum of their shares."""
    counts = [Counter[str]() for _ in range(4)]
    for code, title, body in articles():
        counts[code].update(f"{title} {body}".split())
    known = sorted(set().union(*counts))
    rng = np.random.default_rng(0)
    halves = rng.integers(0, len(known), (2, BLENDS)).tolist()
    blends = [
        known[a][: (len(known[a]) + 1) // 2] + known[b][len(known[b]) // 2 :] for a, b in zip(*halves, strict=True)
    ]
    tail = 1 / np.arange(len(known), len(known) + BLENDS)
    shares = []
    for one in counts:
        own = np.array([one[word] for word in known], np.float64)
        shares.append(np.cumsum(np.concatenate([own / own.sum(), tail / np.log(len(known))])))
    return pa.array([*known, *blends], pa.large_string()), shares


def articles() -> Iterator[tuple[int, str, str]]:
    with (data_folder("ag-news") / "train.csv").open(newline="", encoding="utf-8") as file:
        for code, title, body in csv.reader(file):
            yield int(code) - 1, title, body
