"""``closed_form``: naive Bayes and ridge least squares, solved from sums over one pass; the baselines of every task.

Both end as one additive form, ``scores = z² A + z B + table[codes] + c`` with ``z`` the dense row less a centre, which
is exported as it stands. It is computed in float64, so the graph and the array code agree to the last float32 digits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._dense import chunk_rows, chunks, count, dense, dense_width, refuse_missing
from tidemill.learners._graph import Graph, dense_row
from tidemill.learners._params import checked, positive
from tidemill.learners._scoring import best_scale, validation

F64 = npt.NDArray[np.float64]

_DEFAULTS: dict[str, Any] = {
    "method": "naive-bayes",
    "smoothing": None,
    "alpha": None,
    "calibrate": True,
    "max_side": 32,
}
_SMOOTHINGS = (1e-9, 1e-4, 1e-2, 1e-1, 1.0)
_ALPHAS = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)  # times the mean of the Gram matrix's diagonal
_JUDGED = 20_000  # validation rows that choose smoothing, alpha and scale
_WIDEST = 8192  # the Gram matrix of ridge is its square, 512 MB


@dataclass(frozen=True)
class Additive:
    """A fitted closed form.

    Attributes:
        info: the features it reads.
        max_side: how images are shrunk, see :func:`tidemill.learners._dense.dense`.
        centre: float64 ``[d]``, taken off the dense row.
        squares: float64 ``[d, k]`` or ``None``.
        linear: float64 ``[d, k]``.
        table: float64 ``[sum of cardinalities, k]`` or ``None`` without codes.
        constant: float64 ``[k]``.
        summary: facts for the run record.
    """

    info: Mapping[str, FeatureInfo]
    max_side: int | None
    centre: F64
    squares: F64 | None
    linear: F64
    table: F64 | None
    constant: F64
    summary: dict[str, Any] = field(default_factory=dict)

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, k]``."""
        size = chunk_rows(self.linear.shape[0])
        parts = [self._chunk(features, rows) for rows in chunks(0, count(features), size)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.constant)), np.float32)

    def _chunk(self, features: Features, rows: slice) -> Scores:
        z = dense(features, rows, self.max_side).astype(np.float64) - self.centre
        total = z @ self.linear + self.constant
        if self.squares is not None:
            total += np.square(z) @ self.squares
        if self.table is not None:
            total += self.table[features["codes"][rows] + _offsets(self.info)].sum(axis=1)
        return total.astype(np.float32)

    def scaled(self, factor: float) -> Additive:
        """The same form with every score times *factor*."""
        squares = None if self.squares is None else self.squares * factor
        table = None if self.table is None else self.table * factor
        return replace(self, squares=squares, linear=self.linear * factor, table=table, constant=self.constant * factor)

    def export(self) -> Export:
        """The form as an ONNX graph in float64."""
        graph = Graph()
        total = graph.constant(self.constant)
        row = dense_row(graph, self.info, self.max_side)
        if row is not None:
            z = graph.add("Sub", graph.cast(row, TensorProto.DOUBLE), graph.constant(self.centre))
            total = graph.add("Add", graph.add("MatMul", z, graph.constant(self.linear)), total)
            if self.squares is not None:
                squares = graph.add("MatMul", graph.add("Mul", z, z), graph.constant(self.squares))
                total = graph.add("Add", total, squares)
        if self.table is not None:
            places = graph.add("Add", "codes", graph.constant(_offsets(self.info)))
            looked_up = graph.add("Gather", graph.constant(self.table), places, axis=0)
            sums = graph.add("ReduceSum", looked_up, graph.constant(np.array([1], np.int64)), keepdims=0)
            total = graph.add("Add", sums, total)
        scores = graph.cast(total, TensorProto.FLOAT)
        return Export(onnx=graph.model(self.info, scores, len(self.constant)).SerializeToString())


class ClosedForm:
    """Naive Bayes or ridge by ``params["method"]``.

    * ``naive-bayes``: Gaussian on images and ``x``, categorical with add-one counts on ``codes``. ``smoothing`` times
      the largest variance is added to every variance (as scikit-learn's ``var_smoothing``).
    * ``ridge``: least squares to targets ±1 (or to the value, for regression) with penalty ``alpha`` on all but the
      intercept, by normal equations. ``codes`` enter as 0 and 1.

    ``smoothing`` and ``alpha`` are chosen on validation rows unless given. ``calibrate`` scales the scores so that
    their softmax has the least log loss there. Images larger than ``max_side`` are averaged down to it.
    """

    name: ClassVar[str] = "closed_form"
    streams: ClassVar[bool] = True
    quick: ClassVar[bool] = True

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """One pass solves it."""
        return 1

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> Additive:
        """Train on the first ``problem.train`` rows, choose on the others.

        Raises:
            TrainingError: a wrong parameter, missing values, too many columns, or naive Bayes asked for a regression.
        """
        params = checked(recipe.params, _DEFAULTS, self.name)
        started = time.perf_counter()
        with threadpool_limits(context.threads):
            fitted = _METHODS.get(params["method"], _unknown)(problem, params)
            facts = {"rows": problem.train, "epochs": 1, "seconds": time.perf_counter() - started}
            rows = _judged(problem)
            if rows.stop > rows.start:
                context.report(1, _judge(fitted, problem, rows))
        return replace(fitted, summary={**fitted.summary, **facts, "parameters": fitted.linear.size})


