"""``trees``: gradient boosted decision trees by LightGBM (Ke et al., 2017), answered by an ONNX tree ensemble."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lightgbm
import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._graph import Graph
from tidemill.learners._params import checked

ROUNDS_AN_EPOCH = 10
"""How many rounds count as one epoch: what ``max_epochs`` bounds, and how often the learning curve is reported."""

_DEFAULTS: dict[str, Any] = {
    "n_estimators": 500,
    "learning_rate": 0.1,
    "num_leaves": 31,
    "max_depth": -1,
    "min_child_samples": 20,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "reg_alpha": 0.0,
    "reg_lambda": 0.0,
    "max_bin": 255,
    "cat_smooth": 10.0,
    "early_stopping_rounds": 30,
}
_METRICS = {"binary": ["binary_logloss", "binary_error"], "multiclass": ["multi_logloss", "multi_error"]}
_MEDIAN_ROWS = 100_000


@dataclass(frozen=True)
class FittedTrees:
    """A trained ensemble.

    Attributes:
        booster: the LightGBM model, its thresholds exact in float32.
        info: the features it reads.
        fill: float32 ``[d + k]``, what replaces NaN; NaN itself where the trees learned what a missing value means.
        classes: scores a row.
        summary: facts for the run record.
    """

    booster: lightgbm.Booster
    info: Mapping[str, FeatureInfo]
    fill: npt.NDArray[np.float32]
    classes: int
    threads: int
    summary: dict[str, Any]

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, classes]``: the margins; for two classes 0 and the margin of the second."""
        rows = _matrix(features, slice(None))
        if not len(rows):
            return np.zeros((0, self.classes), np.float32)
        raw = self.booster.predict(np.where(np.isnan(rows), self.fill, rows), raw_score=True, num_threads=self.threads)
        margins = np.asarray(raw, np.float32).reshape(len(rows), -1)
        return np.concatenate([np.zeros_like(margins), margins], axis=1) if self.classes == 2 else margins

    def export(self) -> Export:
        """The ensemble as onnxmltools converts it, rewired to give margins from ``x`` and ``codes``."""
        graph = Graph()
        parts = ["x"] if "x" in self.info else []
        if "codes" in self.info:
            parts.append(graph.cast("codes", TensorProto.FLOAT))
        rows = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
        if not np.isnan(self.fill).all():
            rows = graph.add("Where", graph.add("IsNaN", rows), graph.constant(self.fill), rows)
        width = 1 if self.classes == 2 else self.classes
        graph.nodes.append(_ensemble(self.booster, len(self.fill), rows, margins := "margins", width))
        if self.classes == 2:
            # one tensor for both columns: 0 · margin and 1 · margin
            margins = graph.add("Mul", margins, graph.constant(np.array([[0, 1]], np.float32)))
        model = graph.model(self.info, margins, self.classes, {"ai.onnx.ml": 1})
        return Export(onnx=model.SerializeToString())


