"""What the console draws besides :mod:`tidemill.console.charts`: traffic by the hour, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tidemill.console.charts import short, ticks
from tidemill.console.site.rendering import clock


@dataclass(frozen=True, slots=True)
class Point:
    """A model on the plane of quality against latency.

    Attributes:
        name: its recipe.
        path: where it is shown.
        quality: higher is better.
        latency: milliseconds of a lone answer, at the median.
        size: bytes.
        role: ``champion``, ``challenger``, or nothing.
        said: it in words.
    """

    name: str
    path: str
    quality: float
    latency: float
    size: int
    role: str
    said: str


def hours(counts: Sequence[tuple[float, int]], label: str) -> Markup:
    """Answers an hour as bars, the oldest first."""
    most = max((n for _, n in counts), default=0) or 1
    width, height = 12.0 * len(counts), 64.0
    body = ""
    for i, (begin, n) in enumerate(counts):
        tall = (height - 18) * n / most
        body += (
            f'<rect class="bar" x="{12 * i + 1.5:g}" y="{height - 14 - tall:.1f}" width="9" '
            f'height="{max(tall, 0.8):.1f}" rx="1.5"><title>{clock(begin)}: {n:,}</title></rect>'
        )
    for i in range(0, len(counts), 6):
        body += f'<text class="tick" x="{12 * i:g}" y="{height - 1:g}">{clock(counts[i][0])}</text>'
    view = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return Markup(f'<svg class="chart hours" {view} role="img" aria-label="{escape(label)}">{body}</svg>')  # noqa: S704


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats at quality and latency and size at once, the fastest first."""

    def beaten(one: Point) -> bool:
        return any(
            other.quality >= one.quality
            and other.latency <= one.latency
            and other.size <= one.size
            and (other.quality, -other.latency, -other.size) != (one.quality, -one.latency, -one.size)
            for other in points
        )

    return sorted((one for one in points if not beaten(one)), key=lambda one: (one.latency, -one.quality))


def pareto(points: Sequence[Point], names: tuple[str, str], label: str) -> Markup:
    """Quality against latency; a circle's area is the package's size, and a line joins those on the front.

    Args:
        points: the models.
        names: of both axes.
        label: the whole in words.
    """
    if not points:
        return Markup("")
    best = front(points)
    width, height, left, foot, top = 640.0, 340.0, 58.0, 44.0, 22.0
    low, high = (math.log10(pick(max(p.latency, 1e-3) for p in points)) for pick in (min, max))
    low, high = low - 0.12, high + 0.12
    worst, finest = min(p.quality for p in points), max(p.quality for p in points)
    pad = (finest - worst) * 0.12 or max(abs(finest) * 0.02, 0.01)
    worst, finest = worst - pad, finest + pad
    largest = max(p.size for p in points) or 1

    def x(latency: float) -> float:
        return left + (width - left - 24) * (math.log10(max(latency, 1e-3)) - low) / (high - low)

    def y(quality: float) -> float:
        return top + (height - foot - top) * (finest - quality) / (finest - worst)

    parts = []
    for v in ticks(worst, finest):
        parts.append(f'<line class="grid" x1="{left:g}" y1="{y(v):.1f}" x2="{width - 8:g}" y2="{y(v):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6:g}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.4g}</text>')
    for v in _decades(10**low, 10**high):
        parts.append(f'<text class="tick" x="{x(v):.1f}" y="{height - 24:g}" text-anchor="middle">{short(v)}</text>')
        parts.append(
            f'<line class="grid" x1="{x(v):.1f}" y1="{height - foot:g}" x2="{x(v):.1f}" y2="{height - foot + 5:g}"/>'
        )
    parts.append(
        f'<text class="axis" x="{(left + width) / 2:g}" y="{height - 5:g}" text-anchor="middle">'
        f"{escape(names[0])}</text>"
    )
    parts.append(f'<text class="axis" x="{left:g}" y="12">{escape(names[1])}</text>')
    parts.append(
        f'<polyline class="front" points="{" ".join(f"{x(p.latency):.1f},{y(p.quality):.1f}" for p in best)}"/>'
    )
    named: list[tuple[float, float]] = []
    for p in sorted(points, key=lambda one: -one.size):
        role = f" {p.role}" if p.role else ""
        css = f"model{' on-front' if p in best else ''}{role}"
        radius = 4 + 15 * math.sqrt(p.size / largest)
        at = x(p.latency), y(p.quality)
        parts.append(
            f'<a href="{escape(p.path)}" aria-label="{escape(p.said)}"><circle class="{css}" cx="{at[0]:.1f}" '
            f'cy="{at[1]:.1f}" r="{radius:.1f}"><title>{escape(p.said)}</title></circle></a>'
        )
        if (p in best or p.role) and all(abs(at[0] - a) > 70 or abs(at[1] - b) > 14 for a, b in named):
            named.append(at)
            anchor = "end" if at[0] > width - 110 else "start"
            off = -radius - 5 if anchor == "end" else radius + 5
            parts.append(
                f'<text class="name" x="{at[0] + off:.1f}" y="{at[1] + 4:.1f}" text-anchor="{anchor}">'
                f"{escape(p.name)}</text>"
            )
    view = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return Markup(  # noqa: S704 - numbers and escaped text only
        f'<svg class="chart pareto" {view} role="group" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten within a range; where these are few, steps of equal width."""
    found = [
        m * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for m in (1, 2, 5)
    ]
    within = [v for v in found if low <= v <= high]
    return within if len(within) > 2 else list(ticks(low, high))
