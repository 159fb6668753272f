"""The learner ``trees``: what is grown for each kind of target."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import lightgbm
import numpy as np
import numpy.typing as npt

from tidemill.errors import TrainingError
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._params import checked, positive
from tidemill.learners.trees.fitted import FittedTrees, float32_thresholds, matrix
from tidemill.learners.trees.growing import Data, Grown, Told, grow, options, rounds_an_epoch

MOST_ROUNDS = 2000
"""What bounds the rounds where validation rows stop them."""
RATE, QUICK_RATE, MANY = 0.05, 0.1, 10
"""The learning rate unless given, and that for more labels or classes than these, each of which takes its own trees."""
ENDS = (0.05, 0.95)
"""The quantiles between which a regression's raw interval lies."""

_DEFAULTS: dict[str, Any] = {
    "n_estimators": 0,
    "learning_rate": RATE,
    "num_leaves": 31,
    "max_depth": -1,
    "min_child_samples": 20,
    "subsample": 1.0,
    "colsample_bytree": 0.5,
    "reg_alpha": 0.0,
    "reg_lambda": 0.0,
    "max_bin": 255,
    "cat_smooth": 10.0,
    "cat_l2": 10.0,
    "max_cat_threshold": 32,
    "early_stopping_rounds": -1,
    "interval_rounds": 100,
    "label_rounds": [],
    "bags": 0,
}
_MEDIAN_ROWS = 100_000
_BAGS, _BAGGED_ROWS = 3, 200_000


