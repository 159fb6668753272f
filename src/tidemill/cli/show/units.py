"""Numbers with their units."""

from __future__ import annotations

import time
from typing import Any

NONE = "–"

_SHARES = frozenset(
    {
        *("accuracy", "balanced_accuracy", "subset_accuracy", "calibration_error", "ece", "roc_auc", "quality"),
        *("hamming", "hamming_loss", "answered", "accuracy_answered", "coverage", "interval_coverage"),
        *("calibration_error_debiased", "average_precision_macro", "utility"),
        *(
            f"{name}{kind}"
            for name in ("precision", "recall", "f1")
            for kind in ("", "_macro", "_micro", "_weighted", "_samples")
        ),
    }
)
_SMALLER = frozenset({
    "mae", "mse", "rmse", "log_loss", "label_log_loss", "brier", "calibration_error", "calibration_error_debiased",
    "ece", "hamming_loss", "cost", "expected_cost", "pinball_loss", "interval_width",
})  # fmt: skip
_NAMES = {
    "r2": "R²", "rmse": "RMSE", "mae": "MAE", "mse": "MSE", "ece": "calibration error", "roc_auc": "ROC AUC",
    "log_loss": "log-loss", "label_log_loss": "log-loss", "brier": "Brier score", "hamming": "labels that agree",
    "hamming_loss": "Hamming loss", "answered": "share answered", "accuracy_answered": "accuracy of answers given",
    "calibration_error_debiased": "calibration error (debiased)", "interval_coverage": "covered by intervals",
    "interval_width": "mean width of intervals", "pinball_loss": "quantile loss",
    "average_precision_macro": "average precision (mean of the labels)",
}  # fmt: skip
_OF = {"f1": "F1", "precision": "precision", "recall": "recall"}
_MEANS = {"macro": "mean of the labels", "micro": "all labels together", "samples": "mean of the samples",
          "weighted": "labels by size"}  # fmt: skip


def metric_name(name: str) -> str:
    """A metric as people write it.

    >>> metric_name("r2"), metric_name("f1_samples"), metric_name("balanced_accuracy")
    ('R²', 'F1 (mean of the samples)', 'balanced accuracy')
    """
    start, _, mean = name.partition("_")
    if start in _OF and mean in _MEANS:
        return f"{_OF[start]} ({_MEANS[mean]})"
    return _NAMES.get(name, name.replace("_", " "))


def metric_column(name: str) -> str:
    """A metric as the head of a column: an arrow says which way is better.

    >>> metric_column("r2"), metric_column("log_loss")
    ('R² ↑', 'log-loss ↓')
    """
    return f"{metric_name(name)} {'↓' if smaller_is_better(name) else '↑'}"


def smaller_is_better(name: str) -> bool:
    """Whether a metric measures what goes wrong.

    >>> smaller_is_better("rmse"), smaller_is_better("utility")
    (True, False)
    """
    return name in _SMALLER


def number(value: float | None) -> str:
    """A predicted number, with six digits at least.

    >>> number(203400.0), number(1234567.8), number(0.123456789), number(-0.0)
    ('203,400', '1,234,568', '0.123457', '0')
    """
    if value is None:
        return NONE
    if abs(value) >= 1e15:
        return f"{value:.6g}"
    return f"{value + 0.0:,.0f}" if abs(value) >= 1e5 else f"{value + 0.0:,.6g}"


def count(value: float | None, noun: str = "") -> str:
    """``1,797``; with a noun ``1 sample`` or ``1,797 samples``.

    >>> count(1797), count(1, "sample"), count(2, "sample")
    ('1,797', '1 sample', '2 samples')
    """
    if value is None:
        return NONE
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return text if not noun else f"{text} {noun}{'' if value == 1 else 's'}"


def size(value: float | None) -> str:
    """Bytes in decimal units.

    >>> size(512), size(45_300), size(2_100_000_000)
    ('512 B', '45.3 kB', '2.10 GB')
    """
    if value is None:
        return NONE
    if abs(value) < 1000:
        return f"{value:.0f} B"
    units = iter(("kB", "MB", "GB", "TB"))
    value, unit = value / 1000, next(units)
    while abs(value) >= 999.5 and (larger := next(units, None)) is not None:
        value, unit = value / 1000, larger
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {unit}"


def seconds(value: float | None) -> str:
    """A length of time, with as many digits as matter.

    >>> seconds(2.4e-5), seconds(0.0123), seconds(3.21), seconds(125), seconds(7260)
    ('24 µs', '12.3 ms', '3.2 s', '2 min 5 s', '2 h 1 min')
    """
    if value is None:
        return NONE
    if value < 1e-4:
        return f"{value * 1e6:.3g} µs"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(value: float | None, digits: int = 1) -> str:
    """A share.

    >>> percent(0.9766)
    '97.7 %'
    """
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def quality(value: Any, metric: str = "accuracy") -> str:
    """A metric as a number or as ``{"value", "low", "high"}``; shares in percent.

    >>> quality({"value": 0.97, "low": 0.95, "high": 0.985})
    '97.0 % (95.0–98.5)'
    >>> quality(0.2512, "log_loss"), quality({"value": 43594.6, "low": 40233.9, "high": 47486.0}, "mae")
    ('0.2512', '43,595 (40,234–47,486)')
    """
    if value is None:
        return NONE
    if not isinstance(value, dict):
        value = {"value": value}
    if value["value"] is None:
        return NONE
    scale, unit, digits = (100, " %", 1) if metric in _SHARES else (1, "", _digits(value["value"]))

    def written(one: float) -> str:
        return f"{scale * one:,.{digits}f}"

    text = f"{written(value['value'])}{unit}"
    if value.get("low") is None or value.get("high") is None:
        return text
    return f"{text} ({written(value['low'])}–{written(value['high'])})"


def _digits(value: float) -> int:
    return 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0


def ago(moment: float | None, now: float | None = None) -> str:
    """How long a moment (UTC seconds) lies back.

    >>> ago(1000.0, now=1300.0)
    '5 min ago'
    """
    if moment is None:
        return NONE
    past = max(0.0, (time.time() if now is None else now) - moment)
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if past >= length:
            n = int(past // length)
            return f"{n} {unit}{'s' if unit == 'day' and n > 1 else ''} ago"
    return f"{int(past)} s ago"


def plain(name: str, value: Any) -> str:
    """Any value, with the unit that its name tells.

    >>> plain("freed_bytes", 1_500_000), plain("seconds", 2), plain("kept", True)
    ('1.50 MB', '2.0 s', 'yes')
    """
    if value is None or value in ("", [], {}):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("bytes"):
            return size(value)
        if name.endswith("seconds"):
            return seconds(value)
        if name.endswith("_ms"):
            return seconds(value / 1000)
        if name in ("created", "finished", "since", "retired"):
            return ago(value)
        return quality(value, name) if name in _SHARES else count(value)
    if isinstance(value, dict):
        if "value" in value and "low" in value:
            return quality(value, name)
        return ", ".join(f"{k} {plain(k, v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(name, v) for v in value)
    return str(value)
