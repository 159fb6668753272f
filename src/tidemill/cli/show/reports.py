"""A model's report for the terminal: metrics by split, classes, slices, mistakes."""

from __future__ import annotations

from typing import Any

from tidemill.cli.show import layout, units
from tidemill.cli.show.answers import label

_WORST = 5
_FEW = 20  # rows under which a slice says little
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
                **_together(data["run"]),
                **_rule(data.get("answer") or {}),
            }
        ),
        metrics(reports),
        *(robustness(content["robustness"]) for content in reports.values() if content.get("robustness")),
        *(part for split, content in reports.items() for part in _details(split, content, data.get("answer") or {})),
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


def robustness(found: dict[str, Any]) -> Any:
    """One row a way in which inputs go wrong, the worst first; one column a strength."""
    metric = found["metric"]
    worst = sorted(found["corruptions"], key=lambda c: c["mean"]["value"] if c["mean"]["value"] is not None else 0)
    rows = [
        (c["name"], *(units.quality(v["value"], metric) for v in c["values"]), units.quality(c["mean"], metric))
        for c in worst
    ]
    rows.append(("mean of all", *[""] * 5, units.quality(found["corrupted"], metric)))
    rows.append(("as they are", *[""] * 5, units.quality(found["clean"], metric)))
    head = ["when inputs go wrong", *(f">{strength}" for strength in range(1, 6)), ">mean"]
    title = f"validation: {units.metric_name(metric)} by strength, on {units.count(found['rows'], 'row')}"
    return layout.table(head, rows, title=title)


def _details(split: str, content: dict[str, Any], answer: dict[str, Any]) -> list[Any]:
    parts = []
    if split == "reference" and content.get("per_class"):
        parts.append(_labels(split, content, answer))
    if slices := content.get("slices"):
        metric = content["slice_metric"]
        small = units.smaller_is_better(metric)
        shown = [s for s in slices if s["value"] is not None and s["rows"] >= _FEW] or slices
        worst = sorted(shown, key=lambda s: s["value"] if s["value"] is not None else 0, reverse=small)
        parts.append(
            layout.table(
                ["slice", ">rows", f">{units.metric_column(metric)}"],
                [(s["slice"], units.count(s["rows"]), units.quality(s, metric)) for s in worst[:_WORST]],
                title=f"{split}: weakest slices",
            )
        )
    if mistakes := content.get("mistakes"):
        sure = any("score" in m for m in mistakes)
        parts.append(
            layout.table(
                ["sample", "from", "label", "answered", *([">sure"] if sure else [])],
                [
                    (
                        *(m["sample"], m["origin"], label(m["label"]), label(m["answer"])),
                        *([units.percent(m.get("score"))] if sure else []),
                    )
                    for m in mistakes[:_WORST]
                ],
                title=f"{split}: worst mistakes",
            )
        )
    return parts


def _labels(split: str, content: dict[str, Any], answer: dict[str, Any]) -> Any:
    """One row a label; of several labels a row also the probability from which on it is given."""
    several = content["kind"] == "multilabel" and answer.get("thresholds")
    bounds = dict(zip(answer["labels"], answer["thresholds"], strict=True)) if several else {}
    rows = [
        (
            *(c["label"], units.count(round(c["support"]))),
            *([units.percent(bounds.get(c["label"]))] if bounds else []),
            *(units.quality(c[m], m) for m in _CLASS),
        )
        for c in content["per_class"]
    ]
    head = ["label", ">rows", *([">threshold"] if bounds else []), ">precision", ">recall", ">F1"]
    return layout.table(head, rows, title=f"{split} by label")


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


def _rule(answer: dict[str, Any]) -> dict[str, str]:
    """When a classifier that may abstain gives an answer.

    >>> _rule({"threshold": 0.875}), _rule({"abstain_cost": 0.4}), _rule({"kind": "classification"})
    ({'answers': 'when at least 87.5 % sure'}, {'answers': 'when expected to cost 0.4 at most'}, {})
    """
    if answer.get("threshold") is not None:
        if answer["threshold"] >= 1:
            return {"answers": "only what is certain"}
        return {"answers": f"when at least {units.percent(answer['threshold'])} sure"}
    if answer.get("abstain_cost") is not None:
        return {"answers": f"when expected to cost {answer['abstain_cost']:g} at most"}
    return {}


def _together(run: dict[str, Any] | None) -> dict[str, str]:
    """Who trained it where that was more than one process, and whether memory was short.

    >>> _together({"metrics": {"processes": 2, "batch_parts": 4, "batch_size": 128, "device": "cuda"}})
    {'processes': '2 together', 'memory': 'cuda ran out of it: steps on 128 rows were made in 4 parts'}
    >>> _together({"metrics": {"processes": 1}}), _together(None)
    ({}, {})
    """
    facts = (run or {}).get("metrics") or {}
    said = {"processes": f"{facts['processes']} together"} if facts.get("processes", 1) > 1 else {}
    if facts.get("batch_parts", 1) > 1:
        parts = f"steps on {facts['batch_size']} rows were made in {facts['batch_parts']} parts"
        said["memory"] = f"{facts['device']} ran out of it: {parts}"
    return said


def _trained(data: dict[str, Any]) -> str:
    if data["run"] is None:
        return units.NONE
    counts = (data["dataset"] or {}).get("counts", {})
    return f"{units.ago(data['run']['created'])} on {units.count(counts.get('train'), 'sample')}"
