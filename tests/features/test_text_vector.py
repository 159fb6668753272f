"""``text_vector`` on real texts: topics lie apart, one row is as many, state is JSON, memory stays flat."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tidemill.data.arrays import Ragged
from tidemill.errors import ConfigError
from tidemill.features.text_vector import TextVector

Texts = tuple[list[str], np.ndarray]


@pytest.fixture(scope="module")
def news(data_dir: Path) -> Texts:
    with (data_dir / "ag-news" / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:2000]
    return [f"{title} {text}" for _, title, text in rows], np.array([int(label) for label, _, _ in rows])


def fitted(texts: list[str], **options: int) -> TextVector:
    step = TextVector(["text"], **options)
    step.observe({"text": Ragged.from_strings(texts)})
    step.finish()
    return step


def vectors(step: TextVector, texts: list[str]) -> np.ndarray:
    return step.transform({"text": Ragged.from_strings(texts)})["x"]


def test_topics_lie_apart_in_a_few_numbers(news: Texts) -> None:
    texts, topics = news
    step = fitted(texts[:1500])
    x = vectors(step, texts)
    assert x.shape == (2000, 25) and x.dtype == np.float32 and step.info()["x"].shape == (25,)
    np.testing.assert_allclose(x[:1500].mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(x[:1500].std(axis=0), 1, atol=0.02)
    model = LogisticRegression(max_iter=1000).fit(x[:1500], topics[:1500])
    assert model.score(x[1500:], topics[1500:]) > 0.75


def test_state_is_json_and_one_row_is_as_many(news: Texts) -> None:
    texts, _ = news
    step = fitted(texts[:300], size=8)
    again = TextVector(["text"], size=8)
    again.restore(json.loads(json.dumps(step.state())))
    shown = [*texts[300:330], "", "🌊", "没有见过的字"]
    together = vectors(step, shown)
    np.testing.assert_array_equal(vectors(again, shown), together)
    np.testing.assert_allclose(np.concatenate([vectors(again, [text]) for text in shown]), together, atol=1e-5)
    assert again.info() == step.info()


def test_it_learns_from_an_even_sample_of_many_rows(monkeypatch: pytest.MonkeyPatch, news: Texts) -> None:
    monkeypatch.setattr("tidemill.features.text_vector._SAMPLE", 50)
    texts, _ = news
    step = TextVector(["text"], size=4)
    for start in range(0, 1000, 73):
        step.observe({"text": Ragged.from_strings(texts[start : start + 73])})
        held = [text for part in step._parts[0]._sample for text in (part[row] for row in range(len(part)))]
        assert len(held) <= 100
        stride = step._parts[0]._stride
        assert held == texts[: start + 73 : stride]
    step.finish()
    assert np.isfinite(vectors(step, texts[:10])).all()


@pytest.mark.parametrize("texts", [[""] * 5, ["the same"] * 5, ["one"]])
def test_texts_that_do_not_differ_still_have_numbers(texts: list[str]) -> None:
    step = fitted(texts)
    x = vectors(step, [*texts, "another"])
    assert np.isfinite(x).all() and x.shape[1] == step.info()["x"].shape[0]


def test_several_columns_stand_side_by_side(news: Texts) -> None:
    texts, _ = news
    columns = {"a": Ragged.from_strings(texts[:200]), "b": Ragged.from_strings(texts[200:400])}
    both = TextVector(["a", "b"], size=5)
    both.observe(columns)
    both.finish()
    x = both.transform(columns)["x"]
    assert x.shape == (200, 12)
    np.testing.assert_array_equal(x[:, :6], vectors(fitted(texts[:200], size=5), texts[:200]))


def test_a_wrong_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="size is 0"):
        TextVector(["text"], size=0)
