"""MLflow from the facade: what is waiting is delivered, by a service or when it is asked for, and models come in."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tidemill.api.running import setting_of
from tidemill.engines.local import LocalEngine
from tidemill.errors import BusyError, TidemillError
from tidemill.loop import OnEvent, unheard
from tidemill.loop.outside import judge_outsider
from tidemill.project import OpenProject, rollouts
from tidemill.records import JSON, Delivery

logger = logging.getLogger("tidemill.mlflow")

FIRST, EVERY, LAST = 2.0, 15.0, 600.0
"""Seconds: before the first look, between two, and the longest between two while MLflow is away."""


def sync(project: OpenProject, on_event: OnEvent = unheard) -> JSON:
    """Deliver to MLflow what is waiting; see :func:`tidemill.integrations.mlflow_mirror.mirror`."""
    from tidemill.integrations.mlflow_mirror import mirror

    return mirror(project.store, project.config, project.dir, on_event)


def outlook(project: OpenProject) -> JSON:
    """What is waiting for MLflow, and why the last attempts failed; asks nobody.

    Returns:
        ``{"where", "waiting", "delivered", "left_out", "faults": [{"subject", "attempts", "fault"}]}``.

    Raises:
        ConfigError: ``tidemill.yaml`` names no MLflow.
    """
    from tidemill.integrations.mlflow_client import address, shown
    from tidemill.integrations.mlflow_mirror import NEIGHBOUR, waiting

    store = project.store
    failed = [d for d in store.find(Delivery, neighbour=NEIGHBOUR, newest_first=True) if d.fault is not None]
    return {
        "where": shown(address(project.config.mlflow, project.dir)),
        "waiting": len(waiting(store)),
        "delivered": store.count(Delivery, neighbour=NEIGHBOUR, status="done"),
        "left_out": store.count(Delivery, neighbour=NEIGHBOUR, status="left-out"),
        "faults": [{"subject": d.subject, "attempts": d.attempts, "fault": d.fault} for d in failed[:10]],
    }


def take_model(
    project: OpenProject, which: str, labels: Sequence[str] | None = None, on_event: OnEvent = unheard
) -> JSON:
    """Bring a model that is registered in MLflow here, and let it stand before the gate.

    Args:
        which: ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION``.
        labels: of an ONNX graph, the labels in the order of its columns.

    Returns:
        ``{"model", "from", "decision": {"id", "outcome", "reason"}}``.

    Raises:
        TidemillError: why it cannot be: see :mod:`tidemill.integrations.mlflow_import`.
    """
    from tidemill.integrations.mlflow_import import fetched, take_in

    rollouts.require_none(project)
    setting = setting_of(project)
    with fetched(project.store, project.config, project.dir, which) as found:
        on_event({"stage": "mlflow", "what": f"fetched {found.where}"})
        model, where = take_in(setting, found, labels), found.where
    decision = judge_outsider(setting, model, on_event)
    said = {"id": decision.id, "outcome": decision.outcome, "reason": decision.reason}
    return {"model": model, "from": where, "decision": said}


@contextlib.contextmanager
def mirrored(project: OpenProject) -> Iterator[None]:
    """While inside, deliver to MLflow what comes to be, on a thread and in processes of its own; if one is named."""
    if project.config.mlflow.uri is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_deliver, args=(project, stop), name="tidemill-mlflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def mirror_job(folder: str) -> JSON:
    """One delivery as a job of an engine: see :mod:`tidemill.engines`."""
    project = OpenProject(Path(folder))
    with contextlib.closing(project.store):
        return sync(project)


def _deliver(project: OpenProject, stop: threading.Event) -> None:
    from tidemill.integrations.mlflow_mirror import waiting

    engine = LocalEngine(threads=1, log=project.store.root / "mlflow.log")
    pause, said = FIRST, ""
    while not stop.wait(pause):
        try:
            if waiting(project.store):
                _once(engine, project, stop)
            pause, said = EVERY, ""
        except BusyError:  # somebody else delivers
            pause = EVERY
        except TidemillError as error:
            pause = min(LAST, max(EVERY, 2 * pause))
            if str(error) != said:
                said = str(error)
                logger.warning("%s", said)


def _once(engine: LocalEngine, project: OpenProject, stop: threading.Event) -> None:
    """Deliver in a process of its own: what it imports, and how long it takes, is no matter of who answers."""
    job = engine.submit("tidemill.api.mirroring:mirror_job", {"folder": str(project.dir)})
    while job.poll() is None:
        if stop.wait(0.1):
            job.stop()
            job.wait()
            return
    job.result()
