"""Points drawn with letters, for terminals and pipes alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 64, 12
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def scatter(
    points: Sequence[tuple[float, float, str]],
    *,
    across: str,
    up: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> str:
    """Points on a plane whose horizontal axis is logarithmic; where two fall on one place, the earlier one is seen.

    Args:
        points: horizontal value (above 0), vertical value, and the letter drawn there.
        across: what the horizontal axis is.
        up: what the vertical axis is.
        x_text: writes a horizontal value.
        y_text: writes a vertical one.

    >>> print(scatter([(1.0, 0.5, "A"), (100.0, 0.9, "b")], across="ms", up="accuracy", x_text=str, y_text=str))
    accuracy
    0.9 ┤                                                               b
        │
        │
        │
        │
        │
        │
        │
        │
        │
        │
    0.5 ┤A
        └────────────────────────────────────────────────────────────────
         1.0                                                        100.0
         ms
    """
    xs = [math.log(x) for x, _, _ in points]
    ys = [y for _, y, _ in points]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    for (_, y, letter), x in reversed(list(zip(points, xs, strict=True))):
        row = HEIGHT - 1 - _place(y, low, high, HEIGHT)
        cells[row][_place(x, left, right, WIDTH)] = letter
    names = {0: y_text(high), HEIGHT - 1: y_text(low)} if high > low else {HEIGHT // 2: y_text(low)}
    margin = max(map(len, names.values()))
    lines = [up]
    for number, line in enumerate(cells):
        name = names.get(number, "")
        lines.append(f"{name.rjust(margin)} {'┤' if name else '│'}{''.join(line)}".rstrip())
    least, most = min(x for x, _, _ in points), max(x for x, _, _ in points)
    first, last = x_text(least), x_text(most) if most > least else ""
    pad = " " * (margin + 2)
    lines.append(f"{' ' * (margin + 1)}└{'─' * WIDTH}")
    lines.append(f"{pad}{first}{last.rjust(WIDTH - len(first))}".rstrip())
    lines.append(f"{pad}{across}")
    return "\n".join(lines)


def _place(value: float, low: float, high: float, cells: int) -> int:
    """The cell of a value between two ends; the middle where these are the same."""
    return round((value - low) / (high - low) * (cells - 1)) if high > low else cells // 2
