"""Small charts as inline SVG. Colours are the page's CSS variables, so that they follow light and dark.

Every function takes numbers and gives markup; what is text is escaped here.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape


def _svg(width: float, height: float, body: str, label: str, css: str = "") -> Markup:
    return Markup(  # noqa: S704 - the body is made of numbers and escaped text only
        f'<svg class="chart {css}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def short(value: float) -> str:
    """A number in few letters.

    >>> [short(v) for v in (0.0, 3.14159, 1234.0, 52_300.0, -7_100_000.0, 0.00012, 2e15)]
    ['0', '3.14', '1,234', '52.3k', '-7.1M', '0.00012', '2e+15']
    """
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-3:
        return f"{value:.3g}"
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if size >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.3g}{letter}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def moment(seconds: float) -> str:
    """A day, from UTC seconds.

    >>> moment(0.0), moment(1e18)
    ('1970-01-01', '1e+18 s')
    """
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):  # before the year 1 or after 9999
        return f"{seconds:.3g} s"


def whisker(value: float | None, low: float | None, high: float | None, start: float, end: float) -> Markup:
    """A dot with its interval on a track from *start* to *end*."""
    if value is None or end <= start:
        return Markup("")

    def x(v: float) -> float:
        return 6 + 168 * min(max((v - start) / (end - start), 0), 1)

    body = '<line class="track" x1="6" y1="9" x2="174" y2="9"/>'
    if low is not None and high is not None:
        body += f'<line class="reach" x1="{x(low):.1f}" y1="9" x2="{x(high):.1f}" y2="9"/>'
    body += f'<circle class="dot" cx="{x(value):.1f}" cy="9" r="4"/>'
    return _svg(180, 18, body, f"{value:.4g} between {low} and {high}", "whisker")


def gauge(size: float, most: float = 4.0) -> Markup:
    """The size of an effect as a bar, with a mark at 1, where it begins to matter, and one at 2.5."""
    marks = "".join(
        f'<line class="grid" x1="{90 * v / most:.1f}" y1="1" x2="{90 * v / most:.1f}" y2="13"/>' for v in (1, 2.5)
    )
    body = f'{marks}<rect class="bar" x="0" y="4" width="{90 * min(size / most, 1):.1f}" height="6" rx="2"/>'
    return _svg(90, 14, body, f"size {size:.3g}", "gauge")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span a range.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next((m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999), 10 * unit)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e4 else short(value)


class _Frame:
    """A plot area with axes; maps data to pixels."""

    def __init__(
        self,
        size: tuple[float, float],
        xs: tuple[float, float],
        ys: tuple[float, float],
        names: tuple[str, str],
        *,
        whole: bool = False,
    ) -> None:
        self.width, self.height = size
        self.xs, self.ys = xs, ys
        self.parts: list[str] = []
        for v in ticks(*ys):
            y = self.y(v)
            self.parts.append(f'<line class="grid" x1="46" y1="{y:.1f}" x2="{self.width - 10:g}" y2="{y:.1f}"/>')
            self.parts.append(f'<text class="tick" x="40" y="{y + 4:.1f}" text-anchor="end">{_tick(v)}</text>')
        for v in (t for t in ticks(*xs) if not whole or t == round(t)):
            place = f'x="{self.x(v):.1f}" y="{self.height - 24:g}"'
            self.parts.append(f'<text class="tick" {place} text-anchor="middle">{_tick(v)}</text>')
        across, up = names
        middle = (46 + self.width - 10) / 2
        self.parts.append(
            f'<text class="axis" x="{middle:g}" y="{self.height - 6:g}" text-anchor="middle">{escape(across)}</text>'
        )
        self.parts.append(f'<text class="axis" x="46" y="11">{escape(up)}</text>')

    def x(self, v: float) -> float:
        low, high = self.xs
        return 46 + (self.width - 56) * ((v - low) / (high - low) if high > low else 0.5)

    def y(self, v: float) -> float:
        low, high = self.ys
        return self.height - 40 - (self.height - 60) * ((v - low) / (high - low) if high > low else 0.5)

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        path = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self.parts.append(f'<polyline class="{css}" points="{path}"/>')

    def circle(self, a: float, b: float, radius: float, css: str) -> None:
        self.parts.append(f'<circle class="{css}" cx="{self.x(a):.1f}" cy="{self.y(b):.1f}" r="{radius:.1f}"/>')

    def done(self, label: str) -> Markup:
        return _svg(self.width, self.height, "".join(self.parts), label)


def reliability(bins: Sequence[Mapping[str, float]], names: tuple[str, str] = ("confidence", "accuracy")) -> Markup:
    """Accuracy by confidence with intervals; the diagonal is perfect calibration, a dot's area its share of rows."""
    if not bins:
        return Markup("")
    start = min(0.9, math.floor(10 * min(min(b["confidence"], b["accuracy"]) for b in bins)) / 10)
    frame = _Frame((360, 340), (start, 1), (start, 1), names)
    frame.line([(start, start), (1, 1)], "ideal")
    for b in bins:
        frame.line([(b["confidence"], max(b["low"], start)), (b["confidence"], b["high"])], "reach")
    for b in bins:
        frame.circle(b["confidence"], b["accuracy"], 2.5 + 9 * math.sqrt(b["weight"]), "bubble")
    return frame.done(f"reliability diagram: {names[1]} by {names[0]}")


