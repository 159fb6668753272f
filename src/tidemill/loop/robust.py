"""The chosen candidate on inputs that went wrong: a part of its validation report, made once a cycle."""

from __future__ import annotations

import dataclasses

from tidemill.data.dataset import DatasetArrays
from tidemill.loop._base import Setting
from tidemill.loop.steps import Steps
from tidemill.records import JSON, Model, Report
from tidemill.runtime import load
from tidemill.stages.robustness import robustness


def look_at_robustness(setting: Setting, steps: Steps, dataset: DatasetArrays, model_id: str) -> None:
    """Put ``robustness`` into the validation report of a candidate, which its refit takes over.

    It does so before the refit, which has seen the validation rows. A report that has it already, such as that of a
    cycle that was killed, stays as it is.
    """
    store = setting.store
    shown = store.find(Report, model_id=model_id, dataset_id=dataset.id, split="validation", limit=1)
    if dataset.signature.kind == "choice":  # of choices nobody knows what would have been right
        return
    if not setting.config.training.robustness or not shown or "robustness" in shown[0].content:
        return
    report = shown[0]
    latency: JSON = report.content.get("latency") or {}
    found = robustness(
        dataset,
        load(store.root / store.get(Model, model_id).path, threads=setting.threads),
        setting.metric,
        costs=setting.costs(dataset.signature),
        speed=latency.get("batch", {}).get("rows_per_second"),
        seed=steps.cycle.seed,
        on_event=steps.on_event,
    )
    if found is not None:
        store.update(dataclasses.replace(report, content={**report.content, "robustness": found}))
