"""What a package that chooses would have earned, told from logged choices of a dataset version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns, Ragged, length
from tidemill.data.dataset import DatasetArrays
from tidemill.data.offers import ACTION, PROPENSITY
from tidemill.metrics.off_policy import Weighed
from tidemill.runtime.choosing import ChoicePredictor, Outlook

_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Logged choices as a package sees them.

    Attributes:
        weighed: importances, rewards, and what the package's own heads expect.
        greedy: the action that it would choose most likely, in each row.
        shares: how often it would choose each action, over all rows.
    """

    weighed: Weighed
    greedy: list[str]
    shares: dict[str, float]


def in_hindsight(
    dataset: DatasetArrays,
    predictor: ChoicePredictor,
    rows: npt.NDArray[np.int64],
    done: Callable[[int], None] = lambda _rows: None,
) -> Hindsight:
    """What *predictor* makes of some rows whose rewards are known.

    Args:
        dataset: of choices.
        predictor: what is judged.
        rows: int64 ``[n]``.
        done: told the rows looked at so far.
    """
    importance, model, told = (np.zeros(len(rows)) for _ in range(3))
    greedy: list[str] = []
    totals: dict[str, float] = {}
    start = 0
    for columns in dataset.chunks(rows, _CHUNK):
        outlook = predictor.outlook(columns)
        stop = start + length(columns)
        part = slice(start, stop)
        importance[part], told[part] = _of_chosen(columns, outlook)
        model[part] = np.einsum("nk,nk->n", outlook.shares, np.where(outlook.offered, outlook.mean, 0.0))
        greedy += [outlook.names[code] for code in outlook.shares.argmax(axis=1).tolist()]
        for name, total in zip(outlook.names, outlook.shares.sum(axis=0).tolist(), strict=True):
            totals[name] = totals.get(name, 0.0) + total
        start = stop
        done(start)
    reward = np.asarray(dataset.target[rows], np.float64)
    shares = {name: total / max(len(rows), 1) for name, total in totals.items()}
    return Hindsight(Weighed(importance=importance, reward=reward, model=model, told=told), greedy, shares)


def _of_chosen(columns: Columns, outlook: Outlook) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Importance of what was chosen, and what is expected of it; 0 of what the package does not know."""
    action, propensity = columns[ACTION], columns[PROPENSITY]
    assert isinstance(action, Ragged) and isinstance(propensity, np.ndarray)
    place = {name: code for code, name in enumerate(outlook.names)}
    code = np.array([place.get(name, -1) for name in action.to_arrow().to_pylist()], np.int64)
    rows = np.arange(len(code))
    known = (code >= 0) & (propensity > 0)
    likely = np.where(known, outlook.shares[rows, code], 0.0)
    told = np.where(known, outlook.mean[rows, code], 0.0)
    return likely / np.where(known, propensity, 1.0), told
