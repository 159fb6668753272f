"""Every step does to a batch what it does to its rows one by one, and JSON carries all that it learned."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm, rankdata
from sklearn.preprocessing import OneHotEncoder

from tidemill.data.arrays import Column, Ragged, take
from tidemill.data.keys import hash_column
from tidemill.features import categories
from tidemill.features._base import Sparse
from tidemill.features.categories import Categories
from tidemill.features.dates import Dates
from tidemill.features.numbers import Numbers
from tidemill.features.onehot import OneHot
from tidemill.features.pipeline import Pipeline
from tidemill.features.pixel_vector import PixelVector, block, shrink

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = 253_402_300_799

WORDS = st.sampled_from(["", "a", "b", "磨坊", "wheel", "🌊", "\u00a0", "B"]) | st.text(max_size=4).map(
    lambda text: text.encode("utf-8", "ignore").decode()
)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
SECONDS = st.floats(-7e10, 3e11) | FLOATS
PIXELS = hnp.arrays(np.uint8, (5, 7, 2))

SPECS: list[tuple[dict[str, Any], str]] = [
    ({"step": "numbers"}, "number"),
    ({"step": "numbers", "raw": True}, "number"),
    ({"step": "numbers", "quantile": True}, "number"),
    ({"step": "numbers", "quantile": True, "indicators": False}, "number"),
    ({"step": "dates"}, "date"),
    ({"step": "dates", "raw": True}, "date"),
    ({"step": "categories"}, "word"),
    ({"step": "categories", "min_count": 1, "max_size": 2, "others": 3, "frequency": True}, "word"),
    ({"step": "onehot", "min_count": 1, "max_size": 3}, "word"),
    ({"step": "bpe", "max_length": 16}, "word"),
    ({"step": "pixels"}, "image"),
    ({"step": "pixel_vector", "max_side": 3}, "image"),
    ({"step": "pixel_vector", "max_side": None}, "image"),
]


def fitted(step: Any, columns: dict[str, Column]) -> Any:
    step.observe(columns)
    step.finish()
    return step


def column(kind: str, values: list[Any]) -> Column:
    if kind == "word":
        return Ragged.from_strings(values)
    return np.array(values) if kind == "image" else np.array(values, np.float64)


def rows_of(kind: str) -> st.SearchStrategy[list[Any]]:
    each = {"number": FLOATS, "date": SECONDS, "word": WORDS, "image": PIXELS}[kind]
    few = {"image": 4}.get(kind, 40)
    return st.lists(st.tuples(each, each) if kind != "image" else each, min_size=1, max_size=few)


@pytest.mark.parametrize(("spec", "kind"), SPECS, ids=lambda value: json.dumps(value) if value else "")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_batch_is_its_rows_and_json_is_the_step(spec: dict[str, Any], kind: str, data: st.DataObject) -> None:
    train, new = data.draw(rows_of(kind)), data.draw(rows_of(kind))
    names = ["a"] if kind == "image" else ["a", "b"]

    def columns(rows: list[Any]) -> dict[str, Column]:
        if kind == "image":
            return {"a": column(kind, rows)}
        return {name: column(kind, [row[i] for row in rows]) for i, name in enumerate(names)}

    step = Pipeline([{**spec, "columns": names}], None)
    step.fit([columns(train)])
    served = Pipeline.from_json(json.loads(json.dumps(step.to_json(), allow_nan=False)))
    assert served.info() == step.info() and served.to_json() == step.to_json()
    together = step.transform(columns(new))
    assert together.keys() == step.info().keys()
    for row in range(len(new)):
        alone = served.transform(take(columns(new), np.array([row])))
        for name, array in together.items():
            assert isinstance(array, np.ndarray) and array.dtype == step.info()[name].dtype
            assert array.shape == (len(new), *step.info()[name].shape)
            np.testing.assert_array_equal(alone[name][0], array[row])


@settings(max_examples=200, deadline=None)
@given(st.integers(-62_135_596_800, LAST))
def test_raw_dates_are_those_of_the_calendar(seconds: int) -> None:
    moment = EPOCH + timedelta(seconds=seconds)
    [row] = fitted(Dates(["when"], raw=True), {"when": np.array([0.0])}).transform({"when": np.array([seconds * 1.0])})[
        "x"
    ]
    assert row[1:].tolist() == [moment.month, moment.weekday(), moment.hour]
    assert row[0] == pytest.approx((moment - EPOCH) / timedelta(days=1), rel=1e-6, abs=1e-6)


def test_every_hour_of_twenty_years_is_its_own() -> None:
    """As a share of a day a third of the whole hours would be rounded down into the hour before."""
    hours = np.arange(-2 * 365 * 24, 20 * 365 * 24)
    raw = fitted(Dates(["when"], raw=True), {"when": np.array([0.0])})
    np.testing.assert_array_equal(raw.transform({"when": hours * 3600.0})["x"][:, 3], hours % 24)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=SECONDS))
def test_dates_are_points_on_circles_and_never_more_than_finite(seconds: np.ndarray) -> None:
    x = fitted(Dates(["when"]), {"when": seconds}).transform({"when": seconds})["x"]
    missing = ~np.isfinite(seconds)
    assert np.isfinite(x).all() and x[:, 7].tolist() == missing.tolist() and not x[missing, :7].any()
    radius = np.square(x[~missing, 1:7]).reshape(-1, 3, 2).sum(axis=2)
    np.testing.assert_allclose(radius, 1, atol=1e-5)
    known = np.clip(seconds[~missing], -62_135_596_800, LAST)
    order = np.argsort(known, kind="stable")
    assert (np.diff(x[~missing, 0][order]) >= 0).all()  # later is larger
    if len(known) > 1 and known.std() > 86_400:
        np.testing.assert_allclose(x[~missing, 0], (known - known.mean()) / known.std(), atol=1e-3)


def test_dates_of_several_columns_stand_in_their_order() -> None:
    seconds = np.array([0.0, np.nan, 86_400.0 * 400])
    both = fitted(Dates(["a", "b"]), {"a": seconds, "b": seconds[::-1]})
    x = both.transform({"a": seconds, "b": np.full(3, np.nan)})["x"]
    assert both.info()["x"].shape == (16,) and x[:, 15].all() and not x[:, 8:15].any()
    np.testing.assert_array_equal(x[:, :8], fitted(Dates(["a"]), {"a": seconds}).transform({"a": seconds})["x"])


def test_dates_that_training_never_knew_are_missing_and_later_ones_still_stand() -> None:
    step = fitted(Dates(["when"]), {"when": np.full(4, np.nan)})
    x = step.transform({"when": np.array([np.nan, 86_400.0 * 20_000])})["x"]
    assert x[0].tolist() == [0] * 7 + [1] and np.isfinite(x).all() and x[1, 7] == 0


VALUES = st.lists(st.sampled_from(["", *"abcdefgh", "磨"]), min_size=1, max_size=80)


@settings(max_examples=80, deadline=None)
@given(VALUES, st.lists(st.sampled_from(["", *"abcdefghxyz", "磨"]), min_size=1, max_size=50), st.integers(1, 4))
def test_codes_are_ranks_by_frequency(train: list[str], new: list[str], min_count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "MANY_VALUES", 2)
        step = Categories(["a"], min_count=min_count, max_size=4, others=5, frequency=True)
        fitted(step, {"a": Ragged.from_strings(train)})
        out = step.transform({"a": Ragged.from_strings(new)})
    counts = Counter(train)
    ranked = sorted((v for v, c in counts.items() if c >= min_count), key=lambda v: (-counts[v], v))[:4]
    shared = hash_column(Ragged.from_strings(new)) % np.uint64(5)
    expected = [
        ranked.index(value) + 1 if value in ranked else 0 if value == "" else len(ranked) + 1 + int(other)
        for value, other in zip(new, shared, strict=True)
    ]
    assert out["codes"][:, 0].tolist() == expected
    assert step.info()["codes"].meta["cardinalities"] == [len(ranked) + 6]
    if len(ranked) <= 2:
        assert "x" not in out
        return
    rare = [count for value, count in counts.items() if value not in ranked]
    typical = float(np.mean(rare)) if rare else 1.0
    seen = [counts[value] if value in ranked else typical for value in new]
    np.testing.assert_allclose(out["x"][:, 0], np.log1p(seen) / np.log1p(len(train)), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(VALUES, VALUES)
def test_onehot_is_scikit_learns_up_to_order(train: list[str], new: list[str]) -> None:
    step = fitted(OneHot(["a", "b"], min_count=1), {n: Ragged.from_strings(train) for n in "ab"})
    x = step.transform({"a": Ragged.from_strings(new), "b": Ragged.from_strings(new[::-1])})["x"]
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(np.array(train, object)[:, None])
    names, values = theirs.categories_[0].tolist(), step.state()["values"]
    for part, (rows, kept) in enumerate(zip((new, new[::-1]), values, strict=True)):
        expected = theirs.transform(np.array(rows, object)[:, None])[:, [names.index(value) for value in kept]]
        np.testing.assert_array_equal(x[:, part * len(kept) : (part + 1) * len(kept)], expected)
    assert (x.sum(axis=1) <= 2).all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.integers(2, 60), elements=st.integers(-6, 6).map(float) | st.floats(-1e6, 1e6)))
def test_a_quantile_mapping_gives_normal_scores_of_ranks(values: np.ndarray) -> None:
    x = fitted(Numbers(["a"], quantile=True), {"a": values}).transform({"a": values})["x"][:, 0]
    if (values == values[0]).all():
        assert not x.any()
        return
    scores = norm.ppf((rankdata(values) - 0.5) / len(values))
    np.testing.assert_allclose(x, (scores - scores.mean()) / scores.std(), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(1, 40), elements=FLOATS),
    hnp.arrays(np.float64, st.integers(1, 40), elements=FLOATS),
)
def test_a_quantile_mapping_never_turns_two_numbers_round(train: np.ndarray, new: np.ndarray) -> None:
    step = fitted(Numbers(["a"], quantile=True), {"a": train})
    known = np.sort(new[np.isfinite(new)])
    x = step.transform({"a": known})["x"][:, 0]
    assert (np.diff(x) >= 0).all()
    gone = step.transform({"a": np.array([np.nan, np.inf, -np.inf])})["x"]
    assert (gone == gone[0]).all()  # no number is no number


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=9)),
    st.none() | st.integers(1, 9),
)
def test_shrunken_images_are_means_of_blocks(images: np.ndarray, most: int | None) -> None:
    small, side = shrink(images, most), block(*images.shape[1:3], most)
    assert most is None or max(small.shape[1:3]) <= most
    _, height, width, _ = images.shape
    down = [np.minimum(np.arange(y * side, y * side + side), height - 1) for y in range(small.shape[1])]
    across = [np.minimum(np.arange(x * side, x * side + side), width - 1) for x in range(small.shape[2])]
    for y, rows in enumerate(down):
        for x, places in enumerate(across):
            expected = images[:, rows][:, :, places].mean(axis=(1, 2))
            np.testing.assert_allclose(small[:, y, x], expected, atol=1e-3)
    vector = fitted(PixelVector(["a"], max_side=most), {"a": images})
    np.testing.assert_allclose(vector.transform({"a": images})["x"], small.reshape(len(images), -1) / 255, atol=1e-6)


def test_steps_that_share_an_output_join_also_where_rows_are_sparse() -> None:
    column = {"t": Ragged.from_strings(["tide mill", "mill wheel", "tide"])}
    one = {"step": "ngrams", "columns": ["t"], "characters": None, "min_df": 1}
    alone, twice = Pipeline([one], None), Pipeline([one, one], None)
    alone.fit([column])
    twice.fit([column])
    single, double = alone.transform(column)["ngrams"], twice.transform(column)["ngrams"]
    assert isinstance(single, Sparse) and isinstance(double, Sparse)
    dense = single.to_scipy().toarray()
    np.testing.assert_array_equal(double.to_scipy().toarray(), np.concatenate([dense, dense], axis=1))
    assert twice.info()["ngrams"].shape == (2 * dense.shape[1],)
