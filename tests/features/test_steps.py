"""Each feature step on its own: exact against NumPy and scikit-learn, whatever the chunks, and sane at the edges."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_digits
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from tidemill.data.arrays import Ragged, take
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureStep
from tidemill.features.categories import Categories
from tidemill.features.dates import Dates
from tidemill.features.numbers import Numbers
from tidemill.features.onehot import OneHot
from tidemill.features.pipeline import step_class, step_names
from tidemill.features.pixel_vector import PixelVector, shrink
from tidemill.features.pixels import Pixels


def fitted(step, *chunks):
    for chunk in chunks:
        step.observe(chunk)
    step.finish()
    return step


def test_every_file_holds_a_step_of_its_name() -> None:
    known = "bpe categories dates encoder ngrams numbers onehot pixel_vector pixels text_vector tokenizer"
    assert step_names() == known.split()
    for name in step_names():
        kind = step_class(name)
        assert issubclass(kind, FeatureStep) and kind.name == name and kind.handles


def test_numbers_equal_scikit_learn_whatever_the_chunks() -> None:
    values = np.random.default_rng(0).normal(1e6, 3, 5000)
    whole = fitted(Numbers(["a"]), {"a": values})
    parts = fitted(Numbers(["a"]), *({"a": part} for part in np.array_split(values, 37)))
    expected = StandardScaler().fit_transform(values[:, None])
    np.testing.assert_allclose(whole.transform({"a": values})["x"], expected, atol=1e-5)
    np.testing.assert_allclose(parts.transform({"a": values})["x"], expected, atol=1e-5)


def test_missing_numbers_become_the_median_and_are_flagged() -> None:
    train = np.array([1.0, 2.0, 9.0, np.nan])
    step = fitted(Numbers(["a", "b"]), {"a": train, "b": np.arange(4.0)})
    assert step.info()["x"].shape == (3,)  # b was never missing, so it has no flag
    x = step.transform({"a": np.array([np.nan, 2.0, np.inf]), "b": np.array([0.0, np.nan, 1.0])})["x"]
    assert x[0, 0] == x[1, 0] == x[2, 0]  # 2 is the median, and infinity is no value
    assert x[:, 2].tolist() == [1, 0, 1]
    assert np.isfinite(x).all()


def test_raw_numbers_keep_nan_for_trees() -> None:
    step = fitted(Numbers(["a"], raw=True), {"a": np.array([5.0])})
    assert step.state() == {}
    np.testing.assert_array_equal(
        step.transform({"a": np.array([7.0, np.nan, -np.inf])})["x"][:, 0], [7, np.nan, np.nan]
    )


def test_the_median_of_many_rows_is_of_an_even_sample() -> None:
    values = np.random.default_rng(1).exponential(1, 600_000)
    step = fitted(Numbers(["a"]), *({"a": part} for part in np.array_split(values, 61)))
    assert step.state()["median"][0] == pytest.approx(np.log(2), abs=0.01)


def test_indicators_can_be_left_out() -> None:
    step = fitted(Numbers(["a"], indicators=False), {"a": np.array([1.0, np.nan])})
    assert step.info()["x"].shape == (1,) and step.transform({"a": np.array([np.nan])})["x"].shape == (1, 1)


def test_quantiles_become_normal_as_in_scikit_learn_and_tails_are_cut() -> None:
    values = np.random.default_rng(0).lognormal(0, 2, 4000)
    step = fitted(Numbers(["a"], quantile=True), *({"a": part} for part in np.array_split(values, 7)))
    x = step.transform({"a": values})["x"][:, 0]
    expected = QuantileTransformer(output_distribution="normal", n_quantiles=1000).fit_transform(values[:, None])[:, 0]
    inner = np.abs(expected) < 2.5
    np.testing.assert_allclose(x[inner], expected[inner], atol=0.05)
    assert x.mean() == pytest.approx(0, abs=1e-3) and x.std() == pytest.approx(1, abs=1e-3)
    far = step.transform({"a": np.array([-1e30, 1e30, np.nan])})["x"][:, 0]
    assert far[0] == x.min() and far[1] == x.max() < 4 and abs(far[2]) < 0.05  # a missing one is the median


def test_quantiles_of_a_column_that_is_mostly_zero() -> None:
    values = np.where(np.arange(1000) < 920, 0.0, np.arange(1000) * 100.0)  # like capital gains
    step = fitted(Numbers(["a", "b"], quantile=True), {"a": values, "b": np.full(1000, 7.0)})
    x = step.transform({"a": values, "b": np.full(1000, 7.0)})["x"]
    assert (x[:920, 0] == x[0, 0]).all() and x[:, 0].std() == pytest.approx(1, abs=1e-3) and not x[:, 1].any()


def test_raw_and_quantile_are_not_taken_together() -> None:
    with pytest.raises(ConfigError, match="contradict"):
        Numbers(["a"], raw=True, quantile=True)


@pytest.mark.parametrize("quantile", [False, True])
@settings(max_examples=60, deadline=None)
@given(values=hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_numbers_are_finite_for_whatever_floats_there_are(quantile: bool, values: np.ndarray) -> None:
    step = fitted(Numbers(["a"], quantile=quantile), {"a": values})
    x = step.transform({"a": values})["x"]
    assert np.isfinite(x).all() and x.dtype == np.float32 and x.shape == (len(values), *step.info()["x"].shape)


def test_pixels_pass_through_with_exact_mean_and_deviation() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), np.uint8)
    step = fitted(Pixels(["image"]), {"image": images[:33]}, {"image": images[33:]})
    assert step.transform({"image": images})["image"] is images
    info = step.info()["image"]
    assert (info.dtype, info.shape) == ("uint8", (6, 5, 3))
    np.testing.assert_allclose(info.meta["mean"], images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(info.meta["std"], images.std(axis=(0, 1, 2)), rtol=1e-9)


def test_black_images_have_a_deviation_to_divide_by() -> None:
    step = fitted(Pixels(["image"]), {"image": np.zeros((3, 4, 4, 1), np.uint8)})
    assert step.info()["image"].meta == {"mean": [0.0], "std": [1.0]}


def test_pixels_take_one_column() -> None:
    with pytest.raises(ConfigError, match="one image column, not 2"):
        Pixels(["left", "right"])


def test_pixel_vectors_are_pixels_between_0_and_1() -> None:
    digits = load_digits().images.astype(np.uint8)[..., None]
    step = fitted(PixelVector(["image"]), {"image": digits[:9]})
    x = step.transform({"image": digits})["x"]
    np.testing.assert_array_equal(x, digits.reshape(len(digits), -1) / np.float32(255))
    assert step.info()["x"].shape == (64,)


def test_large_images_are_averaged_down() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 64, 3), np.uint8)
    small = shrink(images, 32)
    assert small.shape == (2, 25, 32, 3)
    assert small[1, 3, 4, 2] == pytest.approx(images[1, 6:8, 8:10, 2].mean())
    odd = shrink(images[:, :, :63], 32)  # the last column stands for itself
    assert odd.shape == (2, 25, 32, 3)
    assert odd[0, 0, 31, 0] == pytest.approx(images[0, :2, 62, 0].mean())


def test_categories_count_by_frequency_and_put_all_others_at_0() -> None:
    train = Ragged.from_strings(["red", "blue", "red", "", "blue", "red", "rare"])
    step = fitted(Categories(["colour"]), {"colour": train})
    assert step.state() == {"values": [["red", "blue"]]}
    new = Ragged.from_strings(["blue", "red", None, "rare", "never seen", "Red"])
    codes = step.transform({"colour": new})["codes"]
    assert codes.tolist() == [[2], [1], [0], [0], [0], [0]] and codes.dtype == np.int64
    assert step.info()["codes"].meta == {"cardinalities": [3]}


def test_what_is_often_missing_has_a_code_of_its_own() -> None:
    train = Ragged.from_strings(["red", "red", "", "", "", "blue"])
    step = fitted(Categories(["colour"]), {"colour": train})
    codes = step.transform({"colour": Ragged.from_strings(["", "red", "never seen"])})["codes"]
    assert codes.tolist() == [[1], [2], [0]]


def test_a_hundred_thousand_values() -> None:
    rng = np.random.default_rng(0)
    which = np.minimum(rng.zipf(1.2, 300_000), 100_000)
    values = [f"id {n}" for n in which.tolist()]
    column = {"id": Ragged.from_strings(values)}
    column["few"] = Ragged.from_strings([value[-1] for value in values])
    step = Categories(["id", "few"], max_size=500, others=16, frequency=True)
    for start in range(0, len(values), 50_000):
        step.observe(take(column, np.arange(start, start + 50_000)))
    step.finish()
    assert step.info()["codes"].meta == {"cardinalities": [517, 27]} and step.info()["x"].shape == (1,)
    assert len(json.dumps(step.state())) < 20_000
    out = step.transform(column)
    codes, x = out["codes"][:, 0], out["x"][:, 0]
    assert codes.min() >= 1 and codes.max() == 516
    common = np.bincount(which).argsort()[::-1][:500]  # numbers by how often they occurred
    assert (codes[np.isin(which, common[:400])] <= 500).all()
    # what is common has a large x, and equal values have equal codes, also alone and when never seen
    counts = np.bincount(which)[which]
    np.testing.assert_allclose(x[codes <= 500], (np.log1p(counts) / np.log1p(300_000))[codes <= 500], atol=1e-6)
    assert len(np.unique(x[codes > 500])) == 1 and x[codes > 500].max() < x[codes <= 500].min()
    ids = Ragged.from_strings([values[0], "id of nobody", "id of nobody", ""])
    one = step.transform({"id": ids, "few": Ragged.from_strings(["1"] * 4)})
    assert one["codes"][0, 0] == codes[0] and one["codes"][1, 0] == one["codes"][2, 0] > 500
    assert one["codes"][3, 0] == 0  # training never missed it


def test_one_row_and_many_rows_are_coded_alike() -> None:
    values = [f"v{i % 50}" for i in range(400)]
    step = fitted(Categories(["a"], max_size=20), {"a": Ragged.from_strings(values)})
    many = step.transform({"a": Ragged.from_strings([*values, "new", ""])})["codes"]
    one = [step.transform({"a": Ragged.from_strings([v])})["codes"][0] for v in [*values, "new", ""]]
    np.testing.assert_array_equal(many, one)
    assert many.max() == 20 and many[-2:].tolist() == [[0], [0]]


def test_counting_many_distinct_values_forgets_those_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.features._vocabulary._MOST", 100)
    step = Categories(["id"])
    for start in range(0, 1000, 50):
        step.observe({"id": Ragged.from_strings([*map(str, range(start, start + 50)), "often", "often"])})
    step.finish()
    assert step.state() == {"values": [["often"]]}


def test_onehot_is_the_codes_spread_out() -> None:
    step = fitted(
        OneHot(["a", "b"], min_count=1),
        {"a": Ragged.from_strings(["x", "x", "y"]), "b": Ragged.from_strings(["p", "q", "q"])},
    )
    x = step.transform({"a": Ragged.from_strings(["y", "?"]), "b": Ragged.from_strings(["q", "p"])})["x"]
    assert x.tolist() == [[0, 1, 1, 0], [0, 0, 0, 1]]
    assert step.info()["x"].shape == (4,)


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


def test_raw_dates_are_what_a_calendar_says() -> None:
    step = fitted(Dates(["when"], raw=True), {"when": np.array([0.0])})
    rows = step.transform({"when": np.array([at(2024, 2, 29, 13, 30), at(1969, 12, 31, 23), np.nan])})["x"]
    assert rows[0, 1:].tolist() == [2, 3, 13]  # a Thursday
    assert rows[1].tolist() == [pytest.approx(-1 / 24, abs=1e-6), 12, 2, 23]
    assert np.isnan(rows[2]).all()


def test_dates_turn_in_circles_and_flag_what_is_missing() -> None:
    train = np.array([at(2020, 1, 1), at(2022, 1, 1), at(2024, 1, 1)])
    step = fitted(Dates(["when"]), {"when": train})
    x = step.transform({"when": np.array([at(2023, 12, 31, 23, 59, 59), at(2024, 1, 1), np.nan, 1e30])})["x"]
    assert x.shape == (4, 8) and np.isfinite(x).all()
    np.testing.assert_allclose(x[0, 1:], x[1, 1:], atol=0.01)  # a second apart, over the end of a year
    assert x[2].tolist() == [0] * 7 + [1]
    assert step.transform({"when": train})["x"][:, 0].mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("step", "columns"),
    [
        (Numbers(["a"]), {"a": np.array([1.0, np.nan, 4.5])}),
        (Numbers(["a"], quantile=True), {"a": np.array([1.0, np.nan, 4.5])}),
        (Dates(["a"]), {"a": np.array([1e9, np.nan, 1.7e9])}),
        (Categories(["a"]), {"a": Ragged.from_strings(["磨", "磨", "b"])}),
        (Categories(["a"], others=4, frequency=True), {"a": Ragged.from_strings(["磨", "磨", "b"])}),
        (OneHot(["a"]), {"a": Ragged.from_strings(["磨", "磨", "b"])}),
        (Pixels(["a"]), {"a": np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)}),
        (PixelVector(["a"], max_side=2), {"a": np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_state_survives_json(step, columns) -> None:
    fitted(step, columns)
    options = {"max_side": 2} if isinstance(step, PixelVector) else {}
    if "knots" in step.state():
        options = {"quantile": True}
    if "counts" in step.state():
        options = {"others": 4, "frequency": True}
    fresh = type(step)(step.columns, **options)
    fresh.restore(json.loads(json.dumps(step.state())))
    for name, array in step.transform(columns).items():
        np.testing.assert_array_equal(fresh.transform(columns)[name], array)
    assert fresh.info() == step.info()