def curves(curve: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> Markup:
    """Learning curves over epochs; the first name is drawn strong."""
    drawn = [(name, [(float(p["epoch"]), float(p[name])) for p in curve if _finite(p.get(name))]) for name in names]
    drawn = [(name, points) for name, points in drawn if points]
    if not drawn:
        return Markup("")
    xs = [a for _, points in drawn for a, _ in points]
    ys = [b for _, points in drawn for _, b in points]
    pad = (max(ys) - min(ys)) * 0.06 or max(abs(ys[0]) * 0.05, 0.01)
    # A curve of one epoch still needs a width to stand in.
    span = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    frame = _Frame((420, 260), span, (min(ys) - pad, max(ys) + pad), ("epoch", title), whole=True)
    for i, (_, points) in enumerate(drawn):
        frame.line(points, f"line-{i}")
        frame.circle(*points[-1], 3.5, f"end-{i}")
    return frame.done(f"{title} by epoch")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def strengths(
    values: Sequence[Mapping[str, float | None]], clean: float, ends: tuple[float, float], title: str, name: str
) -> Markup:
    """A metric by the strength of a corruption, with intervals; the dashed line is the metric without it.

    Args:
        values: ``{"value", "low", "high"}`` for each strength from 1 on.
        clean: without corruption.
        ends: what the axis spans.
        title: the metric's name.
        name: the corruption's.
    """

    def held(value: float) -> float:
        return min(max(value, ends[0]), ends[1])

    known = [(i + 1, v) for i, v in enumerate(values) if _finite(v.get("value"))]
    frame = _Frame((320, 170), (1, max(len(values), 2)), ends, ("strength", title), whole=True)
    frame.line([(1, held(clean)), (max(len(values), 2), held(clean))], "ideal")
    for at, v in known:
        if _finite(v.get("low")) and _finite(v.get("high")):
            frame.line([(at, held(float(v["low"] or 0))), (at, held(float(v["high"] or 0)))], "reach")
    points = [(float(at), held(float(v["value"] or 0))) for at, v in known]
    if points:
        frame.line(points, "line-0")
        for point in points:
            frame.circle(*point, 3, "end-0")
    return frame.done(f"{title} by the strength of {name}")


def scatter(across: Sequence[float], up: Sequence[float], names: tuple[str, str]) -> Markup:
    """Points with a line at zero, for residuals."""
    if not across:
        return Markup("")
    reach = max(abs(v) for v in up) or 1.0
    frame = _Frame((460, 300), (min(across), max(across)), (-reach, reach), names)
    frame.line([(min(across), 0), (max(across), 0)], "ideal")
    for a, b in zip(across, up, strict=True):
        frame.circle(a, b, 2.2, "point")
    return frame.done(f"{names[1]} by {names[0]}")


def histogram(counts: Sequence[int], edges: Sequence[float], name: str) -> Markup:
    """Bars."""
    if not counts:
        return Markup("")
    frame = _Frame((460, 300), (edges[0], edges[-1]), (0, max(*counts, 1)), (name, "rows"))
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        x, y = frame.x(low), frame.y(count)
        frame.parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(frame.x(high) - x - 1, 0.5):.1f}" '
            f'height="{max(frame.y(0) - y, 0):.1f}"/>'
        )
    return frame.done(f"histogram of {name}")


