"""The verbs by which something comes from outside of the loop: samples of a new class, models of MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.api import mirroring
from tidemill.api.running import setting_of
from tidemill.loop import OnEvent, unheard
from tidemill.project import OpenProject, rollouts
from tidemill.records import JSON


class OutsideProject(OpenProject):
    """An opened project with these verbs."""

    def mlflow_sync(self, *, on_event: OnEvent = unheard) -> JSON:
        """Deliver to MLflow what is waiting; see :func:`tidemill.integrations.mlflow_mirror.mirror`."""
        return mirroring.sync(self, on_event)

    def mlflow_status(self) -> JSON:
        """What is waiting for MLflow, and what failed; see :func:`tidemill.api.mirroring.outlook`."""
        return mirroring.outlook(self)

    def mlflow_import(self, model: str, *, labels: Sequence[str] | None = None, on_event: OnEvent = unheard) -> JSON:
        """Bring a model that is registered in MLflow here as a challenger; see
        :func:`tidemill.api.mirroring.take_model`.
        """
        return mirroring.take_model(self, model, labels, on_event)

    def learn_class(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        author: str = "anonymous",
        reason: str | None = None,
        on_event: OnEvent = unheard,
    ) -> JSON:
        """Teach the model that serves one class more, from a few samples; see :mod:`tidemill.loop.newclass`.

        Args:
            records: the samples, one mapping of inputs each.
            author: who says that they are of the class.

        Returns:
            ``{"class", "model", "state", "deployment", "samples", "decision"}``; state and deployment are ``None`` when
            the gate refused it.
        """
        from tidemill.loop.newclass import learn_class

        rollouts.require_none(self)
        told = learn_class(setting_of(self), name, records, author=author, reason=reason, on_event=on_event)
        decision = told.decision
        return {
            "class": name,
            "model": decision.champion_id,
            "state": told.snapshot.id if told.snapshot is not None else None,
            "deployment": told.deployment.id if told.deployment is not None else None,
            "samples": list(told.samples),
            "decision": {"id": decision.id, "outcome": decision.outcome, "reason": decision.reason},
        }
