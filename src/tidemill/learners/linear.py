"""``linear``: a support vector machine over n-grams, each weighed by how far it tells the classes apart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tidemill.errors import TrainingError
from tidemill.features._base import Features
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._params import checked, positive
from tidemill.learners.closed_form.additive import Additive, ngrams_of
from tidemill.learners.closed_form.learner import chosen_form

_DEFAULTS: dict[str, Any] = {"C": 0.1, "alpha": 0.1, "floor": 0.3, "scale": None}
_NEVER = -10.0  # the decision value of a class that no training row has

Rows = npt.NDArray[Any]


class Linear:
    """One linear support vector machine a class against the others, on ``ngrams`` and ``x``.

    Before class *c* is learned, every n-gram is multiplied by ``floor + |r|``, where *r* is the logarithm of how much
    more of the n-grams of *c* it is than of the others': what naive Bayes would weigh it by, with ``alpha`` added to
    every count. That joins what both methods know (NBSVM; Wang and Manning, *Baselines and Bigrams: Simple, Good
    Sentiment and Topic Classification*, ACL 2012); the floor leaves something to n-grams that seem to say nothing. The
    squared hinge loss is minimised by dual coordinate descent (Hsieh et al., 2008; liblinear).

    ``C`` is how much a row on the wrong side costs. ``scale`` is chosen on validation rows unless given (see
    :class:`tidemill.learners.closed_form.ClosedForm`). All rows' n-grams are held in memory.
    """

    name: ClassVar[str] = "linear"
    streams: ClassVar[bool] = False
    quick: ClassVar[bool] = True

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """One call of the solver a class."""
        return 1

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> Additive:
        """Train on the first ``problem.train`` rows, choose on the others.

        Raises:
            TrainingError: a wrong parameter, other features than ``ngrams`` and ``x``, or a number to predict.
        """
        params = checked(recipe.params, _DEFAULTS, self.name)
        for name in ("C", "alpha", "floor"):
            positive(name, params[name], self.name)
        _refuse_unsuitable(problem)
        started = time.perf_counter()
        with threadpool_limits(context.threads):
            fitted = chosen_form([_fit(problem, params, context.seed)], problem, params["scale"], context)
        facts = {"rows": problem.train, "epochs": 1, "seconds": time.perf_counter() - started}
        return replace(fitted, summary={**fitted.summary, **facts, "parameters": fitted.parameters})


def _refuse_unsuitable(problem: Problem) -> None:
    unread = sorted(set(problem.info) - {"ngrams", "x"})
    if unread or "ngrams" not in problem.info:
        raise TrainingError(
            f"the learner reads ngrams and x, and the features are {', '.join(problem.info)}",
            where="learner linear",
            mend="Use the step ngrams for texts, and onehot for categories.",
        )
    if problem.kind == "regression":
        raise TrainingError(
            "this learner answers with classes, and the target is a number",
            where="learner linear",
            mend="Use the learner closed_form with method: ridge.",
        )


def _design(features: Features, rows: slice) -> sparse.csr_array:
    """``x``, then the n-grams, as one sparse matrix; liblinear wants float64."""
    ngrams = ngrams_of(features, rows).to_scipy()
    if "x" not in features:
        return ngrams.astype(np.float64)
    x = features["x"]
    assert isinstance(x, np.ndarray)
    return sparse.csr_array(sparse.hstack([sparse.csr_array(np.asarray(x[rows], np.float64)), ngrams], format="csr"))


def _fit(problem: Problem, params: Mapping[str, Any], seed: int) -> Additive:
    design = _design(problem.features, slice(0, problem.train))
    d = problem.info["x"].shape[0] if "x" in problem.info else 0
    k, target = problem.classes, problem.target[: problem.train]
    coef, constant = np.zeros((design.shape[1], k), np.float32), np.zeros(k)
    weight = None if problem.weight is None else np.asarray(problem.weight[: problem.train], np.float64)
    two = problem.kind == "classification" and k == 2
    for label in (1,) if two else range(k):
        holds = target[:, label] > 0 if problem.kind == "multilabel" else target == label
        if holds.all() or not holds.any():
            constant[label] = -_NEVER if holds.all() else _NEVER
            continue
        scale = np.ones(design.shape[1])
        scale[d:] = params["floor"] + np.abs(_log_ratio(design[:, d:], holds, weight, params["alpha"]))
        scaled = design.copy()
        scaled.data *= scale[scaled.indices]
        solver = LinearSVC(C=params["C"], tol=1e-3, random_state=seed, max_iter=2000)
        solver.fit(scaled, holds, sample_weight=weight)
        coef[:, label] = solver.coef_[0] * scale
        constant[label] = solver.intercept_[0]
    if two:
        coef[:, 0], constant[0] = -coef[:, 1], -constant[1]
    return Additive(
        info=problem.info,
        max_side=None,
        centre=np.zeros(d),
        squares=None,
        linear=coef[:d].astype(np.float64),
        table=None,
        ngrams=coef[d:],
        constant=constant,
        summary={"chosen": {}},
    )


def _log_ratio(ngrams: sparse.csr_array, holds: Rows, weight: Rows | None, alpha: float) -> Rows:
    """How much more of the n-grams of the rows that hold each one is than of the others, as a logarithm."""
    mass = np.stack([holds, ~holds], axis=1).astype(np.float64)
    if weight is not None:
        mass *= weight[:, None]
    counts = ngrams.T @ mass + alpha
    shares = np.log(counts / counts.sum(axis=0))
    ratio: Rows = shares[:, 0] - shares[:, 1]
    return ratio
