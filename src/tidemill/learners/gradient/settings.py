"""The parameters of the gradient learner, checked at once, and the defaults that follow from the data."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a recipe's ``params`` may say.

    Attributes:
        epochs: passes over the training rows, not necessarily whole; ``None`` follows :func:`default_epochs`.
        passes: how many of them 60,000 rows would get, when ``epochs`` is ``None``.
        stop: epochs after which training ends although its schedule would go on: what a refit takes over from a fit.
        batch_size: rows a step; ``None`` follows :func:`default_batch_size`.
        optimizer: ``adamw`` (https://arxiv.org/abs/1711.05101) or ``sgd`` with Nesterov momentum 0.9.
        learning_rate: the peak of the one-cycle schedule; ``None`` takes 0.02 for adamw and 0.1 for sgd, and a
            tenth of it for networks that do not normalise over the rows of a batch.
        weight_decay: decoupled for adamw, in the gradient for sgd; never on biases and normalisation.
        warmup: the share of all steps in which the learning rate rises.
        label_smoothing: share of the target that is spread over all classes (https://arxiv.org/abs/1512.00567);
            ``None`` is 0.1 for the classes of images and 0 for all else.
        class_weight: ``balanced`` weighs each class by the inverse of its share of the training rows.
        average: share of all steps over which weights are averaged at the end (exponentially); 0 keeps the last ones.
            ``None`` is 0.05, and 0 for networks with a sparse table, of which a step shall not touch every row.
        robust: regression errors beyond one standard deviation of the target count linearly (Huber, 1964), not squared.
        augment: random shifts of images, and mirror images where the data allow it.
        shift: largest shift as a share of the side; ``None`` is 1/24.
        flip: mirror images; ``None`` asks the data (:func:`tidemill.learners.gradient.augment.mirror_is_safe`).
        dropout: share of values that the network silences while training; ``None`` is the network's own.
        randaugment: how strongly images are changed by RandAugment, from 0 to 1; 0 leaves them.
        mixup: α of mixup: rows of pixels, numbers and categories are mixed in pairs, and so are their targets; 0 mixes
            none.
        cutmix: α of CutMix: images get a box of another one, and its target in that share; 0 cuts none.
        noise: normal noise on numbers, in deviations of their column; 0 for none.
        token_dropout: share of a text's tokens that are left out; ``None`` is the network's own.
        token_swap: chance that a token changes places with its neighbour.
        layer_decay: of a pretrained network, what a layer's learning rate is of the one's above it.
        head_rate: of a pretrained network, how much faster the fresh head learns than the layer below it.
        unfreeze: of a pretrained network, the share of all steps in which its layers begin to train, one after the
            other from the head down; 0 trains all from the start.
        patience: epochs without a better validation score before training stops; ``None`` is never.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        checkpoint_seconds: how often a checkpoint is written while training; 0 writes one after every step.
        clip: largest norm of the gradient, or ``None``.
    """

    epochs: float | None = None
    passes: float = 2.0
    stop: float | None = None
    batch_size: int | None = None
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.25
    label_smoothing: float | None = None
    class_weight: str | None = None
    average: float | None = None
    robust: bool = False
    augment: bool = True
    shift: float | None = None
    flip: bool | None = None
    dropout: float | None = None
    randaugment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    noise: float = 0.0
    token_dropout: float | None = None
    token_swap: float = 0.0
    layer_decay: float = 1.0
    head_rate: float = 1.0
    unfreeze: float = 0.0
    patience: int | None = None
    precision: str = "auto"
    checkpoint_seconds: float = 20.0
    clip: float | None = None

    def peak(self, *, normalised: bool) -> float:
        """The highest learning rate, for a network with or without normalisation layers."""
        usual = {"adamw": 0.02, "sgd": 0.1}[self.optimizer]
        return self.learning_rate or (usual if normalised else usual / 10)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adamw", "sgd"),
    "class_weight": (None, "balanced"),
    "precision": ("auto", "float32", "bfloat16"),
}
_RANGES = {
    "epochs": (1e-3, 1e6),
    "passes": (1e-3, 1e4),
    "stop": (1e-3, 1e6),
    "batch_size": (1, 1e6),
    "learning_rate": (1e-8, 100),
    "weight_decay": (0, 10),
    "warmup": (0, 0.9),
    "label_smoothing": (0, 0.9),
    "average": (0, 1),
    "shift": (0, 0.5),
    "dropout": (0, 0.9),
    "randaugment": (0, 1),
    "mixup": (0, 10),
    "cutmix": (0, 10),
    "noise": (0, 10),
    "token_dropout": (0, 0.9),
    "token_swap": (0, 0.9),
    "layer_decay": (0.01, 1),
    "head_rate": (0.01, 1000),
    "unfreeze": (0, 1),
    "patience": (1, 1e6),
    "checkpoint_seconds": (0, 1e6),
    "clip": (1e-8, 1e8),
}


