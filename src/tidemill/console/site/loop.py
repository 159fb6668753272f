"""The loop: what every node holds and waits for, the champion, and the history of cycles; starting and stopping one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tidemill.console.site import pictures
from tidemill.console.site.visit import Place, Visit
from tidemill.project import overview
from tidemill.records import (
    JSON,
    Cycle,
    Dataset,
    Decision,
    Deployment,
    Feedback,
    Model,
    Prediction,
    QueueItem,
    Run,
    Watch,
    to_json,
)
from tidemill.store import running_rollout
from tidemill.store.glances import page as page_of

SHOWN = 12
"""Cycles on one page."""
NODES = ("prepare", "tune", "train", "evaluate", "deploy", "feedback", "annotate")
"""The seven, in the order in which they stand around the loop."""
_FEW_SECONDS = 5.0
PURPOSES = ("audit", "settle", "useful")


def loop(visit: Visit) -> Response:
    """The whole page, or what of it lives."""
    content = _live(visit)
    if visit.asked("part") == "live":
        return visit.page("loop_live.html", **content)
    before = visit.number("before")
    cycles = page_of(visit.store, Cycle, limit=SHOWN + 1, before=before)
    return visit.page(
        "loop.html", **content, cycles=[_told(visit, c) for _, c in cycles[:SHOWN]], first=before is None,
        older=cycles[SHOWN - 1][0] if len(cycles) > SHOWN else None,
    )  # fmt: skip


def _live(visit: Visit) -> dict[str, Any]:
    store, site = visit.store, visit.site
    deployment = store.champion()
    figures = site.figures.look()
    cycle = site.cycles.now()
    watches = {watch.trigger: watch for watch in store.find(Watch)}
    rollout = running_rollout(store)
    hours = site.tally.hours()
    return {
        "champion": None if deployment is None else _champion(visit, deployment),
        "rollout": None if rollout is None else to_json(rollout),
        "quality": None if figures is None else figures["quality"],
        "figures": figures,
        "drift": None if "drift" not in watches else to_json(watches["drift"]),
        "watched": store.holder("triggers") is not None,
        "predictions": site.tally.count(Prediction),
        "pieces": site.tally.count(Feedback),
        "hours": hours,
        "pictures": pictures,
        "day": sum(n for _, n in hours),
        "cycle": cycle,
        "nodes": _nodes(visit, cycle, deployment, figures),
    }


def _champion(visit: Visit, deployment: Deployment) -> JSON:
    model = visit.store.get(Model, deployment.model_id)
    return {
        "id": model.id,
        "recipe": model.recipe,
        "since": deployment.created,
        "action": deployment.action,
        "reason": deployment.reason,
        "author": deployment.author,
        "size": model.size_bytes,
    }


def _nodes(visit: Visit, cycle: JSON | None, deployment: Deployment | None, figures: JSON | None) -> list[JSON]:
    """What each node holds, when it last ran, and what it waits for; whether it runs now."""
    store, tally = visit.store, visit.site.tally
    done = next(iter(store.find(Cycle, status="done", newest_first=True, limit=1)), None)
    seconds: JSON = {} if done is None else done.summary.get("stages", {})
    asked: dict[str, int] = tally.kept("queue", _FEW_SECONDS, lambda: _asked(visit))
    triggers: list[JSON] = tally.kept("triggers", _FEW_SECONDS, lambda: overview.triggers(visit.project))
    labels = next((t["waiting"] for t in triggers if t["trigger"] == "labels"), None)
    dataset = visit.project.dataset
    runs: dict[str, int] = tally.kept("runs", _FEW_SECONDS, lambda: _runs(visit, done))
    active = (cycle or {}).get("newest") or {}
    held = None if figures is None else sum(figures["held"].values())
    holds: dict[str, tuple[tuple[str, Any], ...]] = {
        "prepare": _splits(dataset),
        "tune": (("trials", runs.get("trial", 0)),),
        "train": (("models made", runs.get("train", 0)),),
        "evaluate": (("candidates judged", len(done.summary.get("candidates", [])) if done else 0),),
        "deploy": (("deployments", tally.kept("deployments", _FEW_SECONDS, lambda: store.count(Deployment))),),
        "feedback": (("pieces", tally.count(Feedback)), ("held back", held)),
        "annotate": tuple((f"{purpose} questions", asked[purpose]) for purpose in PURPOSES if asked[purpose])
        or (("questions", 0),),
    }
    ran = None if done is None else done.finished
    return [
        {
            "name": name,
            "holds": holds[name],
            "ran": deployment.created if name == "deploy" and deployment else ran if name in seconds else None,
            "took": seconds.get(name),
            "waits": labels if name == "feedback" else None,
            "runs": active.get("stage") == name,
        }
        for name in NODES
    ]


def _splits(dataset: Dataset | None) -> tuple[tuple[str, Any], ...]:
    if dataset is None:
        return (("samples", 0),)
    names = {"train": "to train", "validation": "to validate", "reference": "to test", "recent-test": "recent, to test",
             "unlabelled": "without a label"}  # fmt: skip
    return tuple((said, dataset.counts[name]) for name, said in names.items() if dataset.counts.get(name))


def _asked(visit: Visit) -> dict[str, int]:
    return {purpose: visit.store.count(QueueItem, done=False, purpose=purpose) for purpose in PURPOSES}


def _runs(visit: Visit, cycle: Cycle | None) -> dict[str, int]:
    if cycle is None:
        return {}
    return {kind: visit.store.count(Run, cycle_id=cycle.id, kind=kind) for kind in ("trial", "train")}


def _told(visit: Visit, cycle: Cycle) -> JSON:
    decision = None if cycle.decision_id is None else visit.store.get(Decision, cycle.decision_id)
    gone = cycle.status == "running" and not visit.site.cycles.runs()
    return {
        "id": cycle.id,
        "status": "interrupted" if gone else cycle.status,
        "trigger": cycle.trigger,
        "created": cycle.created,
        "seconds": None if cycle.finished is None else cycle.finished - cycle.created,
        "error": cycle.error,
        "needs_labels": bool(cycle.summary.get("needs_labels")),
        "outcome": None if decision is None else decision.outcome,
        "reason": None if decision is None else decision.reason,
        "challenger": None if decision is None else decision.challenger_id,
    }


def start(visit: Visit) -> Response:
    """Begin a cycle."""
    reason = visit.given("reason")
    asked = f"asked by {visit.author} in the console"
    visit.site.cycles.start(f"{asked}: {reason[:300]}" if reason else asked, visit.given("budget"))
    return visit.go("/", said="started")


def stop(visit: Visit) -> Response:
    """End the cycle that runs; the next one goes on from there."""
    visit.site.cycles.stop()
    return visit.go("/", said="stopped")


PLACES = (
    Place("/", loop, "any"),
    Place("/cycle/start", start, "admin", "POST"),
    Place("/cycle/stop", stop, "admin", "POST"),
)
