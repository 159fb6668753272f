"""Prototypes over a learned representation, and the space that they are compared in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner, prototypes
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.packages.graph import open_graph
from tidemill.packages.inner import with_inner

CONTEXT = Context(seed=0, device="cpu")


def problem(digits: range = range(10), rows: int = 800) -> Problem:
    images, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(np.isin(labels, digits))[:rows]
    pixels = (images[chosen].reshape(-1, 8, 8, 1) * 15.9375).astype(np.uint8)
    info = {"image": FeatureInfo("uint8", (8, 8, 1), {"mean": [77.0], "std": [96.0]})}
    return Problem(
        kind="classification",
        features={"image": pixels},
        info=info,
        target=labels[chosen].astype(np.int64),
        train=rows * 3 // 4,
        classes=len(digits),
    )


def view(**params: Any) -> RecipeView:
    return RecipeView(network={"name": "mlp", "hidden": [64]}, params=params)


@pytest.mark.parametrize("params", [{"epochs": 10}, {"method": "reptile", "rounds": 60, "turns": False}])
def test_it_tells_classes_apart_and_its_graph_gives_the_same_scores(params: dict[str, Any]) -> None:
    given = problem()
    model = get_learner("prototypes").fit(given, view(**params), CONTEXT)
    held = {name: array[given.train :] for name, array in given.features.items()}
    scores = model.scores(held)
    assert (scores.argmax(axis=1) == given.target[given.train :]).mean() > 0.85
    graph = model.export().onnx
    assert graph is not None
    session = open_graph(graph, given.info)
    np.testing.assert_allclose(session.run(["scores"], {"image": held["image"]})[0], scores, rtol=1e-3, atol=1e-3)
    both = with_inner(graph)
    assert both is not None
    inner = open_graph(both, given.info, outputs=("scores", "inner")).run(["inner"], {"image": held["image"]})[0]
    assert inner.shape == (len(scores), 64)


def test_a_network_that_looks_five_times_is_packed_as_it_is() -> None:
    given = problem(rows=200)
    recipe = RecipeView(network={"name": "cnn", "width": 8, "looks": True}, params={"epochs": 1, "turns": False})
    model = get_learner("prototypes").fit(given, recipe, CONTEXT)
    few = given.features["image"][:7]
    once, scores = model.network.layers(torch.from_numpy(few)), model.scores({"image": few})
    assert not np.allclose(once.detach().numpy(), scores, atol=1e-3), "the other looks count"
    graph = model.export().onnx
    assert graph is not None
    got = open_graph(graph, given.info).run(["scores"], {"image": few})[0]
    np.testing.assert_allclose(got, scores, rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_model() -> None:
    given, params = problem(rows=200), {"method": "reptile", "rounds": 5}
    one, other = (get_learner("prototypes").fit(given, view(**params), CONTEXT) for _ in range(2))
    np.testing.assert_array_equal(one.scores(given.features), other.scores(given.features))


@pytest.mark.parametrize(
    ("params", "said"),
    [({"method": "magic"}, "no method 'magic'"), ({"shotz": 3}, "shotz"), ({"epochs": -1}, "epochs")],
)
def test_wrong_parameters_are_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        get_learner("prototypes").fit(problem(rows=100), view(**params), CONTEXT)


def test_what_varies_within_classes_counts_less() -> None:
    """One direction is noise that is large in every class; another one tells the classes apart."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(12, 6)) * [0.0, 1, 1, 1, 1, 1]
    codes = np.repeat(np.arange(12), 40)
    rows = (means[codes] + rng.normal(size=(480, 6)) * [8.0, 0.4, 0.4, 0.4, 0.4, 0.4]).astype(np.float32)
    old, new = codes < 8, codes >= 8
    parts = list(prototypes.episodes(codes[new], ways=4, shots=5, count=40, rng=rng))
    space = prototypes.best_space(rows[old], codes[old], shots=5, seed=0)
    plain = prototypes.fit_space(rows[old], codes[old], 1.0)
    assert space.shrinkage < 1
    better, worse = (prototypes.accuracy(s.placed(rows[new]), parts) for s in (space, plain))
    assert better > worse + 0.15 and better > 0.8


def test_episodes_keep_what_is_known_apart_from_what_is_asked() -> None:
    codes = np.repeat(np.arange(4), 9)
    codes[0] = 7  # a class of one row takes no part
    for part in prototypes.episodes(codes, ways=3, shots=5, count=5, rng=np.random.default_rng(1)):
        assert not set(part.support) & set(part.query) and 7 not in codes[part.support]
        assert len(np.unique(codes[part.support])) == 3 and np.bincount(part.support_codes).tolist() == [5, 5, 5]
    assert not list(prototypes.episodes(codes[:9], ways=5, shots=5, count=5, rng=np.random.default_rng(1)))
