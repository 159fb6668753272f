"""Several goals at once: which models no other one beats, and which candidate a stated goal picks for the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.config import Goal
from tidemill.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A model by its three goals.

    Attributes:
        name: of its recipe.
        quality: larger is better.
        latency_ms: of one answer, the median of measured ones; ``None`` where it was not measured.
        size_bytes: of its package.
    """

    name: str
    quality: float
    latency_ms: float | None
    size_bytes: int

    def beats(self, other: Point) -> bool:
        """At least as good in all three, and better in one; what was not measured beats nothing and is beaten by all.

        >>> small = Point(name="a", quality=0.9, latency_ms=1.0, size_bytes=10)
        >>> small.beats(Point(name="b", quality=0.9, latency_ms=1.0, size_bytes=11)), small.beats(small)
        (True, False)
        """
        mine, its = self._costs(), other._costs()
        return all(a <= b for a, b in zip(mine, its, strict=True)) and mine != its

    def _costs(self) -> tuple[float, float, float]:
        return (-self.quality, float("inf") if self.latency_ms is None else self.latency_ms, float(self.size_bytes))


def front(points: Sequence[Point]) -> list[bool]:
    """For each point, whether it is on the Pareto front: no other one beats it.

    >>> a, b = (Point(name=n, quality=q, latency_ms=t, size_bytes=9) for n, q, t in (("a", 0.9, 2.0), ("b", 0.8, 1.0)))
    >>> front([a, b, Point(name="c", quality=0.8, latency_ms=3.0, size_bytes=9)])
    [True, True, False]
    """
    return [not any(other.beats(point) for other in points) for point in points]


def over(goal: Goal, point: Point) -> str | None:
    """By what a model misses the goal, in words; ``None`` when it keeps to it.

    >>> over(Goal(size_bytes=2e6), Point(name="a", quality=0.9, latency_ms=1.0, size_bytes=2_500_000))
    'has 2.5 MB'
    """
    said = []
    if goal.latency_ms is not None and point.latency_ms is None:
        said.append("was not timed")
    elif goal.latency_ms is not None and point.latency_ms is not None and point.latency_ms >= goal.latency_ms:
        said.append(f"takes {point.latency_ms:.3g} ms")
    if goal.size_bytes is not None and point.size_bytes >= goal.size_bytes:
        said.append(f"has {point.size_bytes / 1e6:.3g} MB")
    return " and ".join(said) or None


def picked(goal: Goal, text: str, points: Sequence[Point]) -> int:
    """Which of *points*, the best of those that keep to the goal; of equally good ones the smaller, then the first.

    Args:
        goal: what *text* states.
        text: the goal as it stands in ``tidemill.yaml``.
        points: one at least.

    Raises:
        TrainingError: none of them keeps to it.
    """
    fitting = [n for n, point in enumerate(points) if over(goal, point) is None]
    if not fitting:
        missed = "; ".join(f"{point.name} {over(goal, point)}" for point in points)
        raise TrainingError(
            f"no candidate is {text}: {missed}",
            where="tidemill.yaml, goal",
            mend="Loosen the goal, include smaller recipes, or promote one by hand (`tidemill pareto` compares them).",
        )
    return max(fitting, key=lambda n: (points[n].quality, -points[n].size_bytes, -n))
