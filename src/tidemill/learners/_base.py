"""What a learner is: it turns features and targets into a fitted model that can score rows and be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.data.logged import Logged
from tidemill.data.schema import Kind
from tidemill.features._base import FeatureInfo, Features

Scores = npt.NDArray[np.float32]


class Pruned(Exception):  # noqa: N818 - a signal between tune and a learner, not an error
    """Raised by :attr:`Context.report` when tuning gives up on a trial; learners let it pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The features and targets of one dataset version: training rows first, then validation rows.

    Attributes:
        kind: ``classification``, ``multilabel`` or ``regression``.
        features: arrays with ``n`` rows each, usually memory-mapped read-only; never copied whole.
        info: what each feature array is.
        target: int64 codes ``[n]`` for classification, uint8 ``[n, classes]`` of 0 and 1 for multilabel, float32
            ``[n]`` for regression.
        weight: float32 ``[n]`` sample weights, or ``None`` when all are one.
        train: how many of the rows train; rows ``[train:]`` validate. In the refit of a chosen recipe all rows train.
        classes: number of labels; 1 for regression.
        logged: of choices, what was chosen, how likely that was, and between what; ``target`` are their rewards.
        labels: of choices, the names of the actions.
        described: of choices, that the features are of the chosen action, too, and not of the context alone.
    """

    kind: Kind
    features: Features
    info: Mapping[str, FeatureInfo]
    target: npt.NDArray[Any]
    train: int
    classes: int
    weight: npt.NDArray[np.float32] | None = None
    logged: Logged | None = None
    labels: tuple[str, ...] = ()
    described: bool = False


class Work(Protocol):
    """What a :class:`Team` is doing."""

    def poll(self) -> int | None:
        """The exit status, or ``None`` while it works."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status."""

    def stop(self) -> None:
        """Ask all of it to end cleanly, as Ctrl-C does."""

    def result(self) -> Any:
        """What the first process's function returned, as JSON.

        Raises:
            TidemillError: a process's function raised it, or a process died.
        """


class Team(Protocol):
    """Several processes of this machine that can train one network together, as an engine gives them.

    Attributes:
        processes: how many there may be.
    """

    processes: int

    def submit(self, target: str, arguments: dict[str, Any], *, processes: int) -> Work:
        """Start ``module:function`` with keyword *arguments* (JSON) in each of so many processes."""


def _unheard(_epoch: int, _metrics: dict[str, float]) -> None:
    """Nobody listens to the learning curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one fit may use and must obey.

    Attributes:
        seed: every random draw of the fit follows from it.
        max_epochs: upper bound on passes over the data, or ``None`` for the recipe's own.
        threads: how many CPU threads it may use.
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for the fastest there is.
        workdir: where checkpoints lie, for exact resume; ``None`` keeps none.
        report: called after each epoch with the epoch's number (from 1) and metrics (at least ``validation_loss`` and
            ``validation_score``, larger is better); may raise :class:`Pruned` or ``KeyboardInterrupt``.
        team: processes that may train one network together; ``None``: this one alone.
    """

    seed: int = 0
    max_epochs: int | None = None
    threads: int = 1
    device: str = "auto"
    workdir: Path | None = None
    report: Callable[[int, dict[str, float]], None] = _unheard
    team: Team | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A fitted model in the forms that a package may hold.

    Attributes:
        onnx: a graph whose inputs bear the names and dtypes of the features, and whose output ``scores`` is float32
            ``[n, classes]``: unnormalised log-probabilities, for multilabel one logit a label, for regression
            ``[n, 1]`` values or ``[n, 3]``: value, and the two ends of its 90 % interval; for choices ``[n, d]``, what
            the heads in ``state`` read. ``None`` when it does not convert.
        tensors: the weights by name for ``model.safetensors``, or ``None``.
        network: what rebuilds the network around the tensors, ``{"name": …, …arguments}``.
        note: why ``onnx`` is ``None``, in plain words.
        state: what it starts with of what will learn while it serves, as safetensors; ``None`` for what does not.
    """

    onnx: bytes | None
    tensors: Mapping[str, npt.NDArray[Any]] | None = None
    network: dict[str, Any] | None = None
    note: str | None = None
    state: bytes | None = None


class Fitted(Protocol):
    """A trained model in memory."""

    @property
    def summary(self) -> dict[str, Any]:
        """JSON facts for the run record: epochs, steps, parameters, device, seconds of training alone.

        ``chosen`` holds the parameters that fix what validation rows chose (rounds, penalty, epochs), so that a refit
        with them, which has no validation rows, chooses the same.
        """

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, classes]``, as :attr:`Export.onnx` would give them."""

    def export(self) -> Export:
        """The model in the forms that a package may hold."""


class Learner(Protocol):
    """A way to learn; one file each in :mod:`tidemill.learners`, found by ``name``."""

    name: ClassVar[str]
    streams: ClassVar[bool]
    """True when anonymous memory stays flat however many rows there are."""
    quick: ClassVar[bool]
    """True when a fit takes moments, so that a few more may be made for out-of-fold scores."""

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """Passes over *rows* training rows that a fit makes at most, unless :attr:`Context.max_epochs` bounds it."""

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> Fitted:
        """Train on the first ``problem.train`` rows, select on the others where there are any.

        Raises:
            TrainingError: it diverged, or a parameter does not fit the data.
            Pruned: tuning gave up on this trial.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeView:
    """The part of a recipe that a learner sees.

    Attributes:
        network: the network's spec for the gradient learner; the class or factory's reference for ``sklearn``.
        params: the recipe's defaults with a trial's choices over them.
        init: tensors to start from, by name, or ``None``.
    """

    network: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    init: Mapping[str, npt.NDArray[Any]] | None = None