_WHOLE = ("batch_size", "patience")
_SWITCHES = ("robust", "augment", "flip")


def read_settings(params: Mapping[str, Any]) -> Settings:
    """Check a recipe's parameters.

    Raises:
        TrainingError: an unknown name, a value of the wrong type or out of its range; all faults in one message.

    >>> read_settings({"epochs": 3}).epochs
    3
    >>> read_settings({"epoch": 3})
    Traceback (most recent call last):
        ...
    tidemill.errors.TrainingError: params: unknown parameter 'epoch' (did you mean 'epochs'?)...
    """
    known = {f.name: f.default for f in dataclasses.fields(Settings)}
    faults = []
    for name, value in params.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            faults.append(f"unknown parameter {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        elif name in _CHOICES and value not in _CHOICES[name]:
            faults.append(f"{name} is {value!r}, but must be one of {', '.join(map(repr, _CHOICES[name]))}")
        elif value is None and known[name] is None:
            continue
        elif name in _RANGES:
            low, high = _RANGES[name]
            number = isinstance(value, int if name in _WHOLE else int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not low <= value <= high:
                kind = "whole number" if name in _WHOLE else "number"
                faults.append(f"{name} is {value!r}, but must be a {kind} from {low:g} to {high:g}")
        elif name in _SWITCHES and not isinstance(value, bool):
            faults.append(f"{name} is {value!r}, but must be true or false")
    if faults:
        raise TrainingError("; ".join(faults), where="params", mend="Correct the recipe's params.")
    return Settings(**dict(params))


def default_batch_size(rows: int) -> int:
    """A power of two from 32 to 128, about a thirtieth of the rows: small sets still get many steps an epoch.

    >>> [default_batch_size(n) for n in (100, 1_000, 4_000, 60_000)]
    [32, 32, 128, 128]
    """
    return max(32, min(128, 1 << max(rows // 30, 1).bit_length() - 1))


ENOUGH_STEPS = 800
"""What sets of three thousand rows and fewer are trained for: more steps gained less than seeds differ by."""


def default_epochs(rows: int, passes: float = 2.0) -> float:
    """Passes over the data: 2 for 60,000 rows and above, more for fewer by the power 3/4, or until 800 steps.

    With other *passes* than 2 the epochs and the 800 steps grow or shrink in proportion, down to 2 epochs.

    A set ten times smaller is seen five times as often, so its training takes about half of the time and not a tenth of
    it, which would leave it untrained. Where that ends is told under "Small sets" in docs/benchmarks.md.

    >>> [round(default_epochs(n), 2) for n in (100, 1_000, 4_000, 60_000, 1_000_000)]
    [243, 26, 16, 2.0, 2.0]
    """
    epochs = passes * math.pow(60_000 / max(rows, 100), 0.75)
    if epochs <= 3:
        return max(2.0, epochs)
    steps = max(1, rows // default_batch_size(rows))
    return min(math.ceil(epochs), max(4, math.ceil(ENOUGH_STEPS * passes / 2 / steps)))
