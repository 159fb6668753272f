"""A model's report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tidemill.console import charts
from tidemill.errors import StoreError

SPLITS = ("reference", "recent-test", "validation", "recent-validation", "train")
"""In the order of what a reader should believe first."""

_PERCENT = frozenset(
    {"accuracy", "balanced_accuracy", "calibration_error", "calibration_error_debiased"}
    | {f"{name}_{mean}" for name in ("precision", "recall", "f1") for mean in ("macro", "micro")}
    | {"precision", "recall", "f1"}
)
_NAMES = {
    "roc_auc": "ROC-AUC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "f1": "F1",
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "precision_macro": "precision, macro",
    "precision_micro": "precision, micro",
    "recall_macro": "recall, macro",
    "recall_micro": "recall, micro",
    "calibration_error": "calibration error (ECE)",
    "calibration_error_debiased": "calibration error, debiased RMS",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
_UNITS = {"log_loss": "nats"}


def render_report(content: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of what :meth:`tidemill.api.Project.report` returns.

    Args:
        content: ``{"model", "run", "reports", "decision", "dataset"}``; all but ``model`` may be ``None`` or empty.
        path: where to; an older file there is replaced as a whole.

    Returns:
        The path.

    Raises:
        StoreError: the file cannot be written.
    """
    path = Path(path)
    page = report_page(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise StoreError(
            f"the report cannot be written: {error.strerror}",
            where=str(path),
            mend="Choose a folder that can be written.",
        ) from error
    return path


def report_page(content: Mapping[str, Any]) -> str:
    """The page as text; see :func:`render_report`."""
    environment = Environment(
        loader=PackageLoader("tidemill.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "charts": charts,
        "headline": _headline,
        "extent": _extent,
        "confused": _confused,
        "curve_names": _curve_names,
        "rest_of": lambda report: {k: v for k, v in report.items() if k not in ("actions", "notes")},
    }
    environment.filters |= {
        "amount": amount,
        "named": named,
        "keep": lambda text: text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0"),
        "unit": lambda name: _UNITS.get(name, ""),
        "when": _when,
        "bytes": _bytes,
        "plain": _plain,
        "is_image": lambda value: isinstance(value, str) and value.startswith("data:image/"),
    }
    reports: Mapping[str, Any] = content.get("reports") or {}
    shown = {split: reports[split] for split in SPLITS if split in reports}
    shown |= {split: report for split, report in reports.items() if split not in shown}
    return environment.get_template("report.html").render(
        model=content["model"],
        run=content.get("run"),
        decision=content.get("decision"),
        dataset=content.get("dataset"),
        reports=shown,
        first=next(iter(shown.items()), None),
        mistakes=[(s, m) for s, r in shown.items() for m in r.get("mistakes") or []],
    )


def named(metric: str) -> str:
    """A metric's name for people."""
    return _NAMES.get(metric, metric.replace("_", " "))


def amount(value: float | None, metric: str) -> str:
    """A metric's value for people.

    >>> amount(0.9724, "accuracy").split(), amount(0.1234, "log_loss"), amount(None, "recall")
    (['97.2', '%'], '0.123', '–')
    """
    if value is None:
        return "–"
    return (
        f"{100 * value:.1f}\u00a0%" if metric in _PERCENT else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    )


def _headline(report: Mapping[str, Any]) -> str:
    """The metric that stands largest: the task's own, if it is one of the report's."""
    metrics = report["metrics"]
    own = report.get("metric")
    return str(own) if own in metrics else "rmse" if own == "mse" else next(iter(metrics))


def _extent(triples: Sequence[Mapping[str, Any]], metric: str) -> tuple[float, float]:
    """A common range for dots with intervals: shares end at 1 and begin where the lowest does."""
    known = [v for t in triples for v in (t["value"], t["low"], t["high"]) if v is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if metric in _PERCENT or metric == "roc_auc":
        return max(0.0, min(low, 0.95) - 0.02), 1.0
    pad = (high - low) * 0.05 or 1.0
    return low - pad, high + pad


def _confused(report: Mapping[str, Any], most: int = 12) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for one another most often."""
    labels, found = report["labels"], []
    for i, row in enumerate(report["confusion"]):
        total = sum(row)
        found += [
            {"label": labels[i], "answer": labels[j], "rows": count, "share": count / total}
            for j, count in enumerate(row)
            if i != j and count > 0
        ]
    return sorted(found, key=lambda pair: -pair["rows"])[:most]


def _curve_names(curve: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """The curves of one kind (``loss`` or ``score``), validation first."""
    names = list(dict.fromkeys(name for point in curve for name in point if name.endswith(kind)))
    return sorted(names, key=lambda name: not name.startswith("validation"))


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _bytes(size: float | None) -> str:
    if size is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:g} B"


def _plain(value: Any) -> str:
    """A JSON value in a cell; long texts are cut."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 400 else text[:399] + "…"
