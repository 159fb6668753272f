"""Recipes that start from a model of the project."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tidemill
from tidemill.packages import read_manifest
from tidemill.records import Model, Run
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

RECIPES = """
import tidemill

NET = {"learner": "gradient", "features": [{"step": "numbers"}], "network": {"name": "mlp"}}


@tidemill.recipe("first", epochs=8, **NET)
def first() -> None:
    '''Nothing to make.'''
"""
MORE = """

START = {"model": "MODEL"}


@tidemill.recipe("second", init=START, epochs=1, learning_rate=1e-6, augment=False, **NET)
def second() -> None:
    '''Hardly moves from where it starts.'''


@tidemill.recipe("bushes", init=START, learner="trees", features=NET["features"])
def bushes() -> None:
    '''Cannot start from a network.'''


@tidemill.recipe("gone", init={"model": "model_000"}, epochs=1, **NET)
def gone() -> None:
    '''Its model is not there.'''


@tidemill.recipe("odd", init={"modle": "MODEL"}, epochs=1, **NET)
def odd() -> None:
    '''Says nothing that could be started from.'''


@tidemill.recipe("other", init=START, epochs=1, **(NET | {"features": [{"step": "numbers", "raw": True}]}))
def other() -> None:
    '''Reads other features.'''


@tidemill.recipe("graph", init={"model": "RIDGE"}, epochs=1, **NET)
def graph() -> None:
    '''Its model has other weights.'''
"""
Twice = tuple[tidemill.Project, dict[str, dict[str, Any]]]
NAMES = ["second", "bushes", "gone", "odd", "other", "graph"]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """Two cycles: the second one's recipes start from the first one's model; its candidates by recipe."""
    folder = tmp_path_factory.mktemp("starting")
    data = write_records(folder / "data", get_task("tabular-classification").sample_data(0, 400))
    project = tidemill.init(folder / "project", data=data, recipes={"include": ["first"]})
    file = folder / "project" / "recipes.py"
    file.write_text(RECIPES, encoding="utf-8")
    before = {candidate["recipe"]: candidate["model"] for candidate in project.cycle()["candidates"]}
    more = MORE.replace("MODEL", before["first"]).replace("RIDGE", before["ridge"])
    file.write_text(RECIPES + more, encoding="utf-8")
    settings = folder / "project" / "tidemill.yaml"
    settings.write_text(settings.read_text().replace("include: [first]", f"include: [{', '.join(NAMES)}]"))
    done = tidemill.open(folder / "project").cycle()
    return project, {candidate["recipe"]: candidate for candidate in done["candidates"]} | {"first": before}


def test_training_begins_with_the_weights_of_the_model_and_its_features(twice: Twice) -> None:
    project, found = twice
    store = project.store
    folders = [
        store.root / store.get(Model, model).path for model in (found["first"]["first"], found["second"]["model"])
    ]
    first, second = (read_manifest(folder) for folder in folders)
    assert first.features == second.features
    assert found["first"]["first"] in second.lineage["parents"]
    (run,) = store.find(Run, id=second.lineage["run"])
    assert run.parents == (found["first"]["first"],)
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    matrices = [name for name, tensor in weights[0].items() if tensor.ndim == 2]
    assert matrices
    for name in matrices:  # the rate of learning is a millionth
        np.testing.assert_allclose(weights[1][name], weights[0][name], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bushes", "the learner trees cannot start from a model"),
        ("gone", "there is no model 'model_000' to start from"),
        ("odd", "unknown key 'modle'"),
        ("other", "reads other features than the recipe"),
        ("graph", "holds a graph and no weights"),
    ],
)
def test_what_cannot_be_started_from_fails_alone_and_says_why(twice: Twice, name: str, said: str) -> None:
    assert said in twice[1][name]["failed"]
