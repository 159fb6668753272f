"""Keeping a project in order: export of packages, promotion by hand, and a check-up."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sqlite3
import sys
from pathlib import Path

from tidemill.data.sources import open_source
from tidemill.errors import ConflictError, NotReadyError, TidemillError
from tidemill.packages import read_manifest, verify
from tidemill.project.forgetting import unfinished
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Deployment, new_id, to_json
from tidemill.runtime import load
from tidemill.stages.deploy import end_rollout, put_into_force
from tidemill.store import damaged, last_state, running_rollout
from tidemill.store.states import intact_state

_GO_ON = "Any command goes on with it once no cycle runs; `tidemill forget` with the same words says what keeps it."


def promote(
    project: OpenProject, identifier: str, *, reason: str, author: str | None = None, seen: str | None = None
) -> JSON:
    """Put a model into force by hand, past the gate; the reason stays in the history. A roll-out ends with it.

    Args:
        project: whose.
        identifier: of the model.
        reason: why, in words.
        author: who says so.
        seen: what :func:`tidemill.store.standing` said when this was decided; whatever stands unless given.

    Returns:
        The deployment, and under ``rollout`` the roll-out that ended with it, or ``None``.

    Raises:
        NotFoundError: no such model.
        PackageError: its package does not start.
        ConflictError: something else stands than was seen.
    """
    model = project.model(identifier)
    load(project.store.root / model.path, threads=1).warm_up()
    return _deploy(project, model.id, "promote", reason, author, seen=seen)


def rollback(
    project: OpenProject, *, reason: str | None = None, author: str | None = None, seen: str | None = None
) -> JSON:
    """Put the model before the champion back into force; during a roll-out, take back its challenger instead.

    Args:
        project: whose.
        reason: why, in words.
        author: who says so.
        seen: what :func:`tidemill.store.standing` said when this was decided; whatever stands unless given.

    Returns:
        The deployment that is in force, and under ``rollout`` the roll-out that was ended, or ``None``.

    Raises:
        NotReadyError: there is none before it.
        ConflictError: something else stands than was seen.
    """
    rolling = running_rollout(project.store)
    if rolling is not None:
        said = f"Rolled back by hand: {reason}" if reason else "Rolled back by hand."
        ended = end_rollout(project.store, rolling.id, "stopped", said, author=author, seen=seen)
        if ended.status != "promoted":  # taken back, by this or by what came before it
            return to_json(project.champion_deployment()) | {"rollout": to_json(ended)}
    history = project.store.find(Deployment, name="default", newest_first=True)
    if not history:
        raise NotReadyError("no model has been promoted yet", mend="Run `tidemill cycle` first.")

    def intact(model: str, state: str | None) -> tuple[str, str | None]:
        return model, intact_state(project.store, state)

    # A rollback undoes the newest promotion that is still in force; a second one goes back one further.
    line: list[tuple[str, str | None]] = []
    for deployment in reversed(history):
        in_force = deployment.model_id, deployment.state_id
        if deployment.action == "rollback" and line:
            undone = line.pop()
            while line and line[-1] != in_force and intact(*line[-1]) == intact(*undone):
                line.pop()  # it was passed over, since its snapshot had been erased
        elif not line or line[-1] != in_force:
            line.append(in_force)
    before = [there for one in line[:-1] if (there := intact(*one)) != intact(*line[-1])]
    if not before:
        raise NotReadyError("there is no model before the champion", mend="Name one with `tidemill promote MODEL`.")
    back, state = before[-1]
    state = last_state(project.store, back) or state  # what it had learned while it served comes back with it
    project.open_model(project.model(back), threads=1, state=state).warm_up()
    left = line[-1][1] if line[-1][0] == back else None
    return _deploy(project, back, "rollback", reason or f"rolled back from {left or line[-1][0]}", author, state, seen)


def _deploy(
    project: OpenProject,
    model_id: str,
    action: str,
    reason: str,
    author: str | None,
    state: str | None = None,
    seen: str | None = None,
) -> JSON:
    made = Deployment(
        id=new_id(Deployment.prefix),
        name="default",
        model_id=model_id,
        action="rollback" if action == "rollback" else "promote",
        reason=reason,
        author=author,
        state_id=state,
    )
    deployment, ended = put_into_force(project.store, made, seen=seen)
    return to_json(deployment) | {"rollout": None if ended is None else to_json(ended)}


def export(project: OpenProject, identifier: str | None, folder: Path) -> JSON:
    """Copy a model's package to *folder*; ``tidemill.load(folder)`` opens it anywhere.

    Raises:
        ConflictError: the folder holds something already.
    """
    model = project.model(identifier)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError("the folder is not empty", where=str(folder), mend="Name another folder.")
    source = project.store.root / model.path
    verify(source, read_manifest(source))
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return {"model": model.id, "folder": str(folder), "files": sorted(p.name for p in folder.iterdir())}


def doctor(project: OpenProject | None) -> list[JSON]:
    """Check the installation, and the project when there is one: ``[{"check", "ok", "detail", "mend"}]``."""
    checks = [
        _check("Python", sys.version_info >= (3, 11), platform.python_version(), "Install Python 3.11 or newer."),
        _check("SQLite", sqlite3.sqlite_version_info >= (3, 35), sqlite3.sqlite_version, "Install a newer SQLite."),
    ]
    intruder = importlib.util.find_spec("torchvision")
    checks.append(
        _check(
            "torch",
            importlib.util.find_spec("torch") is not None,
            _torch(),
            "Install torch; docs/installation.md says how for CPU and CUDA.",
        )
    )
    if intruder is not None:
        checks.append(
            _check("torchvision", True, "installed; beside a CPU build of torch it can break other packages", "")
        )
    if project is None:
        return checks
    name, faults = project.store.database.examine()
    told = f"{name}, {project.store.database.where}"
    checks.append(_check("store", not faults, "; ".join(faults) or told, "Turn them on in postgresql.conf."))
    free = shutil.disk_usage(project.dir).free
    checks.append(_check("disk", free > 1e9, f"{free / 1e9:.1f} GB free", "Free some space."))
    for source in project.sources:
        try:
            opened = open_source(source)
        except TidemillError as error:
            checks.append(_check(f"source {source}", False, error.what, error.mend or ""))
        else:
            checks.append(_check(f"source {source}", True, "; ".join(opened.notes) or "can be read", ""))
    altered = damaged(project.store)
    checks.append(
        _check(
            "journal",
            not altered,
            ", ".join(path.name for path in altered) or "whole",
            "What could be read of these segments is in the tables; look at the disk, then remove them.",
        )
    )
    begun = [f"{one.id} was begun, and is not finished" for one in unfinished(project.store)]
    checks.append(_check("erasures", not begun, "; ".join(begun) or "none under way", _GO_ON))
    deployment = project.store.champion()
    if deployment is None:
        checks.append(_check("champion", True, "none yet", ""))
        return checks
    model = project.model(deployment.model_id)
    try:
        load(project.store.root / model.path, threads=1).warm_up()
    except TidemillError as error:
        checks.append(_check("champion", False, error.what, "Run `tidemill rollback`, or `tidemill cycle`."))
    else:
        checks.append(_check("champion", True, f"{model.id} ({model.recipe}) answers", ""))
    return checks


def _torch() -> str:
    import torch

    return f"{torch.__version__}, device {'cuda' if torch.cuda.is_available() else 'cpu'}"


def _check(name: str, ok: bool, detail: str, mend: str) -> JSON:
    return {"check": name, "ok": ok, "detail": detail, "mend": None if ok else mend}
