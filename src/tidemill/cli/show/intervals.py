"""How much better one model is than another, as words and as a line on which people see it."""

from __future__ import annotations

from tidemill.cli.show import units

_WIDTH = 60


def difference(value: float, metric: str) -> str:
    """A difference of two scores, in points where the metric is a share.

    >>> difference(0.031, "accuracy"), difference(-1.25, "mae"), difference(-0.0001, "accuracy")
    ('+3.1 points', '-1.25', '+0.0 points')
    """
    if metric == "r2" or units.quality(0.0, metric).endswith("%"):
        return f"{round(100 * value, 1) + 0.0:+.1f} points"
    return f"{value + 0.0:+.3g}"


def drawn(low: float, middle: float, high: float, margin: float, *, width: int = _WIDTH) -> str:
    """An interval on a line, with zero (``0``) and the loss that is tolerated (``m``).

    Left is worse, right is better. What lies wholly right of ``m`` may be promoted; what lies wholly left of ``0`` is
    rolled back. An arrow stands where the line is too short.

    >>> drawn(-0.01, 0.02, 0.05, 0.02, width=31)
    'worse ·········m··├──0─────●───────┤· better'
    """
    reach = max(min(max(abs(low), abs(high)), 5 * max(abs(middle), margin)), margin, 1e-12) * 1.05
    line = ["·"] * width

    def place(value: float) -> int:
        return round((min(max(value, -reach), reach) / reach + 1) / 2 * (width - 1))

    for column in range(place(low), place(high) + 1):
        line[column] = "─"
    line[place(low)], line[place(high)] = "◂" if low < -reach else "├", "▸" if high > reach else "┤"
    line[place(-margin)], line[place(0.0)] = "m", "0"
    line[place(middle)] = "●"
    return f"worse {''.join(line)} better"
