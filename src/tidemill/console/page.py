"""What all pages share: how values are written, and how a page becomes a file."""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tidemill.console import charts
from tidemill.errors import StoreError

_SHARES = ("precision", "recall", "f1")
_MEANS = {"macro": "mean of the labels", "micro": "all labels together", "samples": "mean of the rows"}
_PERCENT = frozenset(
    {"accuracy", "balanced_accuracy", "subset_accuracy", "hamming_loss", "calibration_error"}
    | {"calibration_error_debiased", "answered", "accuracy_answered", "interval_coverage", "utility"}
    | {f"{name}_{mean}" for name in _SHARES for mean in _MEANS}
    | set(_SHARES)
)
_NAMES = {
    "roc_auc": "ROC-AUC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "f1": "F1",
    "subset_accuracy": "all labels right",
    "hamming_loss": "labels that disagree (Hamming loss)",
    "average_precision_macro": "average precision, mean of the labels",
    "calibration_error": "calibration error (ECE)",
    "calibration_error_debiased": "calibration error, debiased RMS",
    "answered": "share that gets an answer",
    "accuracy_answered": "accuracy of the answers given",
    "expected_cost": "expected cost of a row",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "interval_coverage": "true values inside their interval",
    "interval_width": "mean width of intervals",
    "pinball_loss": "quantile loss of the interval’s ends",
}
_UNITS = {"log_loss": "nats"}


def render(template: str, path: str | Path, **content: Any) -> Path:
    """Write a page; an older file there is replaced as a whole.

    Raises:
        StoreError: the file cannot be written.
    """
    path, page = Path(path), page_text(template, **content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise StoreError(
            f"the page cannot be written: {error.strerror}",
            where=str(path),
            mend="Choose a folder that can be written.",
        ) from error
    return path


def page_text(template: str, **content: Any) -> str:
    """The page that a template of ``console/templates`` makes of *content*; what is text in it is escaped."""
    return _documents().get_template(template).render(**content)


@functools.cache
def _documents() -> Environment:
    return new_environment()


def new_environment() -> Environment:
    """What reads the templates of ``console/templates``, with what all of them may use; it keeps those it has read."""
    environment = Environment(
        loader=PackageLoader("tidemill.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"charts": charts, "extent": extent, "t": _english}  # files are in English
    environment.filters |= {
        "amount": amount,
        "named": named,
        "keep": lambda text: text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0"),
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}",
        "unit": lambda name: _UNITS.get(name, ""),
        "when": when,
        "bytes": size_text,
        "plain": plain,
        "share": share,
        "belief": lambda quality: f"{quality:.3f}" if quality >= 0.001 else "<\u00a00.001",
        "begin": lambda text: f"{text[:1].upper()}{text[1:]}",
        "largest": lambda shares: max(shares.values(), default=0.0),
        "without": lambda mapping, *keys: {key: value for key, value in mapping.items() if key not in keys},
        "is_image": is_image,
        "told": lambda text: text,  # as it was written
        "step": step,
        "pictured": lambda rows: (
            bool(rows) and all(len(r["inputs"]) == 1 and is_image(*r["inputs"].values()) for r in rows)
        ),
    }
    return environment


def _english(text: str, **values: object) -> str:
    return text.format(**values) if values else text


def step(share: float | None) -> int:
    """A share as whole percent from 0 to 100, for the classes ``w-…`` and ``a-…``: pages of the service may carry no
    style of their own, so widths and tints are classes of the style sheet.

    >>> step(0.004), step(0.376), step(2.0), step(None)
    (1, 38, 100, 0)
    """
    if not share or share <= 0:
        return 0
    return min(100, max(1, round(100 * share)))


def is_image(value: Any) -> bool:
    """Whether a value of a sample is an image as a data URL."""
    return isinstance(value, str) and value.startswith("data:image/")


def named(metric: str) -> str:
    """A metric's name for people.

    >>> named("f1_samples"), named("r2"), named("balanced_accuracy")
    ('F1, mean of the rows', 'R²', 'balanced accuracy')
    """
    start, _, mean = metric.partition("_")
    if start in _SHARES and mean in _MEANS:
        return f"{_NAMES.get(start, start)}, {_MEANS[mean]}"
    return _NAMES.get(metric, metric.replace("_", " "))


def amount(value: float | None, metric: str) -> str:
    """A metric's value for people.

    >>> amount(0.9724, "accuracy").split(), amount(0.1234, "log_loss"), amount(None, "recall"), amount(48123.4, "rmse")
    (['97.2', '%'], '0.123', '–', '48,123')
    """
    if value is None:
        return "–"
    if metric in _PERCENT:
        return f"{100 * value:.1f}\u00a0%"
    if 0 < abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def share(value: float | None) -> str:
    r"""A share in percent, with as many digits as tell it from nothing and from all.

    >>> share(0.5).split(), share(0.0123).split(), share(0.0), share(1.0), share(0.99999).split()
    (['50', '%'], ['1.2', '%'], '0\xa0%', '100\xa0%', ['>', '99.9', '%'])
    """
    if value is None:
        return "–"
    percent = 100 * value
    if 0 < percent < 0.1:
        return "<\u00a00.1\u00a0%"
    if 99.9 < percent < 100:
        return ">\u00a099.9\u00a0%"
    return f"{percent:.0f}\u00a0%" if percent in (0, 100) or 10 <= percent < 99 else f"{percent:.1f}\u00a0%"


def extent(triples: Sequence[Mapping[str, Any]], metric: str) -> tuple[float, float]:
    """A common range for dots with intervals: shares end at 1 and begin where the lowest does."""
    known = [v for t in triples for v in (t["value"], t["low"], t["high"]) if v is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if metric in _PERCENT or metric == "roc_auc":
        return max(0.0, min(low, 0.95) - 0.02), 1.0
    pad = (high - low) * 0.05 or 1.0
    return low - pad, high + pad


def when(seconds: float | None) -> str:
    """A time for people, in UTC."""
    if seconds is None:
        return "–"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def size_text(size: float | None) -> str:
    """Bytes for people."""
    if size is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:g} B"


def plain(value: Any) -> str:
    """A JSON value in a cell; long texts are cut, of several labels each is named.

    >>> plain(["cat", "dog"]), plain([]), plain(203456.0), plain(None), plain(1234)
    ('cat, dog', 'none', '203,456', '–', '1,234')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "none"
    text = str(value)
    return text if len(text) <= 400 else text[:399] + "…"
