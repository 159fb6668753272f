"""``sklearn``: a user's own scikit-learn estimator."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, compose
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tidemill.data.schema import Kind
from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._dense import CHUNK, chunks, count, dense
from tidemill.learners._graph import OPSET, Graph, dense_row
from tidemill.learners._reference import resolve
from tidemill.learners._scoring import validation
from tidemill.networks.faults import fault
from tidemill.packages.proof import TOLERANCE, difference

_FLOOR = 1e-6  # the least probability told from nothing: below, one minus float32's last digit is all there is
_PROBE = 256


@dataclass(frozen=True)
class FittedEstimator:
    """A fitted estimator and how its output becomes scores.

    Attributes:
        kind: of the problem.
        estimator: as its ``fit`` left it.
        info: the features it reads.
        places: the class of each of its output columns.
        classes: scores a row.
        probe: some rows of training data, to compare the converted graph on.
        summary: facts for the run record.
        ref: what made it.
    """

    kind: Kind
    estimator: Any
    info: Mapping[str, FeatureInfo]
    places: npt.NDArray[np.int64]
    classes: int
    probe: dict[str, npt.NDArray[Any]]
    summary: dict[str, Any]
    ref: str

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, classes]``: log-probabilities, log-odds of labels, decisions, or values.

        Raises:
            TrainingError: the estimator raised something.
        """
        try:
            parts = [self._chunk(_rows(features, rows)) for rows in chunks(0, count(features))]
        except Exception as error:  # of somebody else's code: anything
            what = f"{type(self.estimator).__name__} gives no scores"
            raise fault(error, self.ref, what, "Mend this code.") from error
        return np.concatenate(parts) if parts else np.zeros((0, self.classes), np.float32)

    def _chunk(self, rows: npt.NDArray[np.float32]) -> Scores:
        if self.kind == "regression":
            return np.asarray(self.estimator.predict(rows), np.float32).reshape(-1, 1)
        if self.kind == "multilabel":
            return self._labels(rows)
        if hasattr(self.estimator, "predict_proba"):
            given = np.log(np.clip(self.estimator.predict_proba(rows), _FLOOR, 1))
            absent = np.log(_FLOOR)
        else:
            given = _two_columns(np.asarray(self.estimator.decision_function(rows), np.float64))
            absent = given.min(axis=1, initial=0)[:, None] - 10
        scores = np.empty((len(rows), self.classes), np.float32)
        scores[:] = absent
        scores[:, self.places] = given
        return scores

    def _labels(self, rows: npt.NDArray[np.float32]) -> Scores:
        if not hasattr(self.estimator, "predict_proba"):
            return np.asarray(self.estimator.decision_function(rows), np.float32).reshape(len(rows), self.classes)
        given = self.estimator.predict_proba(rows)
        if isinstance(given, list):  # a table of two columns for each label, or of one where training saw one value
            seen = [estimated.classes_ for estimated in getattr(self.estimator, "estimators_", [])]
            classes = getattr(self.estimator, "classes_", seen)
            given = np.stack(
                [
                    table[:, -1] if table.shape[1] == 2 else np.full(len(table), float(values[0]))
                    for table, values in zip(given, classes, strict=True)
                ],
                axis=1,
            )
        p = np.clip(given, _FLOOR, 1 - _FLOOR)
        return np.asarray(np.log(p) - np.log1p(-p), np.float32)

    def export(self) -> Export:
        """A graph by skl2onnx when the estimator converts and the graph gives the same scores, else the reason."""
        if self.kind == "multilabel" and self._tables():
            name = type(self.estimator).__name__
            return Export(onnx=None, note=f"{name} gives a table a label; wrap the estimator in OneVsRestClassifier")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # skl2onnx reads what newer scikit-learns deprecate; the scores decide
                graph = self._convert()
        except (
            RuntimeError,
            NotImplementedError,
            TypeError,
            ValueError,
            AttributeError,
            KeyError,
            ImportError,
        ) as error:
            # skl2onnx has no common error; whatever it says is told to the user
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            return Export(onnx=None, note=f"{type(self.estimator).__name__} does not convert to ONNX: {reason}")
        far = self._difference(graph)
        if not far <= TOLERANCE:
            name = type(self.estimator).__name__
            return Export(onnx=None, note=f"the ONNX form of {name} gives other scores, by {far:.2g}")
        return Export(onnx=graph)

    def _tables(self) -> bool:
        """Whether probabilities come as one table a label."""
        if not hasattr(self.estimator, "predict_proba"):
            return False
        return isinstance(self.estimator.predict_proba(_rows(self.probe, slice(0, 1))), list)

    def _convert(self) -> bytes:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        kind = FloatTensorType([None, _rows(self.probe, slice(0, 1)).shape[1]])
        last = self.estimator.steps[-1][1] if isinstance(self.estimator, SklearnPipeline) else self.estimator
        inner = None
        for options in self._converter_options():
            try:
                inner = to_onnx(
                    self.estimator,
                    initial_types=[("rows", kind)],
                    options={id(last): options},
                    target_opset={"": OPSET, "ai.onnx.ml": 3},
                )
                break
            except NameError:  # how skl2onnx says that this converter does not know an option
                continue
        if inner is None:
            raise NotImplementedError("its converter knows none of the needed options")
        inner = compose.add_prefix(inner, "sk_")
        graph = Graph()
        parts = [part for part in [dense_row(graph, self.info, None)] if part is not None]
        if "codes" in self.info:
            parts.append(graph.cast("codes", TensorProto.FLOAT))
        rows = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
        for node in inner.graph.node:
            node.input[:] = [rows if name == "sk_rows" else name for name in node.input]
            graph.nodes.append(node)
        graph.constants.extend(inner.graph.initializer)
        out = inner.graph.output[-1].name
        domains = {op.domain: op.version for op in inner.opset_import if op.domain}
        return bytes(graph.model(self.info, self._finish(graph, out), self.classes, domains).SerializeToString())

    def _converter_options(self) -> list[dict[str, Any]]:
        if self.kind == "regression":
            return [{}]
        if hasattr(self.estimator, "predict_proba"):
            return [{"zipmap": False}, {}]
        return [{"zipmap": False, "raw_scores": True}, {"raw_scores": True}, {}]

    def _finish(self, graph: Graph, out: str) -> str:
        """Nodes from the estimator's output to scores by class."""
        if self.kind == "regression":
            return graph.add("Reshape", out, graph.constant(np.array([-1, 1], np.int64)))
        given = out
        if self.kind == "multilabel":
            if not hasattr(self.estimator, "predict_proba"):
                return given
            low, high = (graph.constant(np.float32(bound)) for bound in (_FLOOR, 1 - _FLOOR))
            p = graph.add("Clip", out, low, high)
            odds = graph.add("Div", p, graph.add("Sub", graph.constant(np.float32(1)), p))
            return graph.add("Log", odds)
        if hasattr(self.estimator, "predict_proba"):
            clipped = graph.add("Clip", out, graph.constant(np.float32(_FLOOR)), graph.constant(np.float32(1)))
            given = graph.add("Log", clipped)
        if len(self.places) == self.classes:
            return given
        if hasattr(self.estimator, "predict_proba"):
            absent = graph.constant(np.full((1, 1), np.log(_FLOOR), np.float32))
        else:
            least = graph.add("ReduceMin", given, axes=[1], keepdims=1)
            least = graph.add("Min", least, graph.constant(np.zeros((1, 1), np.float32)))
            absent = graph.add("Sub", least, graph.constant(np.full((1, 1), 10, np.float32)))
        # classes that no training row had: every output column to its place, and the rest filled
        spread = np.zeros((len(self.places), self.classes), np.float32)
        spread[np.arange(len(self.places)), self.places] = 1
        missing = (1 - spread.sum(axis=0, keepdims=True)).astype(np.float32)
        placed = graph.add("MatMul", given, graph.constant(spread))
        return graph.add("Add", placed, graph.add("Mul", absent, graph.constant(missing)))

    def _difference(self, graph: bytes) -> float:
        from tidemill.packages.graph import open_graph

        session = open_graph(graph, self.info)
        got = session.run(["scores"], {node.name: self.probe[node.name] for node in session.get_inputs()})[0]
        return difference(self.kind, got, self.scores(self.probe))


