"""An opened package: the same answers for one row and for many, from several threads, with no project near."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tidemill.data.arrays import Ragged
from tidemill.errors import InputError, PackageError
from tidemill.runtime import load

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "packages" / "schema-1"
RECORD = {"age": 30, "city": "Delft", "since": "2020-05-17"}


@pytest.fixture(scope="module")
def table():
    return load(FIXTURES / "table")


def many(n: int) -> dict:
    rng = np.random.default_rng(0)
    age = rng.uniform(18, 80, n)
    age[::7] = np.nan
    cities = rng.choice(["Delft", "Leiden", "Goes", "", "Atlantis"], n)
    return {"age": age, "city": Ragged.from_strings(cities), "since": rng.uniform(1.5e9, 1.7e9, n)}


def test_its_signature_and_manifest_are_there(table) -> None:
    assert table.signature.labels == ("no", "yes")
    assert table.manifest.task == "tabular-classification"


def test_one_row_and_a_batch_get_the_same_scores(table, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = many(3000)  # three calls of the model
    together = table.scores(columns)
    assert together.shape == (3000, 2) and together.dtype == np.float32
    alone = np.concatenate(
        [
            table.scores({k: c.take(np.array([i])) if isinstance(c, Ragged) else c[[i]] for k, c in columns.items()})
            for i in range(0, 3000, 37)
        ]
    )
    np.testing.assert_allclose(together[::37], alone, atol=1e-6)
    monkeypatch.setattr(table, "_at_once", 10_000)
    np.testing.assert_allclose(table.scores(columns), together, atol=1e-6)


def test_predict_is_encode_scores_and_answers(table) -> None:
    records = [RECORD, {"city": "Goes", "since": "2021-12-31"}]
    answers = table.predict(records)
    assert answers == table.answers(table.scores(table.encode(records)))
    probabilities = table.probabilities(table.encode(records))
    assert [a["scores"]["yes"] for a in answers] == pytest.approx(probabilities[:, 1].tolist())
    assert table.predict([]) == []
    json.dumps(answers)  # plain numbers and texts


def test_an_unseen_category_and_a_missing_number_get_an_answer(table) -> None:
    unseen, missing = table.predict([{**RECORD, "city": "Atlantis"}, {**RECORD, "city": None}])
    assert unseen == missing  # both are code 0
    assert table.predict([{**RECORD, "age": None}])[0]["label"] in ("no", "yes")


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({**RECORD, "age": float("nan")}, "age"),
        ({**RECORD, "age": float("inf")}, "age"),
        ({**RECORD, "agee": 3}, "agee"),
        ({"age": 3, "city": "Goes"}, "since"),
        ({**RECORD, "age": "old"}, "age"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_its_field(table, record, named: str) -> None:
    with pytest.raises(InputError, match=named):
        table.predict([RECORD, record])


def test_threads_may_share_it(table) -> None:
    columns = many(200)
    expected = table.scores(columns)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: table.scores(columns), range(40)):
            np.testing.assert_array_equal(scores, expected)


def test_warm_up_finds_a_model_that_cannot_answer(table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.warm_up()
    broken = load(FIXTURES / "table")
    monkeypatch.setattr(broken, "_score", lambda _features: np.full((1, 2), np.nan, np.float32))
    with pytest.raises(PackageError, match="row of zeros"):
        broken.warm_up()


def test_opening_one_needs_neither_torch_nor_training_code() -> None:
    """What serves a graph is small: no torch, no LightGBM, no scikit-learn, no task, no learner."""
    script = (
        "import sys, tidemill.runtime as r\n"
        f"r.load({str(FIXTURES / 'table')!r}).predict([{RECORD!r}])\n"
        "heavy = {'torch', 'lightgbm', 'sklearn', 'onnx', 'tidemill.learners', 'tidemill.tasks', 'tidemill.store'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
