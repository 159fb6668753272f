"""The one-cycle learning-rate schedule, https://arxiv.org/abs/1708.07120, as a list with one entry a step."""

from __future__ import annotations


def one_cycle(steps: int, peak: float, warmup: float) -> list[float]:
    """Learning rates that rise linearly to *peak* in the first share *warmup* of the steps, then fall linearly to 0.

    >>> [round(rate, 2) for rate in one_cycle(5, 1.0, 0.4)]
    [0.33, 0.67, 1.0, 0.67, 0.33]
    """
    rise = max(1, round(steps * warmup))
    fall = max(1, steps - rise)
    return [peak * min((step + 1) / (rise + 1), (steps - step) / fall) for step in range(steps)]
