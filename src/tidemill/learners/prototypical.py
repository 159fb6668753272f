"""A network whose last layer is made of its classes' means: for few samples a class, and for classes yet to come.

What comes before that layer is learned on all classes, by ordinary training or by Reptile. Images also train turned and
mirrored, each time as classes of their own: so even few classes teach what sets shapes apart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tidemill.errors import TrainingError
from tidemill.features._base import Feature, Features
from tidemill.learners import prototypes
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._folds import taken
from tidemill.learners._params import checked
from tidemill.learners._scoring import best_scale, validation
from tidemill.learners.gradient.learner import GradientLearner, GradientModel
from tidemill.learners.gradient.meta import reptile
from tidemill.learners.gradient.state import load_network
from tidemill.networks import build_network
from tidemill.networks.inputs import network_inputs

_OWN = {
    "method": "classify",
    "turns": None,
    "shots": 5,
    "ways": 5,
    "rounds": 300,
    "inner_steps": 8,
    "pace": 0.5,
    "shrinkage": None,
}
_METHODS = ("classify", "reptile")
_MOST_TURNED = 60_000
_CHUNK = 512


class Prototypical:
    """Learns a representation, then compares with the mean of each class (see :mod:`tidemill.learners.prototypes`).

    Beside the parameters of the gradient learner:

    * ``method``: ``classify`` trains the network on all classes at once; ``reptile`` on small problems of ``ways``
      classes with ``shots`` rows each, ``rounds`` of them with ``inner_steps`` steps, by ``pace``.
    * ``turns``: images also train turned and mirrored, as further classes; by default where there are fewer than 50.
    * ``shrinkage``: share of the identity in the classes' covariance; chosen on held-out classes unless given.
    """

    name: ClassVar[str] = "prototypes"
    streams: ClassVar[bool] = False
    quick: ClassVar[bool] = False

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """As the gradient learner."""
        return GradientLearner().epochs(rows, _others(params))

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> GradientModel:
        """Train on the first ``problem.train`` rows.

        Raises:
            TrainingError: it is no matter of one of several classes, a wrong parameter, or the network has no linear
                layer at its end.
        """
        if problem.kind != "classification":
            raise TrainingError("prototypes tell classes apart", where="learner prototypes", mend="Choose another one.")
        own = checked({k: v for k, v in recipe.params.items() if k in _OWN}, _OWN, self.name)
        if own["method"] not in _METHODS:
            what = f"there is no method {own['method']!r}"
            raise TrainingError(what, where="learner prototypes", mend=f"Choose {' or '.join(_METHODS)}.")
        started = time.perf_counter()
        view = replace(recipe, params=_others(recipe.params))
        network, spec = represented(problem, view, context, own)
        rows = inner(network, problem.features, slice(0, problem.train))
        space = _space(rows, problem, own, context)
        model = _headed(network, spec, problem, rows - space.centre, space)
        facts = {"method": own["method"], "seconds": time.perf_counter() - started}
        model.summary.update(facts | {"chosen": {"shrinkage": space.shrinkage}})
        if len(problem.target) > problem.train:
            held = slice(problem.train, None)
            scores = model.scores({name: array[held] for name, array in problem.features.items()})
            context.report(1, validation(problem.kind, scores, problem.target[held]))
        return model


def _others(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are the gradient learner's."""
    return {name: value for name, value in params.items() if name not in _OWN}


