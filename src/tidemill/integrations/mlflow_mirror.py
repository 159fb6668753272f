"""Mirroring to MLflow: what is final in the store is told there, in the order in which it came to be.

The store itself is the outbox. What a neighbour has not been told of yet is whatever has no :class:`Delivery` that is
done, so a cycle does nothing more for it, and waits for nobody. Each delivery is found again over there by the tag
``tidemill.id``: one that was killed before its mark was written finds its own work, and leaves it as it should be.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidemill.config import Config
from tidemill.errors import ServiceError
from tidemill.integrations.mlflow_client import Opened, RefusedError, opened, translated
from tidemill.records import JSON, Decision, Delivery, Deployment, Model, Report, Run, new_id
from tidemill.store import Store

NEIGHBOUR = "mlflow"
TAG = "tidemill.id"
CHAMPION = "champion"
ATTEMPTS = 5
"""How often something is told that MLflow refuses, before it is left out."""
_FINAL = ("done", "failed", "pruned")
_STATUS = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
_METRICS, _PARAMS, _VALUE = 1000, 100, 6000  # of one call, and the characters of a parameter
_STRANGE = re.compile(r"[^\w.\-: ]")


def waiting(store: Store) -> list[str]:
    """The ids of what is to be told yet: runs that have ended, the gate's decisions, deployments."""
    known = {d.subject for d in store.find(Delivery, neighbour=NEIGHBOUR, status=["done", "left-out"])}
    found = [*store.ids(Run, status=_FINAL), *store.ids(Decision), *store.ids(Deployment)]
    # ids sort by their time behind the prefix; of one moment, what others need comes first
    return sorted((i for i in found if i not in known), key=lambda i: (i.partition("_")[2], i))


def mirror(store: Store, config: Config, folder: Path, on_event: Callable[[JSON], None]) -> JSON:
    """Tell MLflow everything that is waiting; only one process does at a time.

    Args:
        folder: the project's.
        on_event: told how far it is.

    Returns:
        ``{"delivered", "refused", "left_out", "waiting", "where", "experiment", "model"}``: how many, and whereto.

    Raises:
        ConfigError: no address, or an experiment that was deleted.
        ExtraMissingError: mlflow is not installed.
        BusyError: another process is at it.
        ServiceError: MLflow is away; what was delivered before stays delivered.
    """
    with store.lock(NEIGHBOUR):
        subjects = waiting(store)
        counts = {"delivered": 0, "refused": 0, "left_out": 0}
        try:
            with opened(config.mlflow, folder) as place:
                courier = _Courier(store, config, place)
                for number, subject in enumerate(subjects):
                    on_event({"stage": "mlflow", "what": "delivering", "done": number, "total": len(subjects)})
                    counts[_delivered(store, courier, subject)] += 1
                told = {"where": place.where, "experiment": place.experiment, "model": place.name}
        except RefusedError as error:  # the experiment itself
            raise ServiceError(
                f"MLflow refuses the experiment: {error}", where="mlflow", mend="Check mlflow in tidemill.yaml."
            ) from error
        return {**counts, "waiting": len(waiting(store)), **told}


def _delivered(store: Store, courier: _Courier, subject: str) -> str:
    """Tell of one record, and keep what came of it."""
    known = store.find(Delivery, neighbour=NEIGHBOUR, subject=subject, limit=1)
    mark = (
        known[0]
        if known
        else Delivery(id=new_id(Delivery.prefix), neighbour=NEIGHBOUR, subject=subject, status="waiting")
    )
    if not known:
        store.insert(mark)
    mark = dataclasses.replace(mark, attempts=mark.attempts + 1)
    try:
        with translated(courier.place.where):  # here, so that one that is refused does not end the others
            remote, fault = courier.tell(subject)
    except ServiceError as error:
        store.update(dataclasses.replace(mark, fault=error.what))
        raise
    except RefusedError as error:
        out = mark.attempts >= ATTEMPTS
        store.update(
            dataclasses.replace(
                mark,
                status="left-out" if out else "waiting",
                fault=str(error),
                finished=time.time() if out else None,
            )
        )
        return "left_out" if out else "refused"
    ended = dataclasses.replace(mark, status="done", remote=remote, finished=time.time())
    store.update(ended if fault is None else dataclasses.replace(ended, status="left-out", fault=fault))
    return "delivered" if fault is None else "left_out"


