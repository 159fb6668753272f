"""Corruptions of real images, texts and numbers: stronger ones change more, and the form stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tidemill.data.arrays import Ragged
from tidemill.data.corruptions import STRENGTHS, corrupted, corruptions_of, what
from tidemill.data.corruptions.texts import NEAR
from tidemill.data.schema import Field, FieldType, Signature


def signature(*types: FieldType) -> Signature:
    shape = {"image": (24, 24, 3)}
    fields = tuple(Field(name=f"{kind}{i}", type=kind, shape=shape.get(kind)) for i, kind in enumerate(types))
    return Signature(inputs=fields, target="y", kind="classification", labels=("a", "b"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    grey = (load_digits().images[:40] * 15).astype(np.uint8).repeat(3, 1).repeat(3, 2)
    return np.stack([grey, grey // 2 + 60, 255 - grey], 3)


@pytest.fixture(scope="module")
def texts(data_dir: Path) -> Ragged:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:150]
    return Ragged.from_strings([*(line.split("\t", 1)[1] for line in lines), "", "word", "潮磨", "  two  blanks "])


def all_of(column: Any) -> list[str]:
    return [column[i] for i in range(len(column))]


@pytest.mark.parametrize("name", corruptions_of(signature("image")))
def test_images_keep_their_form_and_a_stronger_one_is_further_away(images: np.ndarray, name: str) -> None:
    given, before = signature("image"), images.copy()
    found = [corrupted({"image0": images}, given, name, s, seed=3)["image0"] for s in STRENGTHS]
    away = [float(np.abs(f.astype(int) - images).mean()) for f in found]  # type: ignore[union-attr]
    assert all(f.shape == images.shape and f.dtype == np.uint8 for f in found)  # type: ignore[union-attr]
    assert np.array_equal(images, before)
    assert away[0] > 0.3 and away == sorted(away) and away[-1] > 1.2 * away[0]
    again = corrupted({"image0": images}, given, name, 3, seed=3)["image0"]
    assert np.array_equal(found[2], again)


def test_grey_and_tiny_images_are_corrupted_too() -> None:
    given = signature("image")
    for shape in ((3, 8, 8, 1), (2, 1, 5, 3), (1, 2, 2, 1)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for name in corruptions_of(given):
            for strength in (1, 5):
                found = corrupted({"image0": images}, given, name, strength, seed=0)["image0"]
                assert found.shape == shape and found.dtype == np.uint8  # type: ignore[union-attr]


@pytest.mark.parametrize("name", corruptions_of(signature("text")))
def test_texts_lose_more_at_each_strength(texts: Ragged, name: str) -> None:
    given, before = signature("text"), all_of(texts)
    changed = []
    for strength in STRENGTHS:
        found = all_of(corrupted({"text0": texts}, given, name, strength, seed=1)["text0"])
        assert len(found) == len(before) and found[before.index("")] == ""
        changed.append(sum(a != b for a, b in zip(found, before, strict=True)))
    assert 0 < changed[0] <= changed[2] <= changed[-1]
    assert all_of(texts) == before


def test_what_happens_to_a_text_is_what_is_said() -> None:
    given, text = signature("text"), "the tide mill turns and grinds the corn of the village every single day " * 4
    column = {"text0": Ragged.from_strings([text])}
    words = text.split(" ")

    def of(name: str, strength: int) -> str:
        return all_of(corrupted(column, given, name, strength, seed=0)["text0"])[0]

    dropped = of("dropped words", 5).split(" ")
    assert 0.3 < len(dropped) / len(words) < 0.7 and set(dropped) <= set(words)
    assert sorted(of("swapped words", 5).split(" ")) == sorted(words)
    assert of("missing blanks", 5).replace(" ", "") == text.replace(" ", "")
    assert of("case", 5) == text.swapcase() and of("case", 1).lower() == text
    assert text.startswith(of("cut off", 3)) and len(of("cut off", 3)) == round(0.4 * len(text))
    assert 0.6 < len(of("typos", 5)) / len(text) < 1.4
    assert set(NEAR["s"]) == {"a", "d"} and NEAR["q"] == "w" and len(NEAR) == 26


def test_tables_get_noise_holes_slips_and_others_categories() -> None:
    rng = np.random.default_rng(0)
    given = signature("number", "date", "category")
    columns = {
        "number0": rng.normal(50, 4, 5000),
        "date1": np.arange(5000.0),
        "category2": Ragged.from_strings([f"c{i % 9}" for i in range(5000)]),
    }
    assert corruptions_of(given) == ["noise", "missing values", "slipped point", "wrong category"]

    def at(name: str, strength: int) -> dict[str, Any]:
        return corrupted(columns, given, name, strength, seed=0)

    assert abs((at("noise", 5)["number0"] - columns["number0"]).std() - 4) < 0.3
    assert at("noise", 5)["date1"] is columns["date1"]
    gone = at("missing values", 5)
    assert abs(np.isnan(gone["number0"]).mean() - 0.4) < 0.03 and abs(np.isnan(gone["date1"]).mean() - 0.4) < 0.03
    assert abs(np.mean([value == "" for value in all_of(gone["category2"])]) - 0.4) < 0.03
    slips = at("slipped point", 3)["number0"] / columns["number0"]
    assert abs((slips != 1).mean() - 0.1) < 0.02 and set(np.round(slips, 3)) == {0.1, 1.0, 10.0}
    wrong = all_of(at("wrong category", 4)["category2"])
    assert abs(np.mean([a != b for a, b in zip(wrong, all_of(columns["category2"]), strict=True)]) - 0.2 * 8 / 9) < 0.03
    assert what("missing values", given) == "values that did not arrive"


def test_columns_without_a_value_stay_without_one() -> None:
    given = signature("number", "category")
    columns = {"number0": np.full(4, np.nan), "category1": Ragged.from_strings([""] * 4)}
    for name in corruptions_of(given):
        found = corrupted(columns, given, name, 5, seed=0)
        assert np.isnan(found["number0"]).all() and all_of(found["category1"]) == [""] * 4  # type: ignore[arg-type]
