"""Slices cover their column, and their intervals are those of the part."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.data.arrays import Ragged
from tidemill.metrics import Units, classification_metrics, slice_masks
from tidemill.metrics.slices import slice_means


def test_rare_values_share_one_slice_and_every_row_is_in_one() -> None:
    words = [f"w{i % 30:02d}" if i < 300 else "w00" for i in range(400)]
    masks = slice_masks({"word": Ragged.from_strings(words)}, ["word"])
    assert len(masks) == 21 and list(masks)[-1] == "word=(others)"
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    assert masks["word=w00"].sum() == 110 and masks["word=(others)"].sum() == 100


def test_numbers_slice_by_value_or_by_quarter_and_missing_is_a_slice() -> None:
    few = np.array([1.0, 2.0, np.nan, 2.0])
    assert {k: int(m.sum()) for k, m in slice_masks({"n": few}, ["n"]).items()} == {
        "n=1": 1,
        "n=2": 2,
        "n=(missing)": 1,
    }
    many = np.append(np.arange(100.0), np.nan)
    masks = slice_masks({"n": many}, ["n"])
    assert list(masks) == ["n=(missing)", "n=0 to 24.75", "n=24.75 to 49.5", "n=49.5 to 74.25", "n=74.25 to 99"]
    assert [int(m.sum()) for m in masks.values()] == [1, 25, 25, 25, 25]
    assert slice_masks({"n": np.full(3, np.nan)}, ["n"])["n=(missing)"].all()


def test_missing_text_labels_without_rows_and_images() -> None:
    columns = {"city": Ragged.from_strings(["Ghent", "", "Ghent"]), "image": np.zeros((3, 2, 2, 1), np.uint8)}
    masks = slice_masks(columns, ["city", "image"], np.array([0, 0, 1]), ["a", "b", "c"])
    assert set(masks) == {"label=a", "label=b", "city=Ghent", "city=(missing)"}


def test_the_interval_of_a_slice_is_that_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    correct = (rng.random(600) < 0.8).astype(float)
    part = np.arange(600) % 2 == 0
    found = slice_means(
        correct, {"part": part, "right": correct == 1}, Units.of(np.arange(600)), np.ones(600), shares=True
    )
    alone = classification_metrics(np.ones(300, int), np.stack([1 - correct[part], correct[part]], 1)).overall[
        "accuracy"
    ]
    assert (found.value[0], found.low[0], found.high[0]) == pytest.approx(alone, abs=0.012)
    assert found.value[1] == found.high[1] == 1.0 and 0.98 < found.low[1] < 1.0  # all right is not certainty
