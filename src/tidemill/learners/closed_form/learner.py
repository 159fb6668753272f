"""The learner ``closed_form``: which form is chosen, and how its scores are scaled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tidemill.errors import TrainingError
from tidemill.features._base import Feature
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._params import checked, positive
from tidemill.learners._scoring import best_scale, validation
from tidemill.learners.closed_form.additive import Additive
from tidemill.learners.closed_form.naive_bayes import naive_bayes
from tidemill.learners.closed_form.ridge import ridge
from tidemill.learners.closed_form.rows import sparser, weights

_DEFAULTS: dict[str, Any] = {
    "method": "naive-bayes",
    "smoothing": None,
    "alpha": None,
    "scale": None,
    "max_side": 32,
}
_METHODS = {"naive-bayes": naive_bayes, "ridge": ridge}
_JUDGED = 20_000  # validation rows that choose smoothing, alpha and scale
_PART = (10_000, 5_000)  # rows of texts, training and validation, that alone choose ridge's alpha where there are many


class ClosedForm:
    """Naive Bayes or ridge by ``params["method"]``.

    * ``naive-bayes``: Gaussian on images and ``x``, categorical with add-one counts on ``codes``, multinomial on
      ``ngrams``. ``smoothing`` times the largest variance is added to every variance (as scikit-learn's
      ``var_smoothing``), ``alpha`` to the weight of every n-gram in every class.
    * ``ridge``: least squares to targets ±1 (or to the value, for regression) with penalty ``alpha`` on all but the
      intercept. ``codes`` enter as 0 and 1. Dense columns are solved by normal equations, n-grams by conjugate
      gradients on the same equations.

    ``smoothing`` and ``alpha`` are chosen on validation rows unless given, and so is ``scale``, the factor on the
    scores of one label out of several with which their softmax has the least log loss. Images larger than ``max_side``
    are averaged down to it.
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
        method = _METHODS.get(params["method"])
        if method is None:
            raise TrainingError(
                f"there is no method {params['method']!r}",
                where="learner closed_form",
                mend=f"Choose {' or '.join(_METHODS)}.",
            )
        started = time.perf_counter()
        with threadpool_limits(context.threads):
            if params["method"] == "ridge" and params["alpha"] is None and _has_many_texts(problem):
                # each alpha takes dozens of passes over all rows, and which one is best shows on a few of them
                part = sparser(problem, *_PART)
                few = chosen_form(ridge(part, params), part, params["scale"], Context())
                params["alpha"] = few.summary["chosen"]["alpha"]
            fitted = chosen_form(method(problem, params), problem, params["scale"], context)
        facts = {"rows": problem.train, "epochs": 1, "seconds": time.perf_counter() - started}
        return replace(fitted, summary={**fitted.summary, **facts, "parameters": fitted.parameters})


def _has_many_texts(problem: Problem) -> bool:
    return "ngrams" in problem.info and problem.train > 2 * _PART[0] and problem.train < len(problem.target)


def chosen_form(options: list[Additive], problem: Problem, scale: float | None, context: Context) -> Additive:
    """The option with the least validation loss, scaled where that means something, and reported.

    Args:
        options: in the order of what sets them apart; the middle one is taken where there are no validation rows.
        problem: whose validation rows choose.
        scale: the factor on the scores of one label out of several; ``None`` to choose it too.
        context: told of the choice.
    """
    rows = slice(problem.train, min(len(problem.target), problem.train + _JUDGED))
    factor = None if scale is None else positive("scale", scale, "closed_form")
    if rows.stop <= rows.start:
        middle = options[len(options) // 2]
        return middle if factor is None else _scaled(middle, factor)
    features: dict[str, Feature] = {name: feature[rows] for name, feature in problem.features.items()}
    target, weight = problem.target[rows], weights(problem, rows)
    best: tuple[dict[str, float], Additive] | None = None
    for option in options:
        scores = option.scores(features)
        by = factor
        if by is None and problem.kind == "classification":
            by = best_scale(scores, target, weight)
        judged = validation(problem.kind, scores * np.float32(1 if by is None else by), target, weight)
        if best is None or judged["validation_loss"] < best[0]["validation_loss"]:
            best = judged, option if by is None else _scaled(option, by)
    assert best is not None
    context.report(1, best[0])
    return best[1]


def _scaled(option: Additive, scale: float) -> Additive:
    chosen = {**option.summary["chosen"], "scale": scale}
    return replace(option.scaled(scale), summary={**option.summary, "chosen": chosen})