def distribution(
    edges: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    splits: Sequence[str],
    *,
    dates: bool = False,
    size: tuple[float, float] = (320, 128),
) -> Markup:
    """The histograms of one or two splits over the same bins: bars, and a line of steps upon them.

    Args:
        edges: of the bins, ``[k + 1]``.
        shares: the share of each split's values in each bin, ``[k]``.
        splits: the one that bars show, then perhaps the one that the line shows.
        dates: the values are UTC seconds.
        size: width and height in pixels.
    """
    drawn = [(name, shares[name]) for name in splits if shares.get(name)]
    if len(edges) < 2 or not drawn:
        return Markup("")
    (width, height), foot = size, 20.0
    top = max(max(parts) for _, parts in drawn) or 1.0
    span = edges[-1] - edges[0]
    even = not math.isfinite(span) or span <= 0  # then bins are drawn of one width

    def x(i: int) -> float:
        return width * (i / (len(edges) - 1) if even else (edges[i] - edges[0]) / span)

    def y(part: float) -> float:
        return 6 + (height - foot - 6) * (1 - part / top)

    write = moment if dates else short
    whole = not dates and edges[0] % 1 == 0.5 and edges[1] - edges[0] == 1  # a bin for each whole number
    body = f'<line class="grid" x1="0" y1="{y(0):.1f}" x2="{width:g}" y2="{y(0):.1f}"/>'
    for i, part in enumerate(drawn[0][1]):
        said = "; ".join(f"{name} {100 * parts[i]:.1f} %" for name, parts in drawn)
        bin_name = write(edges[i] + 0.5) if whole else f"{write(edges[i])} to {write(edges[i + 1])}"
        title = escape(f"{bin_name}: {said}")
        body += (
            f'<rect class="bar" x="{x(i) + 0.5:.1f}" y="{y(part):.1f}" width="{max(x(i + 1) - x(i) - 1, 0.5):.1f}" '
            f'height="{max(y(0) - y(part), 0):.1f}"><title>{title}</title></rect>'
        )
    for _, parts in drawn[1:]:
        corners = [corner for i, part in enumerate(parts) for corner in ((x(i), y(part)), (x(i + 1), y(part)))]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x(0), y(0)), *corners, (x(len(parts)), y(0))])
        body += f'<polyline class="step" points="{path}"/>'
    ends = (edges[0] + 0.5, edges[-1] - 0.5) if whole else (edges[0], edges[-1])
    places = (
        [("start", 0.0, ends[0]), ("end", width, ends[1])] if ends[0] != ends[1] else [("middle", width / 2, ends[0])]
    )
    if not whole:
        places.append(("middle", width / 2, edges[0] / 2 + edges[-1] / 2))
    for anchor, at, value in places:
        body += f'<text class="tick" x="{at:g}" y="{height - 5:g}" text-anchor="{anchor}">{escape(write(value))}</text>'
    return _svg(width, height, body, f"histogram of {' and '.join(name for name, _ in drawn)}")


def risk(curve: Mapping[str, Any], answered: float | None) -> Markup:
    """The mean loss of the answers by the share of rows that get one; a dot where the model stands.

    Args:
        curve: what :func:`tidemill.metrics.selective.risk_coverage` gives, with its ``loss``.
        answered: the share of rows that the model answers.
    """
    points = list(zip(curve["coverage"], curve["risk"], strict=True))
    if not points:
        return Markup("")
    top = max(b for _, b in points) or 0.01
    frame = _Frame(
        (420, 280), (0, 1), (0, top * 1.05), ("share of rows answered, the surest first", str(curve["loss"]))
    )
    frame.line(points, "line-0")
    if answered is not None:
        a, b = min(points, key=lambda point: abs(point[0] - answered))
        frame.line([(answered, 0), (answered, top * 1.05)], "ideal")
        frame.circle(a, b, 4.5, "end-1")
    return frame.done(f"{curve['loss']} by the share of rows answered")
