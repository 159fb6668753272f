"""Descriptions of columns: right in figures, bounded in size, and at home in every script."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tidemill.data.arrays import Ragged
from tidemill.data.describe import (
    BUCKETS,
    POINTS,
    describe,
    describe_numbers,
    describe_values,
    histogram,
    histogram_edges,
    share_below,
    without_sketches,
)


def test_numbers_have_their_figures() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(3, 1, 50_000)
    values[:500] = np.nan
    found = describe_numbers(values)
    known = values[500:]
    assert found["rows"] == 50_000 and found["missing"] == 500 and found["distinct"] == 49_500 and not found["whole"]
    assert found["mean"] == pytest.approx(known.mean()) and found["std"] == pytest.approx(known.std())
    assert found["quantiles"]["0.5"] == pytest.approx(np.median(known), rel=1e-3)
    assert len(found["_values"]) <= POINTS and len(json.dumps(found)) < 25_000
    points = np.quantile(known, [0.001, 0.1, 0.37, 0.9, 0.999])
    np.testing.assert_allclose(share_below(found, points), [0.001, 0.1, 0.37, 0.9, 0.999], atol=1 / POINTS)
    assert share_below(found, np.array([known.min() - 1, known.max()])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [3.0], [7.0] * 9, [1.7e308, -1.7e308], [0.0, np.nan, 5e-324]])
def test_numbers_at_the_edge(values: list[float]) -> None:
    found = describe_numbers(np.array(values, np.float64))
    assert found["rows"] == len(values)
    assert "NaN" not in json.dumps(found) and "Infinity" not in json.dumps(found)
    edges = histogram_edges(found)
    shares = histogram(found, edges)
    assert len(shares) == max(0, len(edges) - 1)
    known = [v for v in values if v == v]
    assert sum(shares) == pytest.approx(1.0 if known else 0.0, abs=1e-3)
    assert found["min"] == (min(known) if known else None)


def test_whole_numbers_of_few_values_have_a_bar_each() -> None:
    found = describe_numbers(np.array([2.0, 3.0, 3.0, 5.0]))
    assert histogram(found, histogram_edges(found)) == [0.25, 0.5, 0.0, 0.25]


def test_outliers_do_not_flatten_the_histogram() -> None:
    values = np.append(np.random.default_rng(0).normal(size=10_000), [1e9, -1e9])
    found = describe_numbers(values)
    shares = histogram(found, histogram_edges(found))
    assert max(shares) < 0.15 and sum(shares) == pytest.approx(1, abs=1e-3)


def test_categories_are_counted_however_many_there_are() -> None:
    few = describe_values(Ragged.from_strings(["b", "a", "", "b", "磨"]))
    assert few["top"] == [["b", 2], ["a", 1], ["磨", 1]] and few["missing"] == 1 and few["distinct"] == 3
    assert few["_buckets"] is None
    many = describe_values(Ragged.from_strings([f"user {i}" for i in range(100_000)]))
    assert many["distinct"] == 100_000 and len(many["top"]) == 256
    assert len(many["_buckets"]) == BUCKETS and sum(many["_buckets"]) == 100_000
    assert len(json.dumps(many)) < 10_000
    long = describe_values(Ragged.from_strings(["x" * 5000]))
    assert len(long["top"][0][0]) == 200


def test_texts_in_any_script() -> None:
    texts = ["", "Ünïcode, don't stop!", "好的 东西 😀😀", "שלום עולם", "नमस्ते दुनिया", "   ", "😀", "!!!", "123 go"]
    found = describe(Ragged.from_strings(texts), "text")
    assert found["missing"] == 1 and found["rows"] == 9
    assert set(found["scripts"]) >= {"Latin", "Han", "Hebrew", "Devanagari", "emoji", "digits"}
    assert sum(found["scripts"].values()) == pytest.approx(1, abs=0.01)
    words = dict(found["top"])
    assert words["don't"] == 1 and words["好"] == 1 and words["😀"] == 2 and words["שלום"] == 1 and words["दुनिया"] == 1
    assert found["words"]["max"] == 6 and found["words"]["min"] == 0


@pytest.mark.parametrize("texts", [[], ["", ""], ["a"], ["!!!"]])
def test_texts_at_the_edge(texts: list[str]) -> None:
    found = describe(Ragged.from_strings(texts), "text")
    assert found["rows"] == len(texts) and found["read"] == sum(t != "" for t in texts)
    assert sum(row[0] for row in found["_groups"]) == found["read"]


def test_cut_texts_are_as_long_as_they_were() -> None:
    cut = Ragged.from_strings(["é" * 100, "b" * 10])
    found = describe(cut, "text", sizes=np.array([2000, 10]))
    assert found["characters"]["max"] == 1000 and found["characters"]["min"] == 10


def test_images_have_brightness_and_contrast() -> None:
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    pixels[1] = 255
    pixels[2, :2] = 255
    found = describe(pixels, "image")
    assert found["shape"] == [4, 4, 3] and found["blank"] == 2
    assert found["brightness"]["mean"] == pytest.approx(0.5) and found["contrast"]["max"] == pytest.approx(0.5)


def test_sketches_stay_out_of_sight() -> None:
    def keys(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [k for key, inner in value.items() for k in (key, *keys(inner))]
        return [k for inner in value for k in keys(inner)] if isinstance(value, list) else []

    found = describe(Ragged.from_strings(["one two", "two"]), "text")
    assert any(k.startswith("_") for k in keys(found))
    assert not any(k.startswith("_") for k in keys(without_sketches(found))) and "scripts" in without_sketches(found)