def represented(
    problem: Problem, recipe: RecipeView, context: Context, own: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network, of whose last layer nothing is needed any more, and its spec."""
    wide = _turned(problem, own["turns"])
    if own["method"] == "classify":
        model = GradientLearner().fit(wide, recipe, context)
        return model.network, model.spec
    ways = min(int(own["ways"]), wide.classes)
    small = replace(wide, classes=ways, target=wide.target % ways)
    settings = {"warmup": 0.0, "average": 0.0, "learning_rate": 3e-3, "augment": False, **recipe.params}
    trainer = GradientLearner().trainer(small, replace(recipe, params=settings), context)
    rows = {int(code): np.flatnonzero(wide.target[: wide.train] == code) for code in range(wide.classes)}
    fit = [code for code, found in rows.items() if len(found) >= 2]

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        chosen = rng.permutation(fit)[:ways]
        drawn = [
            rng.choice(rows[int(code)], own["shots"], replace=len(rows[int(code)]) < own["shots"]) for code in chosen
        ]
        picked = taken(wide.features, np.concatenate(drawn))
        return {**picked, "target": np.repeat(np.arange(len(chosen)), own["shots"])}

    rng = np.random.default_rng(context.seed)
    rounds = min(own["rounds"], own["rounds"] * (context.max_epochs or own["rounds"]) // 10 or 1)
    state = reptile(
        trainer,
        draw,
        rounds=rounds,
        steps=own["inner_steps"],
        pace=own["pace"],
        batch_size=ways * own["shots"],
        rng=rng,
    )
    load_network(trainer.network, state.tensors, "network")
    return trainer.network.eval(), dict(recipe.network or {"name": "cnn" if "image" in problem.info else "mlp"})


def _turned(problem: Problem, wanted: bool | None) -> Problem:
    """The training rows alone; images also turned by a quarter, a half and three, or mirrored where sides differ."""
    rows, classes = problem.train, problem.classes
    features: dict[str, Feature] = {name: array[:rows] for name, array in problem.features.items()}
    plain = replace(problem, features=features, target=problem.target[:rows], train=rows, weight=None)
    images = features.get("image")
    several = wanted if wanted is not None else classes < 50
    if not isinstance(images, np.ndarray) or len(features) > 1 or not several or 4 * rows > _MOST_TURNED:
        return plain
    square = images.shape[1] == images.shape[2]
    others = [np.rot90(images, turn, (1, 2)) for turn in (1, 2, 3)] if square else [
        images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1]
    ]  # fmt: skip
    return replace(
        plain,
        features={"image": np.ascontiguousarray(np.concatenate([images, *others]))},
        target=np.concatenate([plain.target + turn * classes for turn in range(4)]),
        train=4 * rows,
        classes=4 * classes,
    )


@dataclass(slots=True)
class _Tap:
    """Keeps what the last linear layer was given."""

    seen: torch.Tensor | None = None

    def __call__(self, _layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self.seen = given[0].detach()


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """The name of a network's last linear layer, and the layer.

    Raises:
        TrainingError: it has none.
    """
    found = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise TrainingError("the network has no linear layer at its end", where="network", mend="Choose another one.")
    return found[-1]


@torch.no_grad()
def inner(network: nn.Module, features: Features, rows: slice) -> npt.NDArray[np.float32]:
    """What a network's last linear layer reads of some rows, float32 ``[n, d]``."""
    tap = _Tap()
    handle = last_linear(network.eval())[1].register_forward_pre_hook(tap)
    parts = []
    start, stop, _ = rows.indices(len(next(iter(features.values()))))
    device = next(network.parameters()).device
    try:
        for first in range(start, stop, _CHUNK):
            batch = network_inputs(features, slice(first, min(first + _CHUNK, stop)))
            network(**{name: tensor.to(device) for name, tensor in batch.items()})
            assert tap.seen is not None
            parts.append(tap.seen.float().cpu().numpy())
    finally:
        handle.remove()
    return np.concatenate(parts)


def _space(rows: prototypes.Floats, problem: Problem, own: Mapping[str, Any], context: Context) -> prototypes.Space:
    codes = np.asarray(problem.target[: problem.train], np.int64)
    if own["shrinkage"] is not None:
        return prototypes.fit_space(rows, codes, float(own["shrinkage"]))
    return prototypes.best_space(rows, codes, shots=own["shots"], seed=context.seed)


def _headed(
    network: nn.Module, spec: dict[str, Any], problem: Problem, rows: prototypes.Floats, space: prototypes.Space
) -> GradientModel:
    """The network with one output a class: its squared distance from the class's mean, which is linear in the row.

    *rows* are what the last layer reads of the training rows, less the centre of *space*.
    """
    codes = np.asarray(problem.target[: problem.train], np.int64)
    means = np.zeros((problem.classes, rows.shape[1]), np.float64)
    np.add.at(means, codes, rows)
    counts = np.bincount(codes, minlength=problem.classes)
    means /= np.maximum(counts, 1)[:, None]
    square = space.matrix.astype(np.float64) @ space.matrix.T
    weight = means @ square
    bias = -0.5 * (weight * means).sum(axis=1) - weight @ space.centre
    bias[counts == 0] = bias.min(initial=0) - 1e3  # a class without rows is never near
    fresh = build_network(spec, problem.info, problem.classes)
    name, layer = last_linear(fresh)
    own = {k: v for k, v in network.state_dict().items() if not k.startswith(f"{name}.")}
    fresh.load_state_dict(own, strict=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    device = next(network.parameters()).device
    parameters = sum(p.numel() for p in fresh.parameters())
    model = GradientModel(fresh.to(device), spec, problem.info, device, {"parameters": parameters})
    if len(problem.target) > problem.train:
        held = slice(problem.train, None)
        scores = model.scores({key: array[held] for key, array in problem.features.items()})
        scale = best_scale(scores, problem.target[held])
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.mul_(scale)
    return model