def _unknown(_problem: Problem, params: dict[str, Any]) -> Additive:
    raise TrainingError(
        f"there is no method {params['method']!r}",
        where="learner closed_form",
        mend=f"Choose {' or '.join(_METHODS)}.",
    )


def _naive_bayes(problem: Problem, params: dict[str, Any]) -> Additive:
    if problem.kind != "classification":
        raise TrainingError(
            "naive Bayes answers with classes, and this target is a number",
            where="learner closed_form",
            mend="Use method: ridge.",
        )
    d, k = dense_width(problem.info, params["max_side"]), problem.classes
    centre: F64 = np.zeros(d)
    mass, sums, squares = np.zeros(k), np.zeros((k, d)), np.zeros((k, d))
    cards = _cardinalities(problem.info)
    table = np.ones((int(cards.sum()), k))
    for rows, values in _training_rows(problem, params["max_side"]):
        if rows.start == 0:
            centre = values.mean(axis=0)
        z = values - centre
        belongs = np.eye(k)[problem.target[rows]] * _weights(problem, rows)[:, None]
        mass += belongs.sum(axis=0)
        sums += belongs.T @ z
        squares += belongs.T @ np.square(z)
        if len(cards):
            places = problem.features["codes"][rows] + _offsets(problem.info)
            for column in places.T:
                np.add.at(table, column, belongs)
    n = mass.sum()
    seen = mass[:, None] > 0
    weight = np.maximum(mass, 1e-300)[:, None]
    whole = sums.sum(axis=0) / n
    spread = np.maximum(squares.sum(axis=0) / n - np.square(whole), 0)
    # a class without one training row gets everybody's mean and spread, and hardly any prior
    mean = np.where(seen, sums / weight, whole)
    variance = np.maximum(np.where(seen, squares / weight - np.square(mean), spread), 0)
    prior = np.log(np.maximum(mass, 1e-3) / n)
    log_table = _log_shares(table, cards) if len(cards) else None

    def build(smoothing: float) -> Additive:
        v = np.maximum(variance + smoothing * spread.max(initial=0), 1e-12)
        constant = prior - 0.5 * (np.log(2 * np.pi * v) + np.square(mean) / v).sum(axis=1)
        facts = {"method": "naive-bayes", "smoothing": smoothing}
        return Additive(
            problem.info, params["max_side"], centre, (-0.5 / v).T, (mean / v).T, log_table, constant, facts
        )

    given = params["smoothing"]
    options = [positive("smoothing", given, "closed_form")] if given is not None else list(_SMOOTHINGS)
    return _choose([build(value) for value in (options if d else options[:1])], problem, params["calibrate"])


def _ridge(problem: Problem, params: dict[str, Any]) -> Additive:
    d = dense_width(problem.info, params["max_side"])
    cards = _cardinalities(problem.info)
    width, k = d + int(cards.sum()), problem.classes
    if width > _WIDEST:
        raise TrainingError(
            f"ridge would need a square matrix over {width} columns, and {_WIDEST} is the most it takes",
            where="learner closed_form",
            mend="Lower max_side for images, or max_size for categories.",
        )
    shift: F64 = np.zeros(width)
    gram, cross = np.zeros((width, width)), np.zeros((width, k))
    n, sum_x, sum_y = 0.0, np.zeros(width), np.zeros(k)
    for rows, values in _training_rows(problem, params["max_side"]):
        design = _with_codes(values, problem, rows, cards)
        if rows.start == 0:
            shift = design.mean(axis=0)  # near the mean, so that subtracting the means later cancels little
        design -= shift
        y = _targets(problem, rows)
        weight = _weights(problem, rows)[:, None]
        n += float(weight.sum())
        sum_x += (design * weight).sum(axis=0)
        sum_y += (y * weight).sum(axis=0)
        root = np.sqrt(weight)
        design *= root
        gram += design.T @ design
        cross += design.T @ (y * root)
    for i, total in enumerate(sum_x):  # an outer product at once would be as large as the matrix
        gram[i] -= sum_x * (total / n)
    cross -= np.outer(sum_x, sum_y) / n
    unit = max(float(np.trace(gram)) / max(width, 1), 1e-12)

    def build(alpha: float) -> Additive:
        penalised = gram.copy()
        penalised.flat[:: width + 1] += alpha
        # symmetric, and its transpose is the order that LAPACK works on in place
        factor = cho_factor(penalised.T, overwrite_a=True, check_finite=False)
        coef = cho_solve(factor, cross, check_finite=False)
        # the centre of the dense part is taken off in scores(); that of the codes goes into the constant
        constant = sum_y / n - (sum_x / n) @ coef - shift[d:] @ coef[d:]
        table = coef[d:] if len(cards) else None
        facts = {"method": "ridge", "alpha": alpha}
        return Additive(problem.info, params["max_side"], shift[:d], None, coef[:d], table, constant, facts)

    given = params["alpha"]
    options = [positive("alpha", given, "closed_form")] if given is not None else [a * unit for a in _ALPHAS]
    built = []
    for alpha in options:
        try:
            built.append(build(alpha))
        except LinAlgError:  # columns repeat one another and this penalty is too small to tell them apart
            continue
    if not built:
        raise TrainingError(
            f"the columns repeat one another so that alpha = {options[0]:g} leaves no solution",
            where="learner closed_form",
            mend="Give a larger alpha, or none.",
        )
    return _choose(built, problem, params["calibrate"] and problem.kind == "classification")


