"""What a project holds and how it stands: status, runs, models, cycles, reports, the last decision replayed."""

from __future__ import annotations

import time

from tidemill.data.assigned import fold_journal
from tidemill.data.rewards import REWARDS
from tidemill.data.settled import Settled
from tidemill.errors import NotReadyError
from tidemill.gate import replay
from tidemill.monitor.live_quality import METRICS, agreement
from tidemill.monitor.triggers import labels_since_cycle, triggers_of
from tidemill.packages import read_manifest
from tidemill.project import said
from tidemill.project.opened import OpenProject
from tidemill.records import (
    JSON,
    LABEL_KINDS,
    Cycle,
    Dataset,
    Decision,
    Deployment,
    Feedback,
    Model,
    Prediction,
    QueueItem,
    Report,
    Rollout,
    Run,
    Watch,
    to_json,
)
from tidemill.store import running_rollout
from tidemill.tasks import metric_of


def status(project: OpenProject) -> JSON:
    """How the project stands, and what to do next."""
    store = project.store
    fold_journal(store)
    deployment = store.champion()
    cycles = store.find(Cycle, newest_first=True, limit=1)
    dataset = project.dataset
    waiting = {p: store.count(QueueItem, done=False, purpose=p) for p in ("audit", "settle", "useful")}
    settled = said.settle(project)
    live = {
        "predictions": store.count(Prediction),
        "feedback": store.count(Feedback),
        "kinds": said.kinds(project),
        "held": said.reasons(settled),
        "labels_since_cycle": labels_since_cycle(store, REWARDS if project.task.kind == "choice" else LABEL_KINDS),
        "waiting": waiting,
        **live_quality(project, settled),
    }
    return {
        "folder": str(project.dir),
        "task": project.config.task,
        "target": project.config.target,
        "metric": metric_of(project.task, project.config.decision),
        "champion": _champion(project, deployment) if deployment else None,
        "rollout": _rollout(rollout) if (rollout := running_rollout(store)) else None,
        "dataset": {"id": dataset.id, "counts": dataset.counts} if dataset else None,
        "live": live,
        "triggers": triggers(project),
        "cycle": _short(cycles[0]) if cycles else None,
        "store_bytes": sum(store.usage().values()),
        "next": _next(bool(deployment), cycles[0] if cycles else None, waiting, live, project),
    }


def live_quality(project: OpenProject, settled: Settled) -> JSON:
    """How good the answers given to audited traffic were, as the labels asked for say.

    Args:
        settled: what people said.

    Returns:
        ``{"audited", "answered", "metric", "quality", "abstained"}``: *quality* is the weighted mean of *metric* (the
        share of right answers among those given, the F1 of a sample's labels, or the absolute error), *abstained* the
        weighted share that had no answer; ``None`` where there is nothing to tell it from.
    """
    judged = [s for s in settled.live if s.split != "train"]
    found = [(agreement(s.prediction.answer, s.label), s.weight) for s in judged]
    total = sum(weight for _, weight in found)
    given = sum(weight for value, weight in found if value is not None)
    return {
        "audited": settled.audited,
        "answered": settled.answered,
        "metric": METRICS[project.task.kind],
        "quality": sum(value * weight for value, weight in found if value is not None) / given if given else None,
        "abstained": 1.0 - given / total if total else None,
    }


def triggers(project: OpenProject) -> list[JSON]:
    """How the triggers of ``tidemill up`` stand.

    Returns:
        For each ``{"trigger", "fires", "waiting", "fault", "looked", "fired", "reason", "found"}``. Drift and live
        quality are as the last look of ``tidemill up`` found them, everything else is as it is now.
    """
    now, found = time.time(), []
    kept = {watch.trigger: watch for watch in project.store.find(Watch)}
    for trigger in triggers_of(project.config, project.store, project.task, project.open_champion):
        watch = kept.get(trigger.name)
        line: JSON = {"trigger": trigger.name, "fires": trigger.fires, "waiting": None, "fault": None, "looked": None}
        line |= {"fired": None, "reason": None, "found": {}}
        if watch is not None:
            line |= {name: value for name, value in to_json(watch).items() if name in line}
        if not trigger.heavy:
            look = trigger.look({} if watch is None else watch.memory, now)
            line |= {"waiting": look.waiting, "found": look.found}
        found.append(line)
    return found


def runs(project: OpenProject) -> list[JSON]:
    """All runs, newest first, without their curves."""
    found = []
    for run in project.store.find(Run, newest_first=True):
        line = to_json(run)
        line["recipe"] = run.recipe["name"]
        del line["curve"]
        found.append(line)
    return found


