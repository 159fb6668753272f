"""What a corruption is: a name, and what it makes of one column at each of five strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.data.arrays import Column

STRENGTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way in which inputs go wrong.

    Attributes:
        name: the same in every type of input that it happens to.
        what: what it does, in plain words.
        levels: what *change* is given at each strength, the weakest first.
        change: a column, a level and a generator to a new column of the same form.
    """

    name: str
    what: str
    levels: tuple[float, float, float, float, float]
    change: Callable[[Any, float, np.random.Generator], Any]

    def apply(self, column: Column, strength: int, random: np.random.Generator) -> Column:
        """A new column; *strength* is 1 to 5."""
        changed: Column = self.change(column, self.levels[strength - 1], random)
        return changed