_METHODS = {"naive-bayes": _naive_bayes, "ridge": _ridge}


def _choose(options: list[Additive], problem: Problem, calibrate: bool) -> Additive:
    """The option with the least validation loss, scaled where that is asked for."""
    rows = _judged(problem)
    if rows.stop <= rows.start:  # nothing to choose by: the middle of the road, unscaled
        return options[len(options) // 2]
    best: Additive | None = None
    least = np.inf
    for option in options:
        candidate = option
        if calibrate:
            scale = best_scale(
                option.scores(_part(problem.features, rows)), problem.target[rows], _weights(problem, rows)
            )
            candidate = replace(option.scaled(scale), summary={**option.summary, "scale": scale})
        loss = _judge(candidate, problem, rows)["validation_loss"]
        if loss < least or best is None:
            best, least = candidate, loss
    assert best is not None
    return best


def _judged(problem: Problem) -> slice:
    return slice(problem.train, min(len(problem.target), problem.train + _JUDGED))


def _judge(fitted: Additive, problem: Problem, rows: slice) -> dict[str, float]:
    scores = fitted.scores(_part(problem.features, rows))
    return validation(problem.kind, scores, problem.target[rows], _weights(problem, rows))


def _part(features: Features, rows: slice) -> dict[str, npt.NDArray[Any]]:
    return {name: array[rows] for name, array in features.items()}


def _training_rows(problem: Problem, max_side: int | None) -> Iterator[tuple[slice, F64]]:
    size = chunk_rows(dense_width(problem.info, max_side) + int(_cardinalities(problem.info).sum()))
    for rows in chunks(0, problem.train, size):
        values = dense(problem.features, rows, max_side)
        refuse_missing(values, "closed_form")
        yield rows, values.astype(np.float64)


def _weights(problem: Problem, rows: slice) -> F64:
    if problem.weight is None:
        return np.ones(rows.stop - rows.start)
    return problem.weight[rows].astype(np.float64)


def _targets(problem: Problem, rows: slice) -> F64:
    if problem.kind == "regression":
        return problem.target[rows].astype(np.float64)[:, None]
    return np.asarray(np.eye(problem.classes)[problem.target[rows]] * 2 - 1)


def _cardinalities(info: Mapping[str, FeatureInfo]) -> npt.NDArray[np.int64]:
    return np.array(info["codes"].meta["cardinalities"] if "codes" in info else [], np.int64)


def _offsets(info: Mapping[str, FeatureInfo]) -> npt.NDArray[np.int64]:
    cards = _cardinalities(info)
    return np.cumsum(cards) - cards


def _with_codes(values: F64, problem: Problem, rows: slice, cards: npt.NDArray[np.int64]) -> F64:
    if not len(cards):
        return values
    design = np.zeros((len(values), values.shape[1] + int(cards.sum())))
    design[:, : values.shape[1]] = values
    places = problem.features["codes"][rows] + _offsets(problem.info) + values.shape[1]
    np.put_along_axis(design, places, 1.0, axis=1)
    return design


def _log_shares(table: F64, cards: npt.NDArray[np.int64]) -> F64:
    """Counts ``[sum of cardinalities, k]`` to log P(code | class), column by column."""
    parts = np.split(table, np.cumsum(cards)[:-1])
    return np.concatenate([np.log(part / part.sum(axis=0)) for part in parts])