class _Courier:
    """Tells of one record at a time; each may be told again, and changes nothing then."""

    def __init__(self, store: Store, config: Config, place: Opened) -> None:
        self.store = store
        self.config = config
        self.place = place
        self.client = place.client

    def tell(self, subject: str) -> tuple[str | None, str | None]:
        """Its name over there, or why there is nothing to tell."""
        if subject.startswith(f"{Run.prefix}_"):
            return self._run(self.store.get(Run, subject)), None
        if subject.startswith(f"{Decision.prefix}_"):
            return self._decision(self.store.get(Decision, subject))
        return self._deployment(self.store.get(Deployment, subject))

    def _run(self, run: Run) -> str:
        known = self.client.search_runs([self.place.experiment], f"tags.`{TAG}` = '{run.id}'", max_results=1)
        start = int(run.created * 1000)
        if known:
            remote = str(known[0].info.run_id)
        else:
            tags = {TAG: run.id, "tidemill.kind": run.kind, "tidemill.dataset": run.dataset_id}
            tags |= {"tidemill.cycle": run.cycle_id} if run.cycle_id else {}
            name = f"{run.recipe.get('name', run.kind)} {run.id[-6:]}"
            made = self.client.create_run(self.place.experiment, start_time=start, tags=tags, run_name=name)
            remote = str(made.info.run_id)
        self._facts(remote, run, start)
        if run.model_id is not None and self.config.mlflow.artifacts:
            self._files(remote, run.model_id)
        self.client.set_terminated(remote, _STATUS[run.status], end_time=start + int(1000 * (run.seconds or 0)))
        return remote

    def _facts(self, remote: str, run: Run, start: int) -> None:
        made = importlib.import_module("mlflow.entities")
        params = {
            "recipe": run.recipe.get("name"),
            "learner": run.recipe.get("learner"),
            "seed": run.seed,
            **run.params,
        }
        numbers: dict[str, float] = {}
        tags: dict[str, str] = {"tidemill.error": run.error} if run.error else {}
        for name, value in _leaves(run.metrics):
            if isinstance(value, int | float):
                numbers[name] = float(value)
            elif value is not None:
                tags[f"tidemill.{name}"[:250]] = str(value)[:_VALUE]
        # a metric that is sent again with the same time and step counts once
        metrics = [made.Metric(name, value, start, 0) for name, value in numbers.items()]
        for number, point in enumerate(run.curve, start=1):
            step = int(point.get("epoch", number))
            metrics += [
                made.Metric(f"curve/{_named(name)}", float(value), start + step, step)
                for name, value in point.items()
                if name != "epoch" and isinstance(value, int | float)
            ]
        for i in range(0, len(metrics), _METRICS):
            self.client.log_batch(remote, metrics=metrics[i : i + _METRICS])
        told = [made.Param(_named(str(name)), str(value)[:_VALUE]) for name, value in params.items()]
        marks = [made.RunTag(name, value) for name, value in tags.items()]
        for i in range(0, len(told), _PARAMS):
            self.client.log_batch(remote, params=told[i : i + _PARAMS])
        for i in range(0, len(marks), _PARAMS):
            self.client.log_batch(remote, tags=marks[i : i + _PARAMS])

    def _files(self, remote: str, model_id: str) -> None:
        folder = self._package(model_id)
        if folder is not None:
            self.client.log_artifacts(remote, str(folder), "package")

    def _package(self, model_id: str) -> Path | None:
        """The folder of its package, if `tidemill gc` has left it."""
        folder = self.store.root / self.store.get(Model, model_id).path
        return folder if (folder / "manifest.json").is_file() else None

    def _decision(self, decision: Decision) -> tuple[str | None, str | None]:
        version, fault = self._version(decision.challenger_id)
        if version is not None:
            self._reports(decision.challenger_id)  # its last one was made for this decision
            self.client.set_model_version_tag(self.place.name, version, "tidemill.gate", decision.outcome)
            self.client.update_model_version(self.place.name, version, description=decision.reason)
        return version, fault

    def _reports(self, model_id: str) -> None:
        run_id = self.store.get(Model, model_id).run_id
        told = self.store.find(Delivery, neighbour=NEIGHBOUR, subject=run_id or "", limit=1)
        if not told or told[0].remote is None or not self.config.mlflow.artifacts:
            return
        for report in self.store.find(Report, model_id=model_id):
            # examples stay here: what `tidemill forget` erases must not live on there
            content = {name: value for name, value in report.content.items() if name != "mistakes"}
            self.client.log_dict(told[0].remote, content, f"reports/{report.split}.json")

    def _deployment(self, deployment: Deployment) -> tuple[str | None, str | None]:
        version, fault = self._version(deployment.model_id)
        if version is not None:
            self.client.set_model_version_tag(self.place.name, version, "tidemill.deployment", deployment.id)
            now = self.store.champion()  # an older one that is told late must not take the alias back
            if now is not None and now.id == deployment.id:
                self.client.set_registered_model_alias(self.place.name, CHAMPION, version)
        return version, fault

    def _version(self, model_id: str) -> tuple[str | None, str | None]:
        """The registered version of a model, made where there is none yet; or why there can be none."""
        found = self.store.find(Model, id=model_id, limit=1)
        if not found:
            return None, "it is of no model"
        model = found[0]
        told = self.store.find(Delivery, neighbour=NEIGHBOUR, subject=model.run_id or "", status="done", limit=1)
        if not told or told[0].remote is None:
            return None, "the run that made the model was left out"
        remote, name = told[0].remote, self.place.name
        try:  # by its name, and by no search for it: what stands in quotes there may hold none itself
            with translated(self.place.where):
                self.client.get_registered_model(name)
        except RefusedError:
            self.client.create_registered_model(name)
        for version in self.client.search_model_versions(f"run_id = '{remote}'"):
            if version.name == name and version.tags.get(TAG) == model.id:
                return str(version.version), None
        source = f"{self.client.get_run(remote).info.artifact_uri}/package"
        made = self.client.create_model_version(
            name, source, remote, tags={TAG: model.id, "tidemill.recipe": model.recipe}, await_creation_for=0
        )
        return str(made.version), None


def _leaves(values: Mapping[str, Any], stem: str = "") -> Iterator[tuple[str, Any]]:
    """Nested facts as ``a/b`` and value; lists and what is no number stay as they are.

    >>> list(_leaves({"validation": {"accuracy": 0.9}, "device": "cpu"}))
    [('validation/accuracy', 0.9), ('device', 'cpu')]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{stem}{_named(str(name))}/")
        elif not (isinstance(value, float) and math.isnan(value)):
            yield f"{stem}{_named(str(name))}", value


def _named(name: str) -> str:
    """A name that MLflow takes."""
    return _STRANGE.sub("_", name)[:240].strip(". ") or "_"
