"""Ridge least squares (Hoerl and Kennard, 1970): by normal equations, or by conjugate gradients over n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from tidemill.errors import TrainingError
from tidemill.learners._base import Problem
from tidemill.learners._dense import dense_width
from tidemill.learners._params import positive
from tidemill.learners.closed_form.additive import F64, Additive, cardinalities, codes_of, ngrams_of, offsets
from tidemill.learners.closed_form.rows import signed, training_rows, weights

_ALPHAS = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 4.0, 16.0)  # times the mean of the Gram matrix's diagonal
_TEXT_ALPHAS = (2.0, 0.5, 0.125)  # times a row's mean squared length; the largest first, each starts from the last
_WIDEST = 8192  # the Gram matrix is its square, 512 MB
_ACCURATE = 1e-3  # of the residual's length to its first; a tenth of it moves no decision on the texts tried
_MOST_STEPS = 15  # from 8 on accuracy stood still on news and messages; a million texts take 4 s a step

F32 = npt.NDArray[np.float32]


def ridge(problem: Problem, params: dict[str, Any]) -> list[Additive]:
    """One form for each penalty that may be chosen.

    Raises:
        TrainingError: there are too many dense columns, or they repeat one another and the given penalty is too small.
    """
    return _by_steps(problem, params) if "ngrams" in problem.info else _by_gram(problem, params)


def _by_gram(problem: Problem, params: dict[str, Any]) -> list[Additive]:
    d = dense_width(problem.info, params["max_side"])
    cards = cardinalities(problem.info)
    width, k = d + int(cards.sum()), problem.classes
    _refuse_wide(width)
    shift: F64 = np.zeros(width)
    gram, cross = np.zeros((width, width)), np.zeros((width, k))
    n, sum_x, sum_y = 0.0, np.zeros(width), np.zeros(k)
    for rows, values in training_rows(problem, params["max_side"]):
        design = _with_codes(values, problem, rows, cards)
        if rows.start == 0:
            shift = design.mean(axis=0)  # near the mean, so that subtracting the means later cancels little
        design -= shift
        y = signed(problem, rows)
        weight = weights(problem, rows)[:, None]
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
        return _form(problem, params, alpha, shift[:d], coef, constant)

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
    return built


def _by_steps(problem: Problem, params: dict[str, Any]) -> list[Additive]:
    """The same equations without their matrix, solved by conjugate gradients (Hestenes and Stiefel, 1952)."""
    system = _System(problem, params["max_side"])
    given = params["alpha"]
    alphas = [a * system.unit for a in _TEXT_ALPHAS] if given is None else [positive("alpha", given, "closed_form")]
    coef: F32 = np.zeros((system.width, problem.classes), np.float32)
    built = []
    for alpha in alphas:
        coef = system.solved(alpha, coef)
        constant = system.mean_y - system.mean_x.astype(np.float64) @ coef
        dense = coef[: system.d].astype(np.float64)
        built.append(_form(problem, params, alpha, system.shift, dense, constant, ngrams=coef[system.d :]))
    return built


class _System:
    """The normal equations over all training rows, columns centred: dense ones, codes as 0 and 1, then n-grams.

    Every pass reads the rows anew, in chunks, so that only vectors as long as a row is wide are held.

    Attributes:
        d: how many columns are dense, codes among them.
        width: how many there are.
        shift: float64 ``[dense columns]``, taken off the dense rows beforehand.
        mean_x, mean_y: weighted means of the columns, float32 ``[width]``, and of the targets, float64 ``[k]``.
        unit: a row's mean squared length.
    """

    def __init__(self, problem: Problem, max_side: int | None) -> None:
        self._problem, self._max_side = problem, max_side
        self._cards = cardinalities(problem.info)
        plain = dense_width(problem.info, max_side)
        self.d = plain + int(self._cards.sum())
        _refuse_wide(self.d)
        self.width = self.d + problem.info["ngrams"].shape[0]
        self.shift: F64 = np.zeros(plain)
        n, sum_x, sum_y, squares = 0.0, np.zeros(self.width), np.zeros(problem.classes), 0.0
        for rows, values in training_rows(problem, max_side):
            if rows.start == 0:
                self.shift = values.mean(axis=0)
            dense, ngrams = self._columns(rows, values)
            weight = weights(problem, rows)
            n += float(weight.sum())
            sum_x[: self.d] += weight @ dense
            sum_x[self.d :] += ngrams.T @ weight.astype(np.float32)
            sum_y += weight @ signed(problem, rows)
            lengths = np.square(dense).sum(axis=1) + np.asarray(ngrams.power(2).sum(axis=1)).ravel()
            squares += float(weight @ lengths)
        self.mean_y: F64 = sum_y / n
        self.mean_x: F32 = (sum_x / n).astype(np.float32)
        self.unit = max(squares / n, 1e-12)
        self._cross = self._back(None)

    def _columns(self, rows: slice, values: F64) -> tuple[F32, Any]:
        dense = _with_codes(values - self.shift, self._problem, rows, self._cards).astype(np.float32)
        return dense, ngrams_of(self._problem.features, rows).to_scipy()

    def _back(self, coef: F32 | None) -> F32:
        """The transposed, centred, weighed design times itself times *coef*, or times the targets: ``[width, k]``."""
        k = self._problem.classes
        out, total = np.zeros((self.width, k), np.float32), np.zeros(k, np.float32)
        for rows, values in training_rows(self._problem, self._max_side):
            dense, ngrams = self._columns(rows, values)
            if coef is None:
                found = (signed(self._problem, rows) - self.mean_y).astype(np.float32)
            else:
                found = dense @ coef[: self.d] + ngrams @ coef[self.d :] - self.mean_x @ coef
            found *= weights(self._problem, rows).astype(np.float32)[:, None]
            total += found.sum(axis=0)
            out[: self.d] += dense.T @ found
            out[self.d :] += ngrams.T @ found
        out -= np.outer(self.mean_x, total)
        return out

    def solved(self, alpha: float, coef: F32) -> F32:
        """The coefficients for one penalty, found from *coef* on; every output takes steps of its own length."""
        penalty = np.float32(alpha)
        coef = coef.copy()
        residual = self._cross - self._back(coef) - penalty * coef
        step, left = residual.copy(), _lengths(residual)
        goal = _ACCURATE**2 * _lengths(self._cross)
        for _ in range(_MOST_STEPS):
            if (left <= goal).all():
                break
            bent = self._back(step) + penalty * step
            size = left / np.maximum((step * bent).sum(axis=0, dtype=np.float64), 1e-30)
            along = np.where(left > goal, size, 0.0).astype(np.float32)
            coef += step * along
            residual -= bent * along
            before, left = left, _lengths(residual)
            step = residual + step * (left / np.maximum(before, 1e-30)).astype(np.float32)
        return coef


def _lengths(columns: F32) -> F64:
    return np.asarray(np.square(columns).sum(axis=0, dtype=np.float64))


def _form(
    problem: Problem,
    params: dict[str, Any],
    alpha: float,
    centre: F64,
    coef: F64,
    constant: F64,
    *,
    ngrams: F32 | None = None,
) -> Additive:
    d = len(centre)
    return Additive(
        info=problem.info,
        max_side=params["max_side"],
        centre=centre,
        squares=None,
        linear=coef[:d],
        table=coef[d:] if "codes" in problem.info else None,
        ngrams=ngrams,
        constant=constant,
        summary={"method": "ridge", "chosen": {"alpha": alpha}},
    )


def _refuse_wide(width: int) -> None:
    if width > _WIDEST:
        raise TrainingError(
            f"ridge would need a square matrix over {width} columns, and {_WIDEST} is the most it takes",
            where="learner closed_form",
            mend="Lower max_side for images, or max_size for categories.",
        )


def _with_codes(values: F64, problem: Problem, rows: slice, cards: npt.NDArray[np.int64]) -> F64:
    if not len(cards):
        return values
    design = np.zeros((len(values), values.shape[1] + int(cards.sum())))
    design[:, : values.shape[1]] = values
    places = codes_of(problem.features, rows) + offsets(problem.info) + values.shape[1]
    np.put_along_axis(design, places, 1.0, axis=1)
    return design