class Trees:
    """Boosted trees on ``x`` (NaN is a value of its own) and ``codes`` (as categories).

    Stops when the validation loss has not improved for ``early_stopping_rounds`` and keeps the best round. The same
    data, parameters and seed give the same trees, with any number of threads. Parameters bear the names of LightGBM's
    scikit-learn interface. An epoch is 10 rounds.

    The whole matrix is held in memory: 4 bytes a value and 1 more for its bin.
    """

    name: ClassVar[str] = "trees"
    streams: ClassVar[bool] = False

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """Ten rounds an epoch, however many rows; early stopping may end it sooner."""
        return -(-int(params.get("n_estimators", _DEFAULTS["n_estimators"])) // ROUNDS_AN_EPOCH)

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> FittedTrees:
        """Train on the first ``problem.train`` rows, stop early by the others.

        Raises:
            TrainingError: a wrong parameter, only one class, or neither ``x`` nor ``codes`` among the features.
            Pruned: tuning gave up on this trial.
        """
        params = checked(recipe.params, _DEFAULTS, self.name)
        _refuse_unsuitable(problem)
        started = time.perf_counter()
        train = slice(0, problem.train)
        rows = _matrix(problem.features, train)
        fill = _fill(rows, _categorical(problem))
        options = _options(problem, params, context)
        rounds = int(params["n_estimators"])
        if context.max_epochs is not None:
            rounds = min(rounds, context.max_epochs * ROUNDS_AN_EPOCH)
        stop = int(params["early_stopping_rounds"])
        data = _dataset(problem, rows, train, options)
        validating = len(problem.target) > problem.train
        callbacks: list[Any] = [_Pacer(context.threads)]
        sets = []
        if validating:
            rest = slice(problem.train, len(problem.target))
            held_out = _matrix(problem.features, rest)
            held_out = np.where(np.isnan(held_out), fill, held_out)
            sets = [_dataset(problem, held_out, rest, options, reference=data)]
            callbacks.append(_Reporter(context, problem.kind))
            if stop > 0:
                callbacks.append(lightgbm.early_stopping(stop, first_metric_only=True, verbose=False))
        try:
            booster = lightgbm.train(options, data, rounds, valid_sets=sets, callbacks=callbacks)
        except lightgbm.basic.LightGBMError as error:
            raise TrainingError(
                f"LightGBM cannot train with these parameters ({error})",
                where="learner trees",
                mend="Correct the recipe's params.",
            ) from error
        best = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
        facts = {
            "rows": problem.train,
            "rounds": best,
            "epochs": -(-booster.current_iteration() // ROUNDS_AN_EPOCH),
            "seconds": time.perf_counter() - started,
        }
        exact = _float32_thresholds(booster, best)
        return FittedTrees(exact, problem.info, fill, problem.classes, context.threads, facts)


class _Reporter:
    """Tells the learning curve every few rounds; a LightGBM callback."""

    before_iteration = False
    order = 20

    def __init__(self, context: Context, kind: str) -> None:
        self._context, self._kind = context, kind

    def __call__(self, env: Any) -> None:
        done = env.iteration + 1
        if done % ROUNDS_AN_EPOCH and done != env.end_iteration:
            return
        values = [entry[2] for entry in env.evaluation_result_list]
        score = -values[0] if self._kind == "regression" else 1 - values[1]
        metrics = {"validation_loss": float(values[0]), "validation_score": float(score)}
        self._context.report(-(-done // ROUNDS_AN_EPOCH), metrics)


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


def _refuse_unsuitable(problem: Problem) -> None:
    if not {"x", "codes"} & problem.info.keys():
        raise TrainingError(
            f"trees read x and codes, and the features are {', '.join(problem.info)}",
            where="learner trees",
            mend="Use the steps numbers, categories or pixel_vector.",
        )
    if problem.kind == "classification" and len(np.unique(problem.target[: problem.train])) < 2:
        raise TrainingError(
            "all training rows are of one class", where="learner trees", mend="Label samples of another class."
        )


def _categorical(problem: Problem) -> int:
    return problem.info["codes"].shape[0] if "codes" in problem.info else 0


def _matrix(features: Features, rows: slice) -> npt.NDArray[np.float32]:
    parts = [np.asarray(features[name][rows], np.float32) for name in ("x", "codes") if name in features]
    return np.concatenate(parts, axis=1)


def _fill(rows: npt.NDArray[np.float32], categorical: int) -> npt.NDArray[np.float32]:
    """The median of every number that was never missing: LightGBM would take a later NaN there for 0."""
    seen = np.asarray(np.isnan(rows).any(axis=0))
    sample = rows[:: max(1, len(rows) // _MEDIAN_ROWS)]
    fill = np.full(rows.shape[1], np.nan, np.float32)
    numbers = np.flatnonzero(~seen[: rows.shape[1] - categorical])
    fill[numbers] = np.median(sample[:, numbers], axis=0)
    return fill


def _options(problem: Problem, params: Mapping[str, Any], context: Context) -> dict[str, Any]:
    if problem.kind == "regression":
        objective: dict[str, Any] = {"objective": "regression", "metric": ["l2"]}
    else:
        name = "binary" if problem.classes == 2 else "multiclass"
        objective = {"objective": name, "metric": _METRICS[name]}
        if problem.classes > 2:
            objective["num_class"] = problem.classes
    ours = {k: v for k, v in params.items() if k not in ("n_estimators", "early_stopping_rounds", "min_child_samples")}
    return {
        **objective,
        **ours,
        # a leaf of 20 rows is a sound default for thousands, and forbids every cut of forty
        "min_child_samples": min(int(params["min_child_samples"]), max(1, problem.train // 20)),
        "min_data_per_group": min(100, max(5, problem.train // 50)),
        "bagging_freq": 1 if params["subsample"] < 1 else 0,
        "seed": context.seed,
        "num_threads": context.threads,
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,
        "verbosity": -1,
    }


def _dataset(
    problem: Problem,
    matrix: npt.NDArray[np.float32],
    rows: slice,
    options: Mapping[str, Any],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    categorical, width = _categorical(problem), matrix.shape[1]
    return lightgbm.Dataset(
        matrix,
        problem.target[rows],
        weight=None if problem.weight is None else problem.weight[rows],
        reference=reference,
        categorical_feature=list(range(width - categorical, width)),
        params={name: options[name] for name in ("max_bin", "feature_pre_filter", "verbosity", "num_threads")},
    )


def _float32_thresholds(booster: lightgbm.Booster, best: int) -> lightgbm.Booster:
    """The first *best* rounds, with every threshold rounded down to float32.

    The features are float32, so no decision changes; but the graph's thresholds are float32 too, and rounded to the
    nearest they may pass the value that they were to separate.
    """

    def rounded(match: re.Match[str]) -> str:
        wide = np.array(match[1].split(), np.float64)
        near = wide.astype(np.float32)
        down = np.where(near > wide, np.nextafter(near, np.float32(-np.inf)), near)
        return "threshold=" + " ".join(repr(float(value)) for value in down)

    text = booster.model_to_string(num_iteration=best)
    text = re.sub(r"^threshold=(.*)$", rounded, text, flags=re.MULTILINE)
    # the sizes in bytes that let LightGBM parse trees in parallel are wrong now; without them it reads in order
    return lightgbm.Booster(model_str=re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE))


def _ensemble(booster: lightgbm.Booster, features: int, source: str, out: str, width: int) -> Any:
    """The tree ensemble node of onnxmltools's conversion, turned into one that sums margins."""
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = convert_lightgbm(booster, initial_types=[("rows", FloatTensorType([None, features]))], zipmap=False)
    node = next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))
    attributes = {a.name.replace("class_", "target_"): helper.get_attribute_value(a) for a in node.attribute}
    for name in ("classlabels_int64s", "classlabels_strings", "name"):
        attributes.pop(name, None)
    attributes |= {"n_targets": width, "post_transform": "NONE"}
    return helper.make_node("TreeEnsembleRegressor", [source], [out], domain="ai.onnx.ml", **attributes)
