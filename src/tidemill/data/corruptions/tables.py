"""What happens to tables: noise, missing values, slipped decimal points, values of another row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Ragged
from tidemill.data.corruptions._base import Corruption

Numbers = npt.NDArray[np.float64]
Random = np.random.Generator

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)


def _noise(values: Numbers, level: float, random: Random) -> Numbers:
    """Noise in deviations of the middle half of the values, which a few huge ones do not stretch."""
    known = values[np.isfinite(values)]
    spread = 0.0
    if len(known):
        low, high = np.quantile(known, (0.25, 0.75))
        spread = float(high - low) / 1.349 or float(known.std())
    return values + level * spread * random.standard_normal(len(values))


def _missing(values: Numbers, level: float, random: Random) -> Numbers:
    return np.where(random.random(len(values)) < level, np.nan, values)


def _slipped(values: Numbers, level: float, random: Random) -> Numbers:
    drawn, up = random.random(len(values)), random.random(len(values)) < 0.5
    return np.where(drawn < level, np.where(up, values * 10, values / 10), values)


def _emptied(values: Ragged, level: float, random: Random) -> Ragged:
    gone = (random.random(len(values)) < level).tolist()
    return Ragged.from_strings(["" if gone[row] else values[row] for row in range(len(values))])


def _exchanged(values: Ragged, level: float, random: Random) -> Ragged:
    wrong, other = random.random(len(values)) < level, random.permutation(len(values))
    return values.take(np.where(wrong, other, np.arange(len(values))).astype(np.int64))


_GONE = "values that did not arrive"
NUMBERS = (
    Corruption("noise", "numbers that are off, in deviations", (0.1, 0.2, 0.4, 0.7, 1.0), _noise),
    Corruption("missing values", _GONE, _SHARES, _missing),
    Corruption("slipped point", "numbers ten times too large or too small", _SHARES, _slipped),
)
DATES = (Corruption("missing values", _GONE, _SHARES, _missing),)
CATEGORIES = (
    Corruption("missing values", _GONE, _SHARES, _emptied),
    Corruption("wrong category", "the category of another row", _SHARES, _exchanged),
)
