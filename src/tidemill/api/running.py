"""Cycles from the facade: planned and run."""

from __future__ import annotations

from pathlib import Path

from tidemill.annotation.functions import labelling_functions
from tidemill.config import parse_duration
from tidemill.data.sources import merge
from tidemill.engines.parallel import ParallelEngine
from tidemill.loop import OnEvent, Setting, plan, run_cycle, untraced
from tidemill.project import OpenProject, rollouts
from tidemill.project.cleaning import require_room
from tidemill.project.progress import Progress
from tidemill.records import JSON, Dataset, Decision, Rollout, to_json
from tidemill.serving.tracing import SpanOf, traced_cycle
from tidemill.tasks import metric_of
from tidemill.tasks._sources import open_sources, signature_of

_PATIENCE = 60.0
"""Seconds that a cycle waits for a database that is away: the restart of a server must not cost hours of work."""


def setting_of(project: OpenProject, span: SpanOf = untraced) -> Setting:
    """What a cycle of this project is given; *span* traces its stages."""
    return Setting(
        store=project.store,
        task=project.task,
        config=project.config,
        sources=project.sources,
        recipes=project.recipes,
        threads=project.threads,
        team=_team(project),
        span=span,
        functions=tuple(labelling_functions(project.config, project.dir)),
    )


def _team(project: OpenProject) -> ParallelEngine | None:
    """Processes that train networks together, where the project asks for more than one."""
    count = project.config.training.processes
    log = project.store.root / "parallel.log"
    return ParallelEngine(processes=count, threads=project.threads, log=log) if count > 1 else None


def run(
    project: OpenProject,
    *,
    budget: str | float | None,
    max_trials: int | None,
    max_epochs: int | None,
    seed: int | None,
    on_event: OnEvent,
    trigger: str,
) -> JSON:
    """Run a cycle and tell its outcome.

    Raises:
        StoreError: the project is over its disk quota.
        ConflictError: a roll-out is under way.
        ExtraMissingError: traces are asked for, and OpenTelemetry is not installed.
    """
    require_room(project)
    rollouts.require_none(project)
    traced = traced_cycle(project.config.serve.tracing, trigger)
    with traced as span, project.store.database.patient(_PATIENCE):
        cycle = run_cycle(
            setting_of(project, span),
            budget=None if budget is None else parse_duration(budget, where="--budget"),
            max_trials=max_trials,
            max_epochs=max_epochs,
            seed=seed,
            trigger=trigger,
            on_event=Progress(project.store, on_event),
        )
    decision = project.store.get(Decision, cycle.decision_id) if cycle.decision_id else None
    dataset = project.store.get(Dataset, cycle.dataset_id) if cycle.dataset_id else None
    begun = project.store.find(Rollout, decision_id=decision.id, limit=1) if decision else []
    return {
        "cycle": cycle.id,
        "dataset": {"id": dataset.id, "counts": dataset.counts} if dataset else None,
        "candidates": cycle.summary["candidates"],
        "decision": {k: v for k, v in to_json(decision).items() if k != "evidence"} if decision else None,
        "rollout": {"id": begun[0].id, "phase": begun[0].phase, "share": begun[0].share} if begun else None,
        "notes": cycle.summary.get("notes", []),
        "kind": project.task.kind,
        "needs_labels": bool(cycle.summary.get("needs_labels", False)),
        "questions": cycle.summary["questions"],
        "stages": cycle.summary["stages"],
        "seconds": (cycle.finished or cycle.created) - cycle.created,
    }


def cycle_job(folder: str, trigger: str, budget: str | None = None) -> JSON:
    """One cycle as a job of an engine: see :mod:`tidemill.engines`."""
    from tidemill.loop import unheard

    project = OpenProject(Path(folder))
    return run(project, budget=budget, max_trials=None, max_epochs=None, seed=None, on_event=unheard, trigger=trigger)


def plan_cycle(
    project: OpenProject, *, budget: str | float | None, max_trials: int | None, max_epochs: int | None
) -> JSON:
    """What a cycle would do. Reads the sources once; writes nothing."""
    config, defaults = project.config, project.config.cycle
    summaries = [source.summary() for source in open_sources(config, project.sources, project.task)]
    signature = signature_of(project.task, config, merge(summaries))
    rows = sum(summary.rows or 0 for summary in summaries)
    targets = [summary.column(config.target) for summary in summaries]
    learnt = rows - sum(target.missing for target in targets if target)
    notes: list[str] = []
    texts = [text for m in summaries for c in m.columns if c.type == "text" for text in c.examples]
    recipes = project.recipes(signature, texts, notes.append)
    allowed = defaults.budget_seconds if budget is None else parse_duration(budget, where="--budget")
    planned = plan(
        recipes,
        signature,
        learnt,
        budget=allowed,
        max_trials=max_trials if max_trials is not None else defaults.max_trials,
        max_epochs=max_epochs if max_epochs is not None else defaults.max_epochs,
        threads=max(1, project.threads // setting_of(project).workers(allowed)),
        probe=True,
    )
    notes += [f"the recipe {name} would fail: {why}" for name, why in planned.failed.items()]
    row_bytes = sum(_bytes_per_value(f.type, f.shape) for f in signature.inputs)
    return {
        "task": project.config.task,
        "metric": metric_of(project.task, config.decision),
        "sources": [
            {"source": s, "rows": m.rows, "notes": list(m.notes)}
            for s, m in zip(project.sources, summaries, strict=True)
        ],
        "rows": rows,
        "labelled": learnt,
        "labels": list(signature.labels),
        "notes": notes,
        "inputs": [{"name": f.name, "type": f.type} for f in signature.inputs],
        "recipes": [
            {
                **planned.recipes[r.name],
                "name": r.name,
                "learner": r.learner,
                "baseline": r.baseline,
                "features": list(dict.fromkeys(step["step"] for step in r.features)),
                "features_seconds": planned.recipes[r.name]["features"],
            }
            for r in recipes
        ],
        "seconds": planned.seconds,
        # Raw arrays once, and the materialised features of each distinct pipeline once more.
        "disk_bytes": rows * row_bytes * (1 + len({str(r.features) for r in recipes})),
        "memory_bytes": 600_000_000 + min(rows * row_bytes, 300_000_000),
        "quota_bytes": int(config.limits.quota_gb * 1e9),
    }


def _bytes_per_value(kind: str, shape: tuple[int, ...] | None) -> int:
    if kind == "image" and shape is not None:
        size = 1
        for side in shape:
            size *= side
        return size
    return {"number": 8, "date": 8, "category": 20}.get(kind, 200)