def models(project: OpenProject) -> list[JSON]:
    """All models, newest first, with whether they serve."""
    deployment = project.store.champion()
    return [
        {**to_json(model), "champion": deployment is not None and model.id == deployment.model_id}
        for model in project.store.find(Model, newest_first=True)
    ]


def cycles(project: OpenProject) -> list[JSON]:
    """All cycles, newest first, each with its decision in short."""
    return [_short(cycle) | _decision(project, cycle) for cycle in project.store.find(Cycle, newest_first=True)]


def report(project: OpenProject, identifier: str | None = None) -> JSON:
    """Everything a person wants to know of a model: its run, its reports by split, its decision, its data, and by which
    spec it answers (``None`` when its package was removed).

    Raises:
        NotFoundError, NotReadyError: no such model, or none yet.
    """
    store = project.store
    model = project.model(identifier)
    run = store.get(Run, model.run_id) if model.run_id and store.exists(Run, model.run_id) else None
    decisions = store.find(Decision, challenger_id=model.id, newest_first=True, limit=1)
    reports = {r.split: r.content for r in store.find(Report, model_id=model.id)}
    dataset = store.get(Dataset, model.dataset_id) if model.dataset_id else None
    package = store.root / model.path
    return {
        "task": project.config.task,
        "model": to_json(model),
        "run": to_json(run) if run else None,
        "reports": reports,
        "decision": to_json(decisions[0]) if decisions else None,
        "dataset": to_json(dataset) if dataset else None,
        "answer": read_manifest(package).answer if package.is_dir() else None,
    }


def last_decision(project: OpenProject) -> JSON:
    """The newest decision, decided once more from its stored evidence; nothing is measured and no α is spent.

    Raises:
        NotReadyError: there has been no decision.
    """
    found = project.store.find(Decision, newest_first=True, limit=1)
    if not found:
        raise NotReadyError("the gate has not decided anything yet", mend="Run `tidemill cycle` first.")
    decision = found[0]
    again = replay(decision.evidence)
    return {
        "decision": decision.id,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "challenger": decision.challenger_id,
        "champion": decision.champion_id,
        "replayed": again.outcome == decision.outcome,
        "evidence": decision.evidence,
    }


def _champion(project: OpenProject, deployment: Deployment) -> JSON:
    model = project.store.get(Model, deployment.model_id)
    return {
        "model": model.id,
        "recipe": model.recipe,
        "since": deployment.created,
        "action": deployment.action,
        "reason": deployment.reason,
        "size_bytes": model.size_bytes,
        "metrics": {
            r.split: r.content["metrics"]
            for r in project.store.find(Report, model_id=model.id)
            if r.split in ("reference", "recent-test")
        },
    }


def _rollout(rollout: Rollout) -> JSON:
    return {
        "id": rollout.id,
        "challenger": rollout.challenger_id,
        "phase": rollout.phase,
        "share": rollout.share,
        "since": rollout.created,
        "reason": rollout.reason,
    }


def _short(cycle: Cycle) -> JSON:
    return {
        "id": cycle.id,
        "status": cycle.status,
        "trigger": cycle.trigger,
        "created": cycle.created,
        "finished": cycle.finished,
        "dataset": cycle.dataset_id,
        "error": cycle.error,
        "needs_labels": bool(cycle.summary.get("needs_labels", False)),
    }


def _decision(project: OpenProject, cycle: Cycle) -> JSON:
    if cycle.decision_id is None:
        return {"decision": None}
    decision = project.store.get(Decision, cycle.decision_id)
    return {"decision": {"id": decision.id, "outcome": decision.outcome, "reason": decision.reason}}


def _next(serving: bool, cycle: Cycle | None, waiting: JSON, live: JSON, project: OpenProject) -> list[str]:
    """The commands that make sense now, the most useful first."""
    steps = []
    if cycle is not None and cycle.status in ("running", "stopped"):
        steps.append("tidemill cycle        goes on with the cycle that was interrupted")
    if waiting["audit"]:
        steps.append(f"tidemill label        answers {waiting['audit']} audit questions, on which the gate judges")
    elif not serving and waiting["useful"]:
        steps.append("tidemill label        gives the labels that the first model needs")
    rolling = running_rollout(project.store) is not None
    if rolling:
        steps.append("tidemill rollout      shows how the challenger does")
    enough = project.config.triggers.after_labels
    due = enough is not None and live["labels_since_cycle"] >= enough
    if cycle is None or (due and not rolling):
        steps.append("tidemill cycle        learns from what is there")
    if serving:
        steps += ["tidemill serve        answers over HTTP", "tidemill report --html report.html"]
    return steps
