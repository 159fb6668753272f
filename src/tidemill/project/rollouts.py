"""Roll-outs as people see and steer them: how one stands, and starting, advancing and stopping it by hand."""

from __future__ import annotations

import time
from typing import Literal

from tidemill.data.assigned import fold_journal
from tidemill.data.dataset import open_dataset
from tidemill.errors import ConflictError, NotReadyError
from tidemill.monitor.rollout import decide
from tidemill.monitor.rollout_evidence import Doubts, gather
from tidemill.monitor.rollout_start import judge_of, new_rollout
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Cycle, Model, Rollout
from tidemill.runtime import load
from tidemill.stages.deploy import begin_rollout, change_rollout, end_rollout
from tidemill.stages.evaluate import training_spread
from tidemill.store import running_rollout

Phase = Literal["shadow", "canary"]


def start(
    project: OpenProject,
    identifier: str,
    *,
    phase: Phase | None = None,
    share: float | None = None,
    reason: str | None = None,
    author: str | None = None,
    seen: str | None = None,
) -> Rollout:
    """Let a model begin its roll-out by hand, past the gate.

    Args:
        project: whose.
        identifier: of the model.
        phase: in which it begins; as the configuration says unless given.
        share: of the callers, of a canary.
        reason: why, in words.
        author: who says so.
        seen: what :func:`tidemill.store.standing` said when this was decided; whatever stands unless given.

    Raises:
        NotFoundError: no such model.
        NotReadyError: no model serves yet.
        ConflictError: a roll-out is under way, the model serves already, or something else stands than was seen.
        PackageError: its package does not start.
    """
    model, champion = project.model(identifier), project.champion_deployment()
    load(project.store.root / model.path, threads=1).warm_up()
    return begin_rollout(
        project.store,
        new_rollout(
            project.store,
            project.config,
            judge_of(project.task, project.config, _spread(project)),
            champion=champion.model_id,
            challenger=model.id,
            reason=f"Started by hand: {reason}" if reason else "Started by hand.",
            phase=phase,
            share=share,
            author=author,
        ),
        seen=seen,
    )


def advance(
    project: OpenProject,
    *,
    share: float | None = None,
    reason: str | None = None,
    author: str | None = None,
    seen: str | None = None,
) -> Rollout:
    """Let a challenger in the shadow become a canary, or give a canary another share of the callers.

    Raises:
        NotReadyError: no roll-out is under way.
        ConflictError: it is a canary already, and no share was given; or something else stands than was *seen*.
    """
    rollout = _running(project)
    if rollout.phase == "canary" and share is None:
        raise ConflictError(
            f"{rollout.challenger_id} is a canary already",
            where=rollout.id,
            mend="Say what share of the callers it shall have, or promote it with `tidemill promote`.",
        )
    said = f"{(rollout.share if share is None else share):.0%} of the callers"
    told = f"A canary by hand, for {said}{f': {reason}' if reason else '.'}"
    return change_rollout(project.store, rollout.id, phase="canary", share=share, reason=told, author=author, seen=seen)


def stop(
    project: OpenProject, *, reason: str | None = None, author: str | None = None, seen: str | None = None
) -> Rollout:
    """End a roll-out; the champion goes on alone.

    Raises:
        NotReadyError: no roll-out is under way.
        ConflictError: something else stands than was *seen*.
    """
    said = f"Stopped by hand: {reason}" if reason else "Stopped by hand."
    return end_rollout(project.store, _running(project).id, "stopped", said, author=author, seen=seen)


def show(project: OpenProject) -> JSON | None:
    """How the roll-out stands that is under way, or how the last one ended; ``None`` when there has been none."""
    store = project.store
    found = store.find(Rollout, newest_first=True, limit=1)
    if not found:
        return None
    rollout, verdict = found[0], None
    evidence = rollout.evidence
    if rollout.status == "running":
        fold_journal(store)
        doubts = Doubts(project.config.feedback)
        evidence = gather(store, rollout, project.task.label, doubts, now=time.time(), sure=True)
        verdict = decide(evidence)
    told: JSON = {"status": rollout.status, "phase": rollout.phase, "share": rollout.share}
    told |= {"id": rollout.id, "since": rollout.created, "finished": rollout.finished}
    told |= {"champion": _model(project, rollout.champion_id), "challenger": _model(project, rollout.challenger_id)}
    told |= {"reason": rollout.reason if verdict is None else _sentence(verdict.reason)}
    told |= {"next": None if verdict is None else verdict.outcome}
    told |= {name: evidence[name] for name in ("answered", "asked", "responded", "labels", "scores", "interval")}
    told |= {name: evidence["judge"][name] for name in ("kind", "metric")}
    told |= {"given": evidence["challenger"], "policy": evidence["policy"]}
    return told | {"decision": rollout.decision_id, "deployment": rollout.deployment_id, "author": rollout.author}


def listed(project: OpenProject) -> list[JSON]:
    """All roll-outs, the newest first, in short."""
    return [
        {
            "id": rollout.id,
            "status": rollout.status,
            "phase": rollout.phase,
            "challenger": rollout.challenger_id,
            "champion": rollout.champion_id,
            "created": rollout.created,
            "finished": rollout.finished,
            "reason": rollout.reason,
        }
        for rollout in project.store.find(Rollout, newest_first=True)
    ]


def require_none(project: OpenProject) -> None:
    """Refuse to begin a cycle during a roll-out: what it would find could neither be compared nor begin to serve.

    A cycle that was interrupted may go on.

    Raises:
        ConflictError: a roll-out is under way, and no cycle waits to be gone on with.
    """
    rollout = running_rollout(project.store)
    if rollout is not None and not project.store.count(Cycle, status=["running", "stopped"]):
        raise ConflictError(
            f"the roll-out of {rollout.challenger_id} is under way, and the next cycle starts when it has ended",
            where=rollout.id,
            mend="See how it stands with `tidemill rollout`; end it with `tidemill promote` or `tidemill rollback`.",
        )


def _running(project: OpenProject) -> Rollout:
    rollout = running_rollout(project.store)
    if rollout is None:
        raise NotReadyError("no roll-out is under way", mend="Start one with `tidemill rollout start MODEL`.")
    return rollout


def _spread(project: OpenProject) -> float:
    dataset = project.dataset
    return 1.0 if dataset is None else training_spread(open_dataset(project.store.root, dataset))


def _model(project: OpenProject, identifier: str) -> JSON:
    return {"id": identifier, "recipe": project.store.get(Model, identifier).recipe}


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
