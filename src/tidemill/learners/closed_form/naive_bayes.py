"""Naive Bayes: Gaussian on dense numbers, categorical on codes, multinomial on n-grams."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from tidemill.errors import TrainingError
from tidemill.learners._base import Problem
from tidemill.learners._dense import dense_width
from tidemill.learners._params import positive
from tidemill.learners.closed_form.additive import F64, Additive, cardinalities, codes_of, ngrams_of, offsets
from tidemill.learners.closed_form.rows import belonging, training_rows, weights

_SMOOTHINGS = (1e-9, 1e-4, 1e-2, 1e-1, 1.0)
_ALPHAS = (1e-3, 1e-2, 1e-1, 1.0)


def naive_bayes(problem: Problem, params: dict[str, Any]) -> list[Additive]:
    """One form for each smoothing that may be chosen, from sums over one pass.

    Several labels are a question each, and a score is the log-odds that the label holds.

    Raises:
        TrainingError: it is asked for a regression, or a parameter is wrong.
    """
    if problem.kind == "regression":
        raise TrainingError(
            "naive Bayes answers with classes, and this target is a number",
            where="learner closed_form",
            mend="Use method: ridge.",
        )
    sums = _Sums(problem, params["max_side"])
    smoothings = _options("smoothing", params["smoothing"], _SMOOTHINGS if sums.dense else _SMOOTHINGS[:1])
    alphas = _options("alpha", params["alpha"], _ALPHAS if sums.ngrams is not None else _ALPHAS[-1:])
    return [sums.form(smoothing, alpha) for smoothing, alpha in product(smoothings, alphas)]


def _options(name: str, given: float | None, offered: tuple[float, ...]) -> tuple[float, ...]:
    return offered if given is None else (positive(name, given, "closed_form"),)


class _Sums:
    """What one pass over the training rows leaves for each class; each label and its absence are two classes."""

    def __init__(self, problem: Problem, max_side: int | None) -> None:
        self.problem, self.max_side = problem, max_side
        d, k = dense_width(problem.info, max_side), problem.classes
        groups = 2 * k if problem.kind == "multilabel" else k
        self.dense = d > 0
        self.centre: F64 = np.zeros(d)
        self.mass, self.sums, self.squares = np.zeros(groups), np.zeros((groups, d)), np.zeros((groups, d))
        self.cards = cardinalities(problem.info)
        self.table = np.ones((int(self.cards.sum()), groups))
        self.ngrams = np.zeros((problem.info["ngrams"].shape[0], groups)) if "ngrams" in problem.info else None
        self.n = 0.0
        for rows, values in training_rows(problem, max_side):
            self._add(rows, values)

    def _add(self, rows: slice, values: F64) -> None:
        if rows.start == 0:
            self.centre = values.mean(axis=0)
        z = values - self.centre
        weight = weights(self.problem, rows)
        holds = belonging(self.problem, rows)
        if self.problem.kind == "multilabel":
            holds = np.concatenate([holds, 1 - holds], axis=1)
        holds = holds * weight[:, None]
        self.n += float(weight.sum())
        self.mass += holds.sum(axis=0)
        self.sums += holds.T @ z
        self.squares += holds.T @ np.square(z)
        if len(self.cards):
            for column in (codes_of(self.problem.features, rows) + offsets(self.problem.info)).T:
                np.add.at(self.table, column, holds)
        if self.ngrams is not None:
            self.ngrams += ngrams_of(self.problem.features, rows).to_scipy().T @ holds.astype(np.float32)

    def form(self, smoothing: float, alpha: float) -> Additive:
        """The form with variances raised by *smoothing* and n-gram counts by *alpha*."""
        seen = self.mass[:, None] > 0
        weight = np.maximum(self.mass, 1e-300)[:, None]
        whole = _whole(self.sums, self.problem) / self.n
        spread = np.maximum(_whole(self.squares, self.problem) / self.n - np.square(whole), 0)
        # a class without one training row gets everybody's mean and spread, and hardly any prior
        mean = np.where(seen, self.sums / weight, whole)
        variance = np.maximum(np.where(seen, self.squares / weight - np.square(mean), spread), 0)
        prior = np.log(np.maximum(self.mass, 1e-3) / self.n)
        v = np.maximum(variance + smoothing * spread.max(initial=0), 1e-12)
        constant = prior - 0.5 * (np.log(2 * np.pi * v) + np.square(mean) / v).sum(axis=1)
        chosen = {
            **({"smoothing": smoothing} if self.dense else {}),
            **({} if self.ngrams is None else {"alpha": alpha}),
        }
        table = _log_shares(self.table, self.cards) if len(self.cards) else None
        ngrams = None
        if self.ngrams is not None:
            chosen["alpha"] = alpha
            counts = self.ngrams + alpha
            ngrams = np.log(counts / counts.sum(axis=0)).astype(np.float32)
        form = Additive(
            info=self.problem.info,
            max_side=self.max_side,
            centre=self.centre,
            squares=(-0.5 / v).T,
            linear=(mean / v).T,
            table=table,
            ngrams=ngrams,
            constant=constant,
            summary={"method": "naive-bayes", "chosen": chosen},
        )
        return _odds(form, self.problem.classes) if self.problem.kind == "multilabel" else form


def _whole(sums: F64, problem: Problem) -> F64:
    """Over all rows: each stands in one class, or once with and once without each label."""
    total: F64 = sums.sum(axis=0)
    return total / problem.classes if problem.kind == "multilabel" else total


def _odds(form: Additive, k: int) -> Additive:
    """The scores of labels less those of their absence, which stand behind them."""

    def less(part: Any) -> Any:
        return None if part is None else part[..., :k] - part[..., k:]

    return replace(
        form,
        squares=less(form.squares),
        linear=less(form.linear),
        table=less(form.table),
        ngrams=less(form.ngrams),
        constant=less(form.constant),
    )


def _log_shares(table: F64, cards: Any) -> F64:
    """Counts ``[sum of cardinalities, k]`` to log P(code | class), column by column."""
    parts = np.split(table, np.cumsum(cards)[:-1])
    return np.concatenate([np.log(part / part.sum(axis=0)) for part in parts])
