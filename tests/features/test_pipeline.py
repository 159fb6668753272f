"""A recipe's steps together: the same numbers in training and in serving."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.data.arrays import Ragged, take
from tidemill.data.schema import Field, Signature
from tidemill.errors import ConfigError, TrainingError
from tidemill.features.pipeline import Pipeline

SIGNATURE = Signature(
    inputs=(
        Field(name="age", type="number"),
        Field(name="hours", type="number", optional=True),
        Field(name="job", type="category"),
        Field(name="note", type="text"),
    ),
    target="income",
    kind="classification",
    labels=("high", "low"),
)
COLUMNS = {
    "age": np.array([20.0, 30.0, 40.0, 50.0]),
    "hours": np.array([40.0, np.nan, 20.0, 38.0]),
    "job": Ragged.from_strings(["clerk", "clerk", "smith", ""]),
    "note": Ragged.from_strings(["a", "b", "a", "b"]),
}


def test_steps_of_one_output_are_laid_side_by_side() -> None:
    pipeline = Pipeline([{"step": "numbers"}, {"step": "onehot", "min_count": 1}, {"step": "categories"}], SIGNATURE)
    pipeline.fit([COLUMNS])
    features = pipeline.transform(COLUMNS)
    assert {name: (a.shape, a.dtype.name) for name, a in features.items()} == {
        "x": ((4, 6), "float32"),  # two numbers, a flag for missing hours; clerk, smith, and no job
        "codes": ((4, 1), "int64"),
    }
    assert pipeline.info()["x"].shape == (6,) and pipeline.info()["codes"].meta == {"cardinalities": [2]}
    assert pipeline.columns == ["age", "hours", "job"]


def test_two_steps_of_codes_join_their_cardinalities() -> None:
    specs = [{"step": "categories", "columns": ["job"]}, {"step": "categories", "columns": ["note"], "min_count": 1}]
    pipeline = Pipeline(specs, SIGNATURE)
    pipeline.fit([COLUMNS])
    assert pipeline.info()["codes"].meta == {"cardinalities": [2, 3]}
    assert pipeline.transform(COLUMNS)["codes"].tolist() == [[1, 1], [1, 2], [0, 1], [0, 2]]


def test_a_step_without_columns_of_its_type_is_left_out() -> None:
    pipeline = Pipeline([{"step": "numbers"}, {"step": "dates"}, {"step": "pixels"}], SIGNATURE)
    assert [step["step"] for step in pipeline.to_json()["steps"]] == ["numbers"]


@pytest.mark.parametrize(
    ("specs", "what", "mend"),
    [
        ([{"step": "number"}], "there is no feature step 'number'", "Did you mean numbers?"),
        ([{"step": "numbers", "columns": ["agee"]}], "there is no input column 'agee'", "Did you mean age?"),
        ([{"step": "numbers", "columns": ["job"]}], "column 'job' holds category", "Choose another step"),
        ([{"step": "numbers", "rwa": True}], "step numbers has no option 'rwa'", "Did you mean raw?"),
        ([{"step": "pixels"}], "no feature step reads the inputs", "Add a step"),
    ],
)
def test_a_wrong_spec_names_the_nearest_right_one(specs, what: str, mend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline(specs, SIGNATURE)
    assert what in caught.value.what and mend in (caught.value.mend or "")


def test_no_training_rows_is_said() -> None:
    with pytest.raises(TrainingError, match="no labelled training rows"):
        Pipeline([{"step": "numbers"}], SIGNATURE).fit([])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["", "a", "b", "磨坊", "rare"])),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 7),
)
def test_serving_repeats_training_to_the_bit(rows, size: int) -> None:
    """Whatever the values and the chunks: JSON there and back, one row at a time, gives the same features."""
    columns = {"age": np.array([r[0] for r in rows]), "job": Ragged.from_strings([r[1] for r in rows])}
    signature = Signature(inputs=(SIGNATURE.inputs[0], SIGNATURE.inputs[2]), target="y", kind="regression")
    pipeline = Pipeline([{"step": "numbers"}, {"step": "categories"}, {"step": "onehot"}], signature)
    pipeline.fit(take(columns, np.arange(s, min(s + size, len(rows)))) for s in range(0, len(rows), size))
    served = Pipeline.from_json(json.loads(json.dumps(pipeline.to_json())))
    trained = pipeline.transform(columns)
    assert served.info() == pipeline.info()
    for row in range(len(rows)):
        one = served.transform(take(columns, np.array([row])))
        for name, array in trained.items():
            np.testing.assert_array_equal(one[name][0], array[row])


def test_adult_census_has_the_features_that_its_columns_say(data_dir: Path) -> None:
    with (data_dir / "adult-census" / "adult-train.csv").open() as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row][:4000]
    columns = {
        "age": np.array([float(r[0]) for r in rows]),
        "job": Ragged.from_strings(["" if r[1] == "?" else r[1] for r in rows]),
    }
    pipeline = Pipeline(
        [{"step": "numbers", "columns": ["age"]}, {"step": "categories", "columns": ["job"], "min_count": 1}], SIGNATURE
    )
    pipeline.fit([columns])
    features = pipeline.transform(columns)
    assert features["x"].mean() == pytest.approx(0, abs=1e-5) and features["x"].std() == pytest.approx(1, abs=1e-5)
    assert pipeline.to_json()["steps"][1]["state"]["values"][0][0] == "Private"
    missing = pipeline.to_json()["steps"][1]["state"]["values"][0].index("") + 1
    assert (features["codes"][:, 0] == missing).sum() == sum(r[1] == "?" for r in rows) > 100
