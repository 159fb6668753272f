"""Which questions are asked first, and why, for answers of all three kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tidemill.config import make_config
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled
from tidemill.records import Annotation, Dataset, Prediction, QueueItem, new_id
from tidemill.runtime import Predictor
from tidemill.runtime.answers import Answers
from tidemill.stages.annotate import annotate
from tidemill.stages.prepare import prepare
from tidemill.store import Store, create_store
from tidemill.tasks import get_task


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with create_store(tmp_path / ".tidemill") as store:
        yield store


def predict(store: Store, answer: Mapping[str, Any]) -> str:
    prediction = Prediction(
        id=new_id("pred"),
        deployment="default",
        model_id="model_1",
        key=new_id("k"),
        inputs={"x": 1},
        answer=dict(answer),
    )
    store.insert(prediction)
    return prediction.id


def asked(store: Store) -> list[tuple[str, str]]:
    """Subjects and reasons of the queue, first questions first."""
    return [(q.subject, q.reason) for q in sorted(store.find(QueueItem, done=False), key=lambda q: q.rank)]


@dataclass
class Manifest:
    answer: dict[str, Any]


class Scripted:
    """A model whose scores are written beside the rows."""

    def __init__(self, spec: dict[str, Any], columns: tuple[str, ...]) -> None:
        self.manifest = Manifest(spec)
        self.columns = columns
        self._answers = Answers(spec)

    def scores(self, columns: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        return np.stack([columns[name] for name in self.columns], axis=1).astype(np.float32)

    def answers(self, scores: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        return self._answers.of(scores)

    def answer(self, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.answers(self.scores(columns))

    def features(self, columns: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return {"x": np.stack(list(columns.values()), axis=1).astype(np.float32)}

    def encode(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: np.array([record["x"] for record in records], np.float64) for name in ("x",)}


def test_a_classifier_that_wavers_or_says_nothing(store: Store) -> None:
    sure = predict(store, {"label": "a", "score": 0.9, "scores": {"a": 0.9, "b": 0.1, "c": 0.0}})
    torn = predict(store, {"label": "b", "score": 0.45, "scores": {"a": 0.44, "b": 0.45, "c": 0.11}})
    silent = predict(
        store,
        {"label": None, "abstained": True, "guess": "a", "score": 0.5, "scores": {"a": 0.5, "b": 0.3, "c": 0.2}},
    )
    assert annotate(store, None, None, Settled(), seed=0) == {"audit": 0, "settle": 0, "useful": 3}
    assert asked(store) == [
        (torn, "the model wavers between b (45%) and a (44%)"),
        (silent, "the model gave no answer: it wavers between a (50%) and b (30%)"),
        (sure, "the model says a (90%) and not b (10%), and may be wrong"),
    ]


def test_of_labels_that_are_held_back_some_are_asked_for_each_reason_after_contradictions(store: Store) -> None:
    answer = {"label": "a", "score": 0.9, "scores": {"a": 0.9, "b": 0.1}}
    held = {predict(store, answer): "a burst" for _ in range(40)}
    held |= {predict(store, answer): "who is that" for _ in range(3)}
    torn = predict(store, answer)
    counts = annotate(store, None, None, Settled(held=held, contradictions={torn: {"a": 1, "b": 1}}), seed=0)
    assert counts["settle"] == 1 + 25 + 3
    waiting = sorted((q for q in store.find(QueueItem) if q.purpose == "settle"), key=lambda q: q.rank)
    assert waiting[0].subject == torn and waiting[0].reason == "people disagree: a (1), b (1)"
    assert [q.reason for q in waiting[1:]] == ["held back: a burst"] * 25 + ["held back: who is that"] * 3
    assert all(q.suggestion is None for q in waiting), "nobody is to be swayed"


def test_of_several_labels_the_one_closest_to_its_threshold_counts(store: Store) -> None:
    far = predict(store, {"labels": ["cat"], "scores": {"cat": 0.9, "dog": 0.01}})
    near = predict(store, {"labels": [], "scores": {"cat": 0.48, "dog": 0.18}})
    spec = {"kind": "multilabel", "labels": ["cat", "dog"], "thresholds": [0.5, 0.2]}
    annotate(store, None, cast("Predictor", Scripted(spec, ())), Settled(), seed=0)
    assert asked(store) == [
        (near, "the model is in doubt about cat: at 48% it is only just not given, which takes 50%"),
        (far, "the model is in doubt about dog: at 1% it is only just not given, which takes 20%"),
    ]


def test_of_numbers_the_widest_interval_counts(store: Store) -> None:
    usual = [predict(store, {"value": float(i), "interval": [i - 1.0, i + 1.0], "level": 0.9}) for i in range(3)]
    wide = predict(store, {"value": 5.0, "interval": [2.0, 7.0], "level": 0.9})
    annotate(store, None, None, Settled(), seed=0)
    first, *rest = asked(store)
    assert first == (wide, "the model expects 5, but anything from 2 to 7: 2.5 times the usual interval")
    assert {subject for subject, _ in rest} == set(usual)


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        ({}, "the model gives no interval, so the order is random"),
        ({"interval": [0.0, 2.0]}, "the model gives intervals of the same width to all, so the order is random"),
    ],
)
def test_numbers_whose_intervals_say_nothing_are_asked_at_random(
    store: Store, interval: dict[str, Any], reason: str
) -> None:
    subjects = [predict(store, {"value": 1.0, **interval}) for _ in range(30)]
    annotate(store, None, None, Settled(), seed=1)
    found = asked(store)
    assert {r for _, r in found} == {reason}
    assert [s for s, _ in found] != subjects and {s for s, _ in found} == set(subjects)


def regression(store: Store, path: Path) -> DatasetArrays:
    """Rows whose columns are what a model would say: value, low, high; most of them without a target."""
    rng = np.random.default_rng(0)
    lines = [f"{v:.3f},{v - w:.3f},{v + w:.3f},{'' if i % 4 else v}" for i, (v, w) in enumerate(rng.random((200, 2)))]
    path.write_text("value,low,high,y\n" + "\n".join(lines) + "\n")
    config = make_config(task="tabular-regression", data=[str(path)], target="y")
    name = prepare(store, get_task("tabular-regression"), config, [str(path)], Settled())
    return open_dataset(store.root, store.get(Dataset, name))


def test_unlabelled_samples_by_the_width_of_their_interval(store: Store, tmp_path: Path) -> None:
    data = regression(store, tmp_path / "a.csv")
    spec = {"kind": "regression", "interval": {"level": 0.9, "offset": 0.0}}
    predictor = cast("Predictor", Scripted(spec, ("value", "low", "high")))
    annotate(store, data, predictor, Settled(contradictions={"smp_" + "0" * 16: {"1": 1, "2": 1}}), seed=0)
    useful = sorted(store.find(QueueItem, purpose="useful"), key=lambda q: q.rank)
    widths = [q.inputs["high"] - q.inputs["low"] for q in useful]
    assert len(widths) == len(data.rows("train", labelled=False)) > 80
    # the widest first, unless it is much like one that is asked already
    assert np.corrcoef(widths, np.arange(len(widths)))[0, 1] < -0.5
    assert "times the usual interval" in useful[0].reason
    assert not store.find(QueueItem, purpose="settle")  # a sample that the source no longer has cannot be shown


def test_what_was_spoken_of_is_not_asked_again(store: Store) -> None:
    subject = predict(store, {"value": 1.0, "interval": [0.0, 2.0]})
    store.insert(Annotation(id=new_id("label"), subject=subject, label=2.0, author="ann", purpose="useful"))
    annotate(store, None, None, Settled(), seed=0)
    assert asked(store) == []
