"""Where a recipe starts from: the weights of a model of the project, and the features that it was trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tidemill.data.schema import Signature
from tidemill.errors import PackageError, TrainingError
from tidemill.features.pipeline import Pipeline
from tidemill.packages import read_manifest, verify
from tidemill.records import Recipe

_ID = re.compile(r"model_[0-9a-z]+")
_STARTED = ("gradient", "prototypes")


@dataclass(frozen=True, slots=True)
class Start:
    """What is taken over from a model.

    Attributes:
        model: its id.
        tensors: its weights by name; those whose name and shape fit are where training begins.
        states: of each feature step, as it was fitted for that model: its words and means keep their places.
    """

    model: str
    tensors: Mapping[str, npt.NDArray[Any]]
    states: Sequence[Mapping[str, Any]]


def start_of(recipe: Recipe, signature: Signature, root: Path) -> Start | None:
    """Where *recipe* starts from; ``None`` where that is no model of the project.

    Args:
        recipe: its ``init`` may be ``{"model": ID}``.
        signature: of the samples that it learns from now.
        root: the store's folder.

    Raises:
        TrainingError: ``init`` says something else, there is no such model, its package is damaged or holds no weights,
            it reads other features, or the learner starts from none.
    """
    init, where = recipe.init or {}, f"recipe {recipe.name!r}, init"
    unknown = sorted(set(init) - {"model", "checkpoint"})
    if unknown:
        raise TrainingError(
            f"unknown key {unknown[0]!r}",
            where=where,
            mend='Write {"model": ID}, with the id of a model of the project.',
        )
    model = init.get("model")
    if model is None:
        return None
    if recipe.learner not in _STARTED:
        raise TrainingError(
            f"the learner {recipe.learner} cannot start from a model",
            where=where,
            mend=f"Leave init out, or use one of {', '.join(_STARTED)}.",
        )
    folder = root / "models" / str(model)
    if not _ID.fullmatch(str(model)) or not folder.is_dir():
        raise TrainingError(
            f"there is no model {model!r} to start from", where=where, mend="`tidemill models` lists what there is."
        )
    try:
        manifest = read_manifest(folder)
        verify(folder, manifest)
        tensors = load_file(folder / "model.safetensors") if "model.safetensors" in manifest.files else None
    except (PackageError, SafetensorError) as error:
        raise TrainingError(f"the model to start from cannot be read: {error}", where=where) from error
    if tensors is None:
        raise TrainingError(
            f"{model} holds a graph and no weights, so nothing can start from it",
            where=where,
            mend="Choose a model of a network that is no pretrained one; those start from their checkpoint.",
        )
    steps = manifest.features.get("steps", ())
    states = [step["state"] for step in steps]
    before = [{key: value for key, value in step.items() if key != "state"} for step in steps]
    if before != Pipeline(recipe.features, signature).specs:
        raise TrainingError(
            f"{model} reads other features than the recipe, so its weights would mean something else",
            where=where,
            mend="Give the recipe the features of the model's own recipe, over the same columns.",
        )
    return Start(str(model), tensors, states)
