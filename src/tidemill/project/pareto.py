"""The Pareto front: the models of the newest data that no other one beats on quality, latency and size at once."""

from __future__ import annotations

from tidemill.config import parse_goal
from tidemill.errors import NotReadyError
from tidemill.loop.goals import Point, front, over
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Cycle, Decision, Model, Report, Run
from tidemill.tasks import metric_of, selection_of


def pareto(project: OpenProject) -> JSON:
    """The candidates that were judged on the validation rows of the last cycle's dataset version, the best first.

    Quality is what recipes are chosen by, on rows that the model has not seen; latency is the median of single answers
    on this machine, measured then; size is the package's. A refit is not among them: it has no rows left to be judged
    on, and stands behind the candidate that it was made of.

    Returns:
        ``{"cycle", "dataset", "goal", "quality", "metric", "models"}``; of each model ``{"model", "recipe", "quality",
        "metrics", "latency_ms", "size_bytes", "front", "over", "champion", "challenger"}``: ``over`` says in words by
        what it misses the goal, ``champion`` and ``challenger`` whether it, or its refit, serves or went to the gate in
        the last cycle.

    Raises:
        NotReadyError: no cycle has come so far.
    """
    store, config = project.store, project.config
    cycles = store.find(Cycle, status="done", newest_first=True)
    cycle = next((c for c in cycles if c.summary.get("candidates")), None)
    if cycle is None:
        raise NotReadyError("there are no models to compare yet", mend="Run `tidemill cycle` first.")
    selection, metric = selection_of(project.task, config.decision), metric_of(project.task, config.decision)
    reports = store.find(Report, dataset_id=cycle.dataset_id, split="validation")
    measured = {r.model_id: r.content for r in reports if "measured_on" not in r.content}
    made = [m for m in store.find(Model, id=list(measured)) if (store.root / m.path).is_dir()] if measured else []
    points = [
        Point(
            name=model.recipe,
            quality=float(model.metrics.get("validation", {}).get(selection, 0.0)),
            latency_ms=_latency(measured[model.id]),
            size_bytes=model.size_bytes,
        )
        for model in made
    ]
    champion = store.champion()
    serving = set() if champion is None else _with_parents(project, champion.model_id)
    decision = store.get(Decision, cycle.decision_id) if cycle.decision_id else None
    judged = set() if decision is None else _with_parents(project, decision.challenger_id)
    goal = parse_goal(config.goal)
    models = [
        {
            "model": model.id,
            "recipe": model.recipe,
            "quality": point.quality,
            "metrics": model.metrics.get("validation", {}),
            "latency_ms": point.latency_ms,
            "size_bytes": point.size_bytes,
            "front": best,
            "over": over(goal, point),
            "champion": model.id in serving,
            "challenger": model.id in judged,
        }
        for model, point, best in zip(made, points, front(points), strict=True)
    ]
    models.sort(key=lambda entry: (-entry["quality"], entry["size_bytes"], entry["model"]))
    return {
        "cycle": cycle.id,
        "dataset": cycle.dataset_id,
        "goal": config.goal,
        "quality": selection,
        "metric": metric,
        "models": models,
    }


def _latency(content: JSON) -> float | None:
    latency = content.get("latency")
    return None if latency is None else float(latency["single"]["p50_ms"])


def _with_parents(project: OpenProject, model_id: str) -> set[str]:
    """A model, and what it was refitted from."""
    store = project.store
    run_id = store.get(Model, model_id).run_id
    run = store.get(Run, run_id) if run_id is not None and store.exists(Run, run_id) else None
    return {model_id, *(run.parents if run is not None else ())}
