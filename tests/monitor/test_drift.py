"""Drift: large where the data moved, silent where chance or a million rows did it, and said in plain words."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance
from sklearn.datasets import load_digits

from tidemill.data.arrays import Column, Ragged
from tidemill.data.describe import describe, describe_numbers
from tidemill.data.schema import Field, FieldType
from tidemill.monitor.drift import chi_squared, compare_words, drift, holm, label_counts
from tidemill.records import JSON


def moved(before: Column, after: Column, kind: FieldType = "number") -> JSON:
    [found] = drift(
        [Field(name="x", type=kind)],
        {"x": describe(before, kind)},
        {"x": describe(after, kind)},
        names=("train", "test"),
    )
    return found


def of(found: JSON, what: str) -> JSON:
    return next(d for d in found["differences"] if d["of"] == what)


def lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_statistics_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for n, m, shift in ((400, 300, 0.3), (30_000, 20_000, 0.05), (40, 4000, 1.0)):
        a, b = rng.gamma(2, size=n), rng.gamma(2, size=m) + shift
        values = of(moved(a, b), "values")
        assert values["statistics"]["ks"] == pytest.approx(ks_2samp(a, b).statistic, abs=0.004)
        assert values["statistics"]["wasserstein"] == pytest.approx(wasserstein_distance(a, b) / a.std(), rel=0.03)
    whole = rng.integers(0, 9, 500).astype(float), rng.integers(1, 9, 500).astype(float)
    values = of(moved(*whole), "values")
    assert values["p"] == pytest.approx(ks_2samp(*whole, method="asymp").pvalue, rel=0.3)
    left, right = np.array([30, 50, 20, 90]), np.array([35, 41, 39, 70])
    assert chi_squared(left * 1.0, right * 1.0) == pytest.approx(chi2_contingency(np.stack([left, right])).pvalue)


def test_a_million_rows_do_not_alarm_about_nothing() -> None:
    rng = np.random.default_rng(0)
    found = moved(rng.normal(0, 1, 1_000_000), rng.normal(0.02, 1, 1_000_000))
    assert found["p"] < 1e-6 and found["effect"] == "tiny" and not found["moved"]
    values = [
        Ragged.from_strings(rng.choice(["a", "b", "c"], 300_000, p=p)) for p in ([0.5, 0.3, 0.2], [0.51, 0.29, 0.2])
    ]
    found = moved(values[0], values[1], "category")
    assert found["p"] < 1e-6 and found["effect"] == "tiny"


def test_chance_alone_hardly_ever_alarms() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        n, m = rng.integers(5, 2000, 2).tolist()
        before, after = (
            {
                "a": describe(rng.lognormal(size=size), "number"),
                "b": describe(Ragged.from_strings([str(v) for v in rng.integers(0, 90_000, size)]), "category"),
            }
            for size in (n, m)
        )
        found = drift([Field(name="a", type="number"), Field(name="b", type="category")], before, after)
        alarms += any(line["moved"] for line in found)
    assert alarms <= 4


def test_hundred_thousand_categories_that_changed_are_seen() -> None:
    rng = np.random.default_rng(0)
    before = Ragged.from_strings([f"user {i}" for i in rng.integers(0, 100_000, 60_000)])
    after = Ragged.from_strings([f"user {i}" for i in rng.zipf(1.3, 60_000) % 100_000])
    assert moved(before, after, "category")["effect"] == "large"
    again = Ragged.from_strings([f"user {i}" for i in rng.integers(0, 100_000, 60_000)])
    assert not moved(before, again, "category")["moved"]


def test_each_kind_of_change_has_its_sentence() -> None:
    rng = np.random.default_rng(0)
    hours = rng.normal(40, 5, 2000)
    assert "'x' is 20 % higher in test than in train" in moved(hours, hours * 1.2)["sentence"]
    assert "standard deviations lower" in moved(hours - 40, hours - 50)["sentence"]
    assert "is spread differently" in moved(hours, 40 + (hours - 40) * 3)["sentence"]
    day = 86_400.0
    dates = 1.7e9 + rng.random(2000) * 100 * day
    assert "50 days later in test" in moved(dates, dates + 50 * day, "date")["sentence"]
    gaps = hours.copy()
    gaps[:600] = np.nan
    assert "is missing in 30 % of test, in 0 % of train" in moved(hours, gaps)["sentence"]
    jobs = Ragged.from_strings(["cook"] * 500 + ["clerk"] * 500)
    sentence = moved(jobs, Ragged.from_strings(["cook"] * 900 + ["clerk"] * 100), "category")["sentence"]
    assert "is 'cook' in 90 % of test, in 50 % of train" in sentence or "is 'clerk' in 10 % of test" in sentence
    sentence = moved(jobs, Ragged.from_strings(["cook"] * 500 + ["pilot"] * 500), "category")["sentence"]
    assert "has 'pilot' in 50 % of test that train never has" in sentence


def test_what_cannot_be_compared_does_not_alarm() -> None:
    one, none, nothing = np.array([1.0]), np.array([np.nan, np.nan]), np.array([], np.float64)
    assert not moved(one, np.array([9.0]))["moved"]
    assert not moved(one, none)["moved"] and of(moved(none, none), "missing")["p"] is None
    assert (
        drift([Field(name="x", type="number")], {"x": describe(nothing, "number")}, {"x": describe(one, "number")})
        == []
    )
    assert drift([Field(name="x", type="number")], {}, {"x": describe(one, "number")}) == []
    empty = Ragged.from_strings(["", ""])
    for kind in ("category", "text"):
        assert not moved(empty, Ragged.from_strings(["a", "b"]), kind)["moved"]  # type: ignore[arg-type]


def test_all_missing_in_test_is_large() -> None:
    rng = np.random.default_rng(0)
    found = moved(rng.normal(size=300), np.full(300, np.nan))
    assert found["effect"] == "large" and "is missing in 100 % of test" in found["sentence"]


def test_labels_of_every_kind() -> None:
    same = label_counts(["ham", "spam"], [800, 200])
    [found] = drift([], {}, {}, labels=(same, label_counts(["ham", "spam"], [780, 220])))
    assert not found["moved"] and found["type"] == "label"
    [found] = drift([], {}, {}, labels=(same, label_counts(["egg", "ham", "spam"], [100, 400, 500])))
    assert found["effect"] == "large" and "'ham'" in found["sentence"] and found["sentence"].startswith("the label ")
    several = label_counts(["a", "b"], [500, 100], 1000), label_counts(["a", "b"], [510, 300], 1000)
    [found] = drift([], {}, {}, labels=several)
    assert (
        found["moved"]
        and found["sentence"].startswith("the label 'b' is given to 30 % of after")
        and len(found["differences"]) == 2
    )
    prices = np.random.default_rng(0).lognormal(size=(2, 900))
    [found] = drift([], {}, {}, labels=(describe_numbers(prices[0]), describe_numbers(prices[1] * 2)))
    assert found["effect"] == "large" and "higher" in found["sentence"]


def test_holm_keeps_the_order_and_leaves_out_what_is_unknown() -> None:
    assert holm([]) == [] and holm([None]) == [None]
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    found = [v for v in holm([0.001, 0.02, 0.01]) if v is not None]
    assert found == pytest.approx([0.003, 0.02, 0.02])


def test_adult_hardly_drifts(data_dir: Path) -> None:
    """Training and test rows of one census: nothing moved, although 48,842 rows could tell."""
    names: list[tuple[int, str, FieldType]] = [
        (0, "age", "number"),
        (1, "workclass", "category"),
        (3, "education", "category"),
        (12, "hours", "number"),
        (13, "country", "category"),
    ]
    sides = []
    for file in ("adult-train.csv", "adult-test.csv"):
        rows = [r for r in lines(data_dir / "adult-census" / file) if len(r) == 15]
        side: dict[str, JSON] = {}
        for at, name, kind in names:
            cells = [r[at].strip().replace("?", "") for r in rows]
            column: Column = np.array(cells, np.float64) if kind == "number" else Ragged.from_strings(cells)
            side[name] = describe(column, kind)
        sides.append(side)
    found = drift([Field(name=name, type=kind) for _, name, kind in names], *sides)
    assert len(found) == 5 and not [line["sentence"] for line in found if line["moved"]]


def test_california_parted_by_longitude_drifts(data_dir: Path) -> None:
    head, *body = lines(data_dir / "california-housing" / "housing.csv")
    rows = [dict(zip(head, line, strict=True)) for line in body]
    longitude = np.array([float(r["longitude"]) for r in rows])
    west = longitude < np.median(longitude)
    fields = [
        Field(name="longitude", type="number"),
        Field(name="latitude", type="number"),
        Field(name="population", type="number"),
        Field(name="ocean_proximity", type="category"),
    ]

    def side(mask: np.ndarray) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        for f in fields:
            cells = [r[f.name] for r, m in zip(rows, mask, strict=True) if m]
            found[f.name] = describe(
                np.array(cells, np.float64) if f.type == "number" else Ragged.from_strings(cells), f.type
            )
        return found

    found = {line["column"]: line for line in drift(fields, side(west), side(~west))}
    assert {name for name, line in found.items() if line["effect"] == "large"} >= {
        "longitude",
        "latitude",
        "ocean_proximity",
    }
    chance = np.random.default_rng(0).random(len(rows)) < 0.5
    assert not any(line["moved"] for line in drift(fields, side(chance), side(~chance)))


def news(data_dir: Path) -> dict[str, list[str]]:
    topics: dict[str, list[str]] = {}
    for row in lines(data_dir / "ag-news" / "train.csv"):
        topics.setdefault(row[0], []).append(row[2])
    return topics


def test_topics_of_the_news_use_other_words(data_dir: Path) -> None:
    topics = news(data_dir)
    found = moved(Ragged.from_strings(topics["1"]), Ragged.from_strings(topics["2"]), "text")
    assert found["effect"] == "large" and "'game'" in found["sentence"] and "'iraq'" in found["sentence"]
    assert moved(Ragged.from_strings(topics["3"]), Ragged.from_strings(topics["4"]), "text")["moved"]


def test_words_of_random_halves_agree_also_when_one_is_small(data_dir: Path) -> None:
    texts = [text for topic in news(data_dir).values() for text in topic]
    rng = np.random.default_rng(0)
    for size in (120, 900):
        p: list[Any] = []
        for _ in range(7):
            order = rng.permutation(len(texts))
            a, b = (
                describe(Ragged.from_strings([texts[i] for i in part]), "text")
                for part in (order[:1500], order[1500 : 1500 + size])
            )
            [words] = compare_words(a, b, ("a", "b"))
            assert words.size < 1
            p.append(words.p)
        assert sum(v < 0.05 for v in p) <= 2


def test_darker_digits_are_seen() -> None:
    images = (load_digits().images * 15.9).astype(np.uint8)[..., None]
    found = moved(images[:900], (images[900:] * 0.5).astype(np.uint8), "image")
    assert found["effect"] == "large" and "darker in test" in found["sentence"]
    assert not moved(images[::2], images[1::2], "image")["moved"]