class Estimator:
    """Whatever ``network = {"ref": "FILE.py:NAME", ...arguments}`` makes, with the recipe's params as keywords.

    It gets float32 rows: pixels between 0 and 1, then ``x``, then ``codes`` as numbers (use the step ``onehot`` when
    codes have no order). ``random_state`` is set from the context where the estimator has one and the recipe does not;
    sample weights are passed where its ``fit`` takes them.
    """

    name: ClassVar[str] = "sklearn"
    streams: ClassVar[bool] = False
    quick: ClassVar[bool] = True

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """One call of the estimator's ``fit``."""
        return 1

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> FittedEstimator:
        """Train on the first ``problem.train`` rows.

        Raises:
            TrainingError: the reference leads nowhere, the estimator refuses, or cannot answer with scores.
        """
        ref = _ref(recipe)
        estimator = _make(ref, recipe, context)
        if problem.kind != "regression" and not (
            hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")
        ):
            raise TrainingError(
                f"{type(estimator).__name__} gives neither probabilities nor decision values",
                where="learner sklearn",
                mend="Wrap it in sklearn.calibration.CalibratedClassifierCV.",
            )
        _refuse_unread(problem.info)
        rows = _rows(problem.features, slice(0, problem.train))
        extra = {}
        if problem.weight is not None and has_fit_parameter(estimator, "sample_weight"):
            extra["sample_weight"] = np.asarray(problem.weight[: problem.train])
        started = time.perf_counter()
        try:
            with threadpool_limits(context.threads):
                estimator.fit(rows, np.asarray(problem.target[: problem.train]), **extra)
        except Exception as error:  # of somebody else's code: anything
            what = f"{type(estimator).__name__} refused the training data"
            raise fault(error, ref, what, "Change its parameters or the recipe's features.") from error
        seconds = time.perf_counter() - started
        places = np.arange(problem.classes)
        if problem.kind == "classification":
            places = np.asarray(estimator.classes_, np.int64)
        probe = {name: np.array(array[:_PROBE]) for name, array in problem.features.items()}
        name = type(estimator).__name__
        facts = {"rows": problem.train, "epochs": 1, "seconds": seconds, "estimator": name, "chosen": {}}
        fitted = FittedEstimator(problem.kind, estimator, problem.info, places, problem.classes, probe, facts, ref)
        _report(fitted, problem, context)
        return fitted


