"""What serving needs of a project, and the one object that a hot swap exchanges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.config import Config
from tidemill.data.schema import Signature
from tidemill.records import Deployment
from tidemill.runtime import Predictor
from tidemill.serving.asgi import Receive, Scope, Send
from tidemill.serving.rolling import Rolling
from tidemill.store import Store
from tidemill.tasks._base import Task

if TYPE_CHECKING:
    from tidemill.serving.access import Door
    from tidemill.serving.service import Service


class ServedProject(Protocol):
    """A project as serving sees it; :class:`tidemill.api.Project` is one."""

    @property
    def dir(self) -> Path:
        """The project's folder."""

    @property
    def config(self) -> Config:
        """What ``tidemill.yaml`` says."""

    @property
    def store(self) -> Store:
        """What is durable."""

    @property
    def task(self) -> Task:
        """What is learned."""

    @property
    def signature(self) -> Signature:
        """The inputs and output as the project knows them now."""

    def open_champion(self) -> tuple[Deployment, Predictor]:
        """The deployment in force and its model, loaded.

        Raises:
            NotReadyError: nothing has been promoted yet.
        """

    def trace(self, identifier: str) -> dict[str, Any]:
        """The line from an id back to the samples and feedback it came from.

        Raises:
            NotFoundError: no record has this id.
        """

    def models(self) -> list[dict[str, Any]]:
        """The project's models, newest first, each with at least ``id`` and ``created`` (UTC seconds)."""


class Pages(Protocol):
    """Pages for people, answered beside the API on the same socket. They are made below serving, which knows no more
    of them than this: :class:`tidemill.console.site.Site` are these.

    They let visitors in themselves, with the same tokens, since browsers show a cookie where programs show a header.
    Requests come to them past the guard, which has looked at host, origin and size.
    """

    def serves(self, path: str) -> bool:
        """Whether *path* is one of theirs; asked for every request."""

    def mount(self, service: Callable[[], Service], door: Door) -> None:
        """Get to know the living parts of the service, which there are while it runs, and its door."""

    def close(self) -> None:
        """End what they began, with the service."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers now: model, features and state as one object, so that a batch never mixes two of them.

    Attributes:
        deployment: the deployment in force.
        predictor: its model, warmed up.
        answer: the answer spec that feedback is checked against: the model's own labels, and those that the
            project has learned of since.
        generation: the generation of the test sets, which the audit draw depends on.
        rolling: the roll-out of another model that is under way.
    """

    deployment: Deployment
    predictor: Predictor
    answer: dict[str, Any]
    generation: int
    rolling: Rolling | None = None

    @property
    def state_id(self) -> str | None:
        """The snapshot of what the model has learned since it was made, by which it answers."""
        return self.predictor.state_id or self.deployment.state_id