class Trees:
    """Boosted trees on ``x`` (NaN is a value of its own) and ``codes`` (as categories).

    Parameters bear the names of LightGBM's scikit-learn interface, and a few are the house's own:

    - ``n_estimators``: rounds; 0 for at most 2,000 where validation rows stop them, else 20 / learning rate.
    - ``learning_rate``: 0.05 unless given, and 0.1 for more than 10 labels or classes.
    - ``early_stopping_rounds``: stop when so many rounds did not better the validation loss, and keep the best one;
      -1 for 4 / learning rate, 0 for never.
    - ``interval_rounds``: rounds of each of the two quantile ensembles (5 % and 95 %) that a regression grows beside
      the one for its value; 0 for none. They learn faster and are kept small, so that they cost a fraction of it.
    - ``bags``: ensembles that differ in their random draws alone, and are averaged, where no validation rows are left
      (the refit of a chosen recipe). 0 for 3, or 1 where there are more than 200,000 rows or 10 classes. Several labels
      are never averaged.
      For a convex loss the average is never worse than its parts are on average (Breiman, 1996); trials are judged by
      one.
    - ``label_rounds``: for several labels, the rounds of each, as an earlier fit chose them.

    A regression's target is brought to mean 0 and deviation 1 first, so that float32 in the graph keeps its digits.
    Several labels get an ensemble each, over data that are binned once. The same data, parameters and seed give the
    same trees, with any number of threads. An epoch is 0.5 / learning rate rounds, ten unless one is given; for several
    labels one is reported for each label.

    The whole matrix is held in memory: 4 bytes a value and 1 more for its bin.
    """

    name: ClassVar[str] = "trees"
    streams: ClassVar[bool] = False
    quick: ClassVar[bool] = True

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """Those of all rounds, however many rows; early stopping may end it sooner.

        Raises:
            TrainingError: a wrong parameter.
        """
        read = self._read(params)
        return -(-int(read["n_estimators"] or MOST_ROUNDS) // rounds_an_epoch(read["learning_rate"]))

    def usual_params(self, rows: int, classes: int) -> dict[str, Any]:
        """What is taken where the parameters say nothing, however many rows."""
        return _usual(classes)

    def usual_epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """After how many epochs early stopping tends to end a fit: 80 or fewer.

        At a rate of 0.05 the best round of Adult's census was near 260 and that of California's housing near 1,000, and
        80 more are grown to see it.
        """
        return min(self.epochs(rows, params), 80)

    def _read(self, params: Mapping[str, Any], classes: int = 1) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        read = checked(given, _usual(classes), self.name)
        return read | {"learning_rate": positive("learning_rate", read["learning_rate"], self.name)}

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> FittedTrees:
        """Train on the first ``problem.train`` rows, stop early by the others.

        Raises:
            TrainingError: a wrong parameter, a target that does not vary, features that trees do not read, or neither
                ``x`` nor ``codes`` among them.
            Pruned: tuning gave up on this trial.
        """
        params = self._read(recipe.params, problem.classes)
        _refuse_unsuitable(problem)
        started = time.perf_counter()
        rows = matrix(problem.features, slice(0, problem.train))
        fill = _fill(rows, problem.info["codes"].shape[0] if "codes" in problem.info else 0)
        held_out = None
        if len(problem.target) > problem.train:
            held_out = matrix(problem.features, slice(problem.train, len(problem.target)))
            held_out = np.where(np.isnan(held_out), fill, held_out)
        settings = options(problem, params, context, rows.shape[1])
        work = _Work(problem, params, context, settings, Data(problem, rows, held_out, settings))
        del rows, held_out
        fitted = {"regression": work.regression, "multilabel": work.multilabel}.get(problem.kind, work.classification)()
        facts = {"rows": problem.train, **fitted.summary, "seconds": time.perf_counter() - started}
        return dataclasses.replace(fitted, fill=fill, summary=facts)


def _usual(classes: int) -> dict[str, Any]:
    return {**_DEFAULTS, "learning_rate": QUICK_RATE if classes > MANY else RATE}


class _Work:
    """One fit: the same data and settings, and what each kind of target makes of them."""

    def __init__(
        self, problem: Problem, params: Mapping[str, Any], context: Context, settings: dict[str, Any], data: Data
    ) -> None:
        self.problem, self.params, self.context = problem, params, context
        self.settings, self.data = settings, data
        rate = float(params["learning_rate"])
        self.each = rounds_an_epoch(rate)
        validating = data.held_out is not None
        rounds = params["n_estimators"] or (MOST_ROUNDS if validating else round(20 / max(rate, 1e-3)))
        self.rounds = self._bounded(rounds)
        stop = int(params["early_stopping_rounds"])
        self.bags = 1
        if not validating and params["colsample_bytree"] * params["subsample"] < 1:
            small = problem.train <= _BAGGED_ROWS and problem.classes <= MANY
            self.bags = int(params["bags"] or (_BAGS if small else 1))
        self.stop = max(10, math.ceil(4 / max(rate, 1e-3))) if stop < 0 else stop

    def _bounded(self, rounds: float) -> int:
        most = self.context.max_epochs
        return max(1, int(rounds) if most is None else min(int(rounds), most * self.each))

    def _fitted(
        self,
        boosters: list[tuple[int, lightgbm.Booster]],
        summary: dict[str, Any],
        shift: npt.ArrayLike,
        scale: npt.ArrayLike = 1.0,
    ) -> FittedTrees:
        shift = np.asarray(shift, np.float64)
        return FittedTrees(
            kind=self.problem.kind,
            boosters=boosters,
            info=self.problem.info,
            fill=np.zeros(0, np.float32),
            classes=self.problem.classes,
            scale=np.broadcast_to(np.asarray(scale, np.float64), shift.shape),
            shift=shift,
            threads=self.context.threads,
            summary=summary,
        )

    def _bagged(self, objective: dict[str, Any], told: Told) -> tuple[list[tuple[int, lightgbm.Booster]], Grown]:
        """The ensembles to average, for the columns from the first on."""
        grown = [
            grow(self.data, self.settings | objective | _draws(self.context.seed, bag), self.rounds, self.stop, told)
            for bag in range(self.bags)
        ]
        return [(0, float32_thresholds(one.booster, one.best)) for one in grown], grown[0]

    def _summary(self, grown: Grown, **chosen: Any) -> dict[str, Any]:
        epochs = -(-grown.rounds // self.each)
        return {"rounds": grown.best, "epochs": epochs, "chosen": {"n_estimators": grown.best, **chosen}}

    def classification(self) -> FittedTrees:
        k = self.problem.classes
        objective: dict[str, Any] = {"objective": "binary", "metric": ["binary_logloss", "binary_error"]}
        if k > 2:
            objective = {"objective": "multiclass", "num_class": k, "metric": ["multi_logloss", "multi_error"]}
        self.data.teach(self.problem.target)

        def told(rounds: int, loss: float, error: float) -> None:
            self._report(-(-rounds // self.each), loss, 1 - error)

        boosters, grown = self._bagged(objective, told)
        return self._fitted(boosters, self._summary(grown), np.zeros(1 if k == 2 else k), 1 / self.bags)

    def regression(self) -> FittedTrees:
        train = np.asarray(self.problem.target[: self.problem.train], np.float64)
        weight = None if self.problem.weight is None else self.problem.weight[: self.problem.train]
        mean = float(np.average(train, weights=weight))
        deviation = float(np.sqrt(np.average(np.square(train - mean), weights=weight)))
        scale = deviation if deviation > 1e-12 * max(abs(mean), 1e-30) else 1.0
        self.data.teach((np.asarray(self.problem.target, np.float64) - mean) / scale)

        def told(rounds: int, loss: float, _error: float) -> None:
            self._report(-(-rounds // self.each), loss * scale**2, -loss * scale**2)

        objective = {"objective": "regression", "metric": ["l2"]}
        boosters, grown = self._bagged(objective, told)
        chosen, scales = {}, [scale / self.bags]
        if self.params["interval_rounds"]:
            ends, best = self._ends()
            boosters += [(1, ends[0]), (2, ends[1])]
            scales += [scale, scale]
            chosen["interval_rounds"] = best
        return self._fitted(boosters, self._summary(grown, **chosen), np.full(len(scales), mean), scales)

    def _ends(self) -> tuple[list[lightgbm.Booster], int]:
        """The quantile ensembles (Koenker and Bassett, 1978), cut where both together lose least on validation rows."""
        rounds = self._bounded(self.params["interval_rounds"])
        quicker = {
            "learning_rate": max(0.1, float(self.params["learning_rate"])),
            "num_leaves": min(31, int(self.params["num_leaves"])),
        }
        grown = [
            grow(
                self.data,
                self.settings | quicker | {"objective": "quantile", "alpha": alpha, "metric": ["quantile"]},
                rounds,
            )
            for alpha in ENDS
        ]
        lost = np.sum([end.losses for end in grown], axis=0) if grown[0].losses else np.zeros(0)
        best = int(np.argmin(lost)) + 1 if len(lost) and self.stop > 0 else rounds
        return [float32_thresholds(end.booster, best) for end in grown], best

    def multilabel(self) -> FittedTrees:
        given = self.params["label_rounds"]
        if given and len(given) != self.problem.classes:
            raise TrainingError(
                f"label_rounds gives {len(given)} numbers for {self.problem.classes} labels",
                where="learner trees",
                mend="Give one a label, or leave it out.",
            )
        target, train = self.problem.target, self.problem.train
        boosters: list[tuple[int, lightgbm.Booster]] = []
        shift, best, most, losses, rights = [], [], 0, [], []
        objective = {"objective": "binary", "metric": ["binary_logloss", "binary_error"]}
        for label in range(self.problem.classes):
            column = np.asarray(target[:, label], np.float32)
            has = float(column[:train].sum())
            if has in (0, train):
                shift.append(math.log((has + 0.5) / (train - has + 0.5)))
                best.append(0)
                continue
            last = [0.0, 0.0]

            def told(_rounds: int, loss: float, error: float, last: list[float] = last) -> None:
                last[:] = [loss, 1 - error]

            self.data.teach(column)
            rounds = self._bounded(given[label]) if given and given[label] else self.rounds
            grown = grow(self.data, self.settings | objective, rounds, self.stop, told)
            boosters.append((label, float32_thresholds(grown.booster, grown.best)))
            shift.append(0.0)
            best.append(grown.best)
            most = max(most, grown.rounds)
            losses.append(min(grown.losses, default=0.0))
            rights.append(last[1])
            if grown.losses:
                # every trial goes through the labels in the same order, so these means compare
                self._report(label + 1, float(np.mean(losses)), float(np.mean(rights)))
        summary = {
            "rounds": max(best),
            "epochs": -(-most // self.each),
            "chosen": {"n_estimators": max(best), "label_rounds": best},
        }
        return self._fitted(boosters, summary, shift)

    def _report(self, epoch: int, loss: float, score: float) -> None:
        self.context.report(epoch, {"validation_loss": loss, "validation_score": score})


def _draws(seed: int, bag: int) -> dict[str, int]:
    """Seeds of what is drawn while trees grow; that of the bins stays, since they are shared."""
    if bag == 0:
        return {}
    return dict.fromkeys(("feature_fraction_seed", "bagging_seed", "extra_seed"), seed + 7919 * bag)


def _refuse_unsuitable(problem: Problem) -> None:
    unread = [name for name, item in problem.info.items() if item.dtype == "sparse" or name == "tokens"]
    if unread or not {"x", "codes"} & problem.info.keys():
        raise TrainingError(
            f"trees read x and codes, and the features are {', '.join(problem.info)}",
            where="learner trees",
            mend="Use the steps numbers, categories, dates or pixel_vector, and text_vector instead of ngrams or bpe.",
        )
    train = problem.target[: problem.train]
    if problem.kind == "classification" and len(np.unique(train)) < 2:
        raise TrainingError(
            "all training rows are of one class", where="learner trees", mend="Label samples of another class."
        )
    if problem.kind == "multilabel" and (train == train[:1]).all():
        raise TrainingError(
            "all training rows have the same labels", where="learner trees", mend="Label samples with others."
        )


def _fill(rows: npt.NDArray[np.float32], categorical: int) -> npt.NDArray[np.float32]:
    """The median of every number that was never missing: LightGBM would take a later NaN there for 0."""
    seen = np.asarray(np.isnan(rows).any(axis=0))
    sample = rows[:: max(1, len(rows) // _MEDIAN_ROWS)]
    fill = np.full(rows.shape[1], np.nan, np.float32)
    numbers = np.flatnonzero(~seen[: rows.shape[1] - categorical])
    fill[numbers] = np.median(sample[:, numbers], axis=0)
    return fill
