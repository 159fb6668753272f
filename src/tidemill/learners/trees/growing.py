"""Growing one ensemble: LightGBM's data, its options, and what is told and timed while it works."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from tidemill.errors import TrainingError
from tidemill.learners._base import Context, Problem

_EPOCH = 0.5


def rounds_an_epoch(rate: float) -> int:
    """How many rounds count as one epoch: what ``max_epochs`` bounds, and how often the learning curve is reported.

    Ten at a learning rate of 0.05, and in proportion fewer at a higher one, so that curves of different rates compare
    by epochs: where tuning gives up on a trial, a slow learner is not taken for a bad one.

    >>> rounds_an_epoch(0.05), rounds_an_epoch(0.02), rounds_an_epoch(0.3)
    (10, 25, 2)
    """
    return max(1, round(_EPOCH / max(rate, 1e-3)))


_FEWEST_FEATURES = 4
_BINNING = ("max_bin", "feature_pre_filter", "verbosity", "num_threads", "seed")
Told = Callable[[int, float, float], None]
"""Called with the rounds grown so far, the validation loss, and the validation error."""


@dataclass(frozen=True, slots=True)
class Grown:
    """An ensemble, its best number of rounds, how many were grown, and the loss after each on validation rows."""

    booster: lightgbm.Booster
    best: int
    rounds: int
    losses: list[float]


class Data:
    """The rows of a problem, binned once, whatever is learned from them.

    Args:
        matrix: float32 ``[train, d + k]``.
        held_out: validation rows, or ``None`` when there are none.
    """

    def __init__(
        self,
        problem: Problem,
        matrix: npt.NDArray[np.float32],
        held_out: npt.NDArray[np.float32] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._train = problem.train
        categorical = problem.info["codes"].shape[0] if "codes" in problem.info else 0
        columns = list(range(matrix.shape[1] - categorical, matrix.shape[1]))
        binning = {name: options[name] for name in _BINNING}
        weight = problem.weight

        def made(rows: npt.NDArray[np.float32], part: slice, like: lightgbm.Dataset | None) -> lightgbm.Dataset:
            return lightgbm.Dataset(
                rows,
                np.zeros(len(rows), np.float32),
                weight=None if weight is None else weight[part],
                reference=like,
                categorical_feature=columns,
                params=binning,
            ).construct()

        self.train = made(matrix, slice(0, problem.train), None)
        self.held_out = None if held_out is None else made(held_out, slice(problem.train, None), self.train)

    def teach(self, target: npt.NDArray[Any]) -> None:
        """Set what is to be learned, ``[n]``, training rows first."""
        self.train.set_label(np.asarray(target[: self._train], np.float32))
        if self.held_out is not None:
            self.held_out.set_label(np.asarray(target[self._train :], np.float32))


def grow(data: Data, options: Mapping[str, Any], rounds: int, stop: int = 0, told: Told | None = None) -> Grown:
    """Grow an ensemble of at most *rounds* rounds, less when *stop* of them did not better the first metric.

    Raises:
        TrainingError: LightGBM refuses the parameters.
    """
    losses: list[float] = []
    callbacks: list[Any] = [_Pacer(int(options["num_threads"]))]
    if data.held_out is not None:
        callbacks.append(_Curve(losses, told, rounds_an_epoch(float(options["learning_rate"]))))
        if stop > 0:
            callbacks.append(lightgbm.early_stopping(stop, first_metric_only=True, verbose=False))
    sets = [] if data.held_out is None else [data.held_out]
    try:
        booster = lightgbm.train(dict(options), data.train, rounds, valid_sets=sets, callbacks=callbacks)
    except lightgbm.basic.LightGBMError as error:
        raise TrainingError(
            f"LightGBM cannot train with these parameters ({error})",
            where="learner trees",
            mend="Correct the recipe's params.",
        ) from error
    grown = booster.current_iteration()
    best = int(np.argmin(losses)) + 1 if losses and stop > 0 else grown
    return Grown(booster, min(best, grown), grown, losses)


def options(problem: Problem, params: Mapping[str, Any], context: Context, width: int) -> dict[str, Any]:
    """LightGBM's parameters but for objective and metric.

    Few rows and few columns bound what would forbid every cut: a leaf of 20 rows is a sound default for thousands and
    too many for forty; and half of three columns leaves no two to interact.
    """
    own = ("n_estimators", "early_stopping_rounds", "min_child_samples", "interval_rounds", "label_rounds", "bags")
    share = max(float(params["colsample_bytree"]), min(1.0, _FEWEST_FEATURES / width))
    return {
        **{name: value for name, value in params.items() if name not in own},
        "colsample_bytree": share,
        "min_child_samples": min(int(params["min_child_samples"]), max(1, problem.train // 20)),
        "min_data_per_group": min(100, max(5, problem.train // 50)),
        "bagging_freq": 1 if params["subsample"] < 1 else 0,
        "seed": context.seed,
        "num_threads": _free(context.threads),
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,
        "verbosity": -1,
    }


def _free(threads: int) -> int:
    """So many threads, less those for which other processes leave no core, by the load of the last minute.

    The threads that build histograms are started with the data and stay; where they wait for a core, a round has taken
    a thousand times as long as with one thread.
    """
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(threads, round(2 * cores - load)))  # the load of an earlier fit may be as much as all cores


class _Curve:
    """Keeps the loss after each round, and tells it every few; a LightGBM callback."""

    before_iteration = False
    order = 20

    def __init__(self, losses: list[float], told: Told | None, every: int) -> None:
        self._losses, self._told, self._every = losses, told, every

    def __call__(self, env: Any) -> None:
        values = [entry[2] for entry in env.evaluation_result_list]
        self._losses.append(float(values[0]))
        done = env.iteration + 1
        if self._told is not None and (done % self._every == 0 or done == env.end_iteration):
            self._told(done, float(values[0]), float(values[-1]))


class _Pacer:
    """Takes one thread instead of several while a busy neighbour makes that faster; a LightGBM callback.

    OpenMP's threads wait for one another by spinning: where a core is taken, two threads have been ten times slower
    than one. Of every 16 rounds the first is timed with all threads and the second with one. Trees do not depend on the
    number of threads, and it is set in the same rounds whatever the clock says, so the result stays the same.
    """

    before_iteration = True
    order = 5
    _period = 16

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._marks: list[float] = []
        self._varied: bool | None = None

    def _usable(self, booster: lightgbm.Booster) -> bool:
        """LightGBM refuses new parameters when no feature has two values in its eyes."""
        if self._varied is None:
            found = re.search(r"^feature_infos=(.*)$", booster.model_to_string(), re.MULTILINE)
            self._varied = found is not None and set(found[1].split()) != {"none"}
        return self._varied

    def __call__(self, env: Any) -> None:
        place = env.iteration % self._period
        if place > 2 or not self._usable(env.model):
            return
        if place == 0:
            self._marks = []
        self._marks.append(time.perf_counter())
        if place == 0:
            env.model.reset_parameter({"num_threads": self._threads})
        elif place == 1:
            env.model.reset_parameter({"num_threads": 1})
        else:
            several, one = self._marks[1] - self._marks[0], self._marks[2] - self._marks[1]
            env.model.reset_parameter({"num_threads": 1 if one < several else self._threads})