def _ref(recipe: RecipeView) -> str:
    ref = (recipe.network or {}).get("ref")
    if not isinstance(ref, str):
        raise TrainingError(
            "the recipe names no estimator",
            where="learner sklearn",
            mend='Give network: {"ref": "FILE.py:NAME"}.',
        )
    return ref


def _make(ref: str, recipe: RecipeView, context: Context) -> Any:
    factory = resolve(ref)
    network = {key: value for key, value in (recipe.network or {}).items() if key not in ("ref", "name")}
    arguments = {**network, **recipe.params}
    try:
        inspect.signature(factory).bind(**arguments)
        estimator = factory(**arguments)
    except TypeError as error:
        raise TrainingError(f"{ref} does not take these parameters: {error}", where="learner sklearn") from error
    except Exception as error:  # of somebody else's code: anything
        what = f"{ref.rpartition(':')[2]} made no estimator"
        raise fault(error, ref, what, "Mend this code, or change its parameters.") from error
    if not isinstance(estimator, BaseEstimator):
        raise TrainingError(
            f"{ref} made a {type(estimator).__name__}, which is no scikit-learn estimator", where="learner sklearn"
        )
    # also those inside a sklearn Pipeline, whose names end in __random_state
    seeds = [name for name, value in estimator.get_params().items() if value is None and _is_seed(name)]
    return estimator.set_params(**dict.fromkeys(seeds, context.seed))


def _refuse_unread(info: Mapping[str, FeatureInfo]) -> None:
    unread = [name for name, item in info.items() if item.dtype == "sparse" or name == "tokens"]
    if unread:
        raise TrainingError(
            f"a scikit-learn estimator gets dense rows, and the features hold {', '.join(unread)}",
            where="learner sklearn",
            mend="Use the step text_vector for texts, or the learner linear, which reads ngrams.",
        )


def _is_seed(name: str) -> bool:
    return name == "random_state" or name.endswith("__random_state")


def _rows(features: Features, rows: slice) -> npt.NDArray[np.float32]:
    part = dense(features, rows, None)
    if "codes" not in features:
        return part
    return np.concatenate([part, np.asarray(features["codes"][rows], np.float32)], axis=1)


def _two_columns(decision: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return decision if decision.ndim == 2 else np.stack([-decision, decision], axis=1)


def _report(fitted: FittedEstimator, problem: Problem, context: Context) -> None:
    rest = slice(problem.train, min(len(problem.target), problem.train + 5 * CHUNK))
    if rest.stop <= rest.start:
        return
    scores = fitted.scores({name: array[rest] for name, array in problem.features.items()})
    weight = None if problem.weight is None else problem.weight[rest]
    context.report(1, validation(problem.kind, scores, problem.target[rest], weight))
