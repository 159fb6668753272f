"""A model's report for the terminal: metrics by split, classes, slices, mistakes."""

from __future__ import annotations

from typing import Any

from tidemill.cli.show import layout, units
from tidemill.cli.show.answers import label

_WORST = 5
_SHOWN = (
    "utility", "expected_cost", "accuracy", "answered", "accuracy_answered", "balanced_accuracy", "subset_accuracy",
    "f1_samples", "f1_micro", "f1_macro", "precision_macro", "recall_macro", "roc_auc", "average_precision_macro",
    "hamming_loss", "log_loss", "calibration_error", "mae", "rmse", "r2", "interval_coverage", "interval_width",
)  # fmt: skip


def report(data: dict[str, Any]) -> Any:
    """The report of one model; which splits it has depends on which were opened for it."""
    model, reports, decision = data["model"], data["reports"], data["decision"]
    return layout.stack(
        layout.pairs(
            {
                "model": model["id"],
                "recipe": model["recipe"],
                "task": data["task"],
                "size": units.size(model["size_bytes"]),
                "latency": _latency(reports),
                "trained": _trained(data),
            }
        ),
        metrics(reports),
        *(part for split, content in reports.items() for part in _details(split, content)),
        layout.panel(decision["reason"], title=decision["outcome"], good=decision["outcome"] == "promoted")
        if decision
        else None,
    )


def metrics(reports: dict[str, Any]) -> Any:
    """One row a metric, one column a split."""
    if not reports:
        return layout.line("not evaluated yet")
    names = [n for n in _SHOWN if any(n in content["metrics"] for content in reports.values())]
    rows: list[tuple[str, ...]] = [
        (units.metric_column(name), *(units.quality(c["metrics"].get(name), name) for c in reports.values()))
        for name in names
    ]
    rows.append(("rows", *(units.count(c["counts"]["rows"]) for c in reports.values())))
    return layout.table(["metric (95 % interval)", *(f">{split}" for split in reports)], rows)


def _details(split: str, content: dict[str, Any]) -> list[Any]:
    parts = []
    if split == "reference" and content.get("per_class"):
        parts.append(
            layout.table(
                ["label", ">rows", ">precision", ">recall", ">F1"],
                [
                    (c["label"], units.count(round(c["support"])), *(units.quality(c[m], m) for m in _CLASS))
                    for c in content["per_class"]
                ],
                title=f"{split} by label",
            )
        )
    if slices := content.get("slices"):
        metric = content["slice_metric"]
        small = units.smaller_is_better(metric)
        worst = sorted(slices, key=lambda s: s["value"] if s["value"] is not None else 0, reverse=small)
        parts.append(
            layout.table(
                ["slice", ">rows", f">{units.metric_column(metric)}"],
                [(s["slice"], units.count(s["rows"]), units.quality(s, metric)) for s in worst[:_WORST]],
                title=f"{split}: weakest slices",
            )
        )
    if mistakes := content.get("mistakes"):
        parts.append(
            layout.table(
                ["sample", "from", "label", "answered", ">sure"],
                [
                    (m["sample"], m["origin"], label(m["label"]), label(m["answer"]), units.percent(m.get("score")))
                    for m in mistakes[:_WORST]
                ],
                title=f"{split}: worst mistakes",
            )
        )
    return parts


_CLASS = ("precision", "recall", "f1")


def _latency(reports: dict[str, Any]) -> str:
    for content in reports.values():
        if (latency := content.get("latency")) is not None:
            single, batch = latency["single"], latency["batch"]
            return (
                f"{units.seconds(single['p50_ms'] / 1000)} (p99 {units.seconds(single['p99_ms'] / 1000)}), "
                f"{units.count(round(batch['rows_per_second']))} rows/s in batches"
            )
    return units.NONE


def _trained(data: dict[str, Any]) -> str:
    if data["run"] is None:
        return units.NONE
    counts = (data["dataset"] or {}).get("counts", {})
    return f"{units.ago(data['run']['created'])} on {units.count(counts.get('train'), 'sample')}"
