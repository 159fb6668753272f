"""How far a label can be believed, by what a model that has not seen the row says of it.

For classes this is confident learning (Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in
Dataset Labels*, JAIR 2021), by cleanlab; for several labels a row the same, label by label (Thyagarajan et al., 2022);
for numbers the residual in robust standard deviations.

Confident learning compares a probability with what is usual for its label, so a model that has learned little would
suspect many, and every row of a rare label. Here another label must be several times as likely too, and that by what
the row says: not only because the other label is more frequent.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.schema import Kind

LIKELIER = 4.0
"""Another label must be so many times as likely as the stated one, in absolute terms and for its frequency."""
OUTLYING = 3.5
"""Robust standard deviations from which a residual is suspicious (Iglewicz and Hoaglin, 1993)."""


def label_quality(
    kind: Kind, target: npt.NDArray[Any], probabilities: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """How far each row's label can be believed, and which labels are suspected to be wrong.

    Args:
        kind: of the target.
        target: codes ``[n]``, 0 and 1 ``[n, L]``, or values ``[n]``.
        probabilities: calibrated, of rows that the model had not seen: ``[n, k]``, ``[n, L]``, or values ``[n, 1]`` or
            ``[n, 3]``.

    Returns:
        float64 ``[n]`` from 0 (hardly) to 1 (surely); and bool ``[n]``, for multilabel ``[n, L]``: of each label
        whether it is suspected to be stated, or not to be, by mistake.

    >>> p = np.repeat([[0.9, 0.1], [0.1, 0.9]], 20, axis=0)
    >>> codes = np.repeat([0, 1], 20)
    >>> codes[3] = 1
    >>> quality, suspected = label_quality("classification", codes, p)
    >>> np.flatnonzero(suspected).tolist(), int(quality.argmin())
    ([3], 3)
    """
    n = len(target)
    if n == 0:
        return np.empty(0), np.zeros(target.shape, bool)
    if kind == "regression":
        return _by_residual(target.astype(np.float64), np.asarray(probabilities, np.float64))
    p = np.clip(np.asarray(probabilities, np.float64), 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of classes that no row has
        if kind == "multilabel":
            return _by_label(target > 0, p)
        from cleanlab.rank import get_label_quality_scores

        codes = target.astype(np.int64)
        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
        quality = get_label_quality_scores(codes, p, method="self_confidence")
        return np.asarray(quality, np.float64), _suspected(codes, p)


def _suspected(codes: npt.NDArray[np.int64], p: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Confident learning on codes ``[n]`` and probabilities ``[n, k]``, of those that another label beats by far."""
    from cleanlab.filter import find_label_issues

    if len(np.unique(codes)) < 2:
        return np.zeros(len(codes), bool)
    rows, best = np.arange(len(codes)), p.argmax(axis=1)
    frequency = np.maximum(np.bincount(codes, minlength=p.shape[1]), 1)
    for_it, against = p[rows, codes], p[rows, best]
    beaten = (against > LIKELIER * for_it) & (against / frequency[best] > LIKELIER * for_it / frequency[codes])
    suspected: npt.NDArray[np.bool_] = np.asarray(find_label_issues(codes, p, n_jobs=1), bool) & beaten
    return suspected


def _by_label(
    given: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The quality of each row by its labels (where some are suspected, by the worst of these), and the suspected."""
    from cleanlab.multilabel_classification import get_label_quality_scores

    suspected = np.zeros(given.shape, bool)
    for label in range(given.shape[1]):
        one = p[:, label]
        suspected[:, label] = _suspected(given[:, label].astype(np.int64), np.stack([1 - one, one], axis=1))
    stated = [np.flatnonzero(row).tolist() for row in given]
    quality = get_label_quality_scores(stated, p) if any(stated) else 1 - p.max(axis=1)
    belief = np.where(given, p, 1 - p)
    worst = np.where(suspected, belief, 1.0).min(axis=1)
    return np.where(suspected.any(axis=1), worst, quality), suspected


def _by_residual(
    target: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    from cleanlab.regression.rank import get_label_quality_scores

    error = target - found[:, 0]
    centre = np.median(error)
    spread = 1.4826 * float(np.median(np.abs(error - centre)))  # the standard deviation, were the errors normal
    if spread == 0:
        spread = float(error.std()) or 1.0
    quality = get_label_quality_scores(error / spread, np.full(len(error), centre / spread), method="residual")
    return np.asarray(quality, np.float64), np.asarray(np.abs(error - centre) > OUTLYING * spread, bool)
