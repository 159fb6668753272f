"""A model's report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.console import distributions
from tidemill.console.page import page_text, render

SPLITS = ("reference", "recent-test", "validation", "recent-validation", "train")
"""In the order of what a reader should believe first."""

_BESIDE = ("answered", "accuracy_answered", "expected_cost", "subset_accuracy", "f1_macro", "interval_coverage", "mae")


def render_report(content: Mapping[str, Any], path: str | Path, data: Mapping[str, Any] | None = None) -> Path:
    """Write the page of what :meth:`tidemill.api.Project.report` returns.

    Args:
        content: ``{"model", "run", "reports", "decision", "dataset", "answer"}``; all but ``model`` may be ``None`` or
            empty.
        path: where to; an older file there is replaced as a whole.
        data: what :meth:`tidemill.api.Project.data` returns of the version that the model was made from.

    Returns:
        The path.

    Raises:
        StoreError: the file cannot be written.
    """
    return render("report.html", path, **_filled(content, data))


def report_page(content: Mapping[str, Any], data: Mapping[str, Any] | None = None, *, served: bool = False) -> str:
    """The page as text; see :func:`render_report`.

    Args:
        served: by the service, whose pages carry no style of their own but name a style sheet.
    """
    return page_text("report.html", **_filled(content, data), served=served)


def _filled(content: Mapping[str, Any], data: Mapping[str, Any] | None) -> dict[str, Any]:
    reports: Mapping[str, Any] = content.get("reports") or {}
    shown = {split: reports[split] for split in SPLITS if split in reports}
    shown |= {split: report for split, report in reports.items() if split not in shown}
    first = next(iter(shown.items()), None)
    answer: Mapping[str, Any] = content.get("answer") or {}
    return {
        "model": content["model"],
        "run": content.get("run"),
        "decision": content.get("decision"),
        "dataset": content.get("dataset"),
        "answer": answer,
        "data": data,
        "distributions": distributions,
        "reports": shown,
        "first": first,
        "headline": headline,
        "confused": confused,
        "curve_names": curve_names,
        "decides": first is not None and decides(first[1], answer),
        "beside": [] if first is None else beside(first[1]),
        "thresholds": dict(zip(answer.get("labels") or [], answer.get("thresholds") or [], strict=False)),
        "robust": next((r["robustness"] for r in shown.values() if r.get("robustness")), None),
        "strength_range": strength_range,
        "mistakes": [(s, m) for s, r in shown.items() for m in r.get("mistakes") or []],
    }


def headline(report: Mapping[str, Any]) -> str:
    """The metric that stands largest: the task's own, if it is one of the report's."""
    metrics = report["metrics"]
    own = report.get("metric")
    return str(own) if own in metrics else "rmse" if own == "mse" else next(iter(metrics))


def beside(report: Mapping[str, Any]) -> list[str]:
    """What stands beside the headline: two metrics that say as much, if the report has them."""
    return [name for name in _BESIDE if name in report["metrics"] and name != headline(report)][:2]


def decides(report: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether answers have a price or may be withheld, so that how it decides is worth a section."""
    return any(answer.get(key) is not None for key in ("costs", "abstain_cost", "threshold")) or any(
        metric in report["metrics"] for metric in ("answered", "expected_cost")
    )


def confused(report: Mapping[str, Any], most: int = 12) -> list[dict[str, Any]]:
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


def strength_range(robust: Mapping[str, Any]) -> tuple[float, float]:
    """One range for the plots of all corruptions; what falls far below a metric that cannot is cut off at its foot.

    >>> strength_range({"metric": "accuracy", "clean": {"value": 0.9}, "corruptions": [{"values": [{"value": 0.43}]}]})
    (0.4, 1.0)
    """
    values = [v["value"] for c in robust["corruptions"] for v in c["values"] if v["value"] is not None]
    clean = float(robust["clean"]["value"])
    low = min([*values, clean])
    if robust["metric"] in ("mae", "mse", "log_loss", "brier", "label_log_loss"):
        return low, max([*values, clean, low + 1e-9])
    return max(-1.0, math.floor(10 * low) / 10), 1.0


def curve_names(curve: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """The curves of one kind (``loss`` or ``score``), validation first."""
    names = list(dict.fromkeys(name for point in curve for name in point if name.endswith(kind)))
    return sorted(names, key=lambda name: not name.startswith("validation"))
