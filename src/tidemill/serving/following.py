"""Following the store: whatever is promoted or rolled back, by whichever process, answers within a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from tidemill.data.schema import Signature
from tidemill.errors import NotReadyError, TidemillError
from tidemill.records import Dataset, Deployment, Generation
from tidemill.runtime import Predictor
from tidemill.serving._base import Served, ServedProject

logger = logging.getLogger("tidemill.serving")

OnSwap = Callable[[Deployment], None]

INTERVAL = 0.2
RETRY_FIRST = 1.0
RETRY_LAST = 10.0


class Follower:
    """Keeps the champion loaded and warm.

    A new deployment is loaded and warmed up beside the old one, on this object's own thread, and then put in its place
    by one assignment. When that fails the old one keeps answering, :attr:`fault` says why, and it is tried again, ever
    more seldom.

    Args:
        project: whose champion is followed.
        on_swap: told of each deployment that is taken up, on whichever thread took it up.
        interval: seconds between two looks at the store.
    """

    def __init__(self, project: ServedProject, on_swap: OnSwap | None = None, *, interval: float = INTERVAL) -> None:
        self._project = project
        self._on_swap = on_swap
        self._interval = interval
        self._seen: tuple[int, ...] | None = None
        self._served: Served | None = None
        self._retry_at = 0.0
        self._retry_after = RETRY_FIRST
        self.fault: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-follower", daemon=True)

    def start(self) -> None:
        """Load the champion, if there is one, then follow."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Stop following; what is loaded stays usable."""
        self._stop.set()
        self._thread.join()

    def served(self) -> Served:
        """What answers now.

        Raises:
            NotReadyError: nothing has been promoted yet, or nothing could be loaded.
        """
        if self._served is None:
            raise NotReadyError(
                self.fault or "no model has been promoted yet",
                where="champion",
                mend="Run `tidemill cycle`: the server takes up what it promotes, without a restart.",
            )
        return self._served

    def contract(self) -> tuple[Signature, dict[str, Any]]:
        """The inputs and the answer spec of the model that answers; those of the project while there is none.

        Raises:
            NotReadyError: the project does not know its inputs yet.
        """
        if self._served is not None:
            predictor = self._served.predictor
            return predictor.signature, predictor.manifest.answer
        return self._project.signature, self.feedback_spec()

    def feedback_spec(self) -> dict[str, Any]:
        """The spec that feedback is checked against; also while no model can be loaded, so that none is lost."""
        if self._served is not None:
            return self._served.answer
        return self._project.task.answer(self._project.signature)

    def look(self) -> None:
        """Take up what is in force now, if it is not what answers."""
        try:
            store = self._project.store
            seen = (store.revision(), store.count(Generation), store.count(Dataset))
            if seen == self._seen and (self.fault is None or time.monotonic() < self._retry_at):
                return
            self._seen = seen
            if seen[0]:
                before, self._served = self._served, self._take_up(store.champion())
                if self._on_swap is not None and (before is None or before.deployment != self._served.deployment):
                    self._on_swap(self._served.deployment)
            self.fault, self._retry_after = None, RETRY_FIRST
        except TidemillError as error:
            self._failed(str(error))
        except Exception as error:  # a package can fail in ways of its own; the champion that answers must not
            logger.exception("the model to serve could not be taken up")
            self._failed(f"{type(error).__name__}: {error}")

    def _take_up(self, deployment: Deployment | None) -> Served:
        current = self._served
        if current is not None and deployment is not None and deployment.id == current.deployment.id:
            predictor = current.predictor
            deployment = current.deployment
        else:
            deployment, predictor = self._project.open_champion()
            predictor.warm_up()
            logger.info("serving %s by %s (%s)", deployment.model_id, deployment.id, deployment.action)
        return Served(deployment, predictor, self._answer(predictor), self._generation())

    def _answer(self, predictor: Predictor) -> dict[str, Any]:
        return feedback_spec(predictor.manifest.answer, self._project.signature)

    def _generation(self) -> int:
        newest = self._project.store.find(Generation, newest_first=True, limit=1)
        return newest[0].number if newest else 0

    def _failed(self, why: str) -> None:
        if why != self.fault:
            logger.error("the model to serve could not be taken up, so the old one stays: %s", why)
        self.fault = why
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(self._retry_after * 2, RETRY_LAST)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()


def feedback_spec(answer: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """The answer spec that feedback is checked against: users may name labels that the model does not know yet.

    >>> wines = Signature(inputs=(), target="wine", kind="classification", labels=("red", "white"))
    >>> feedback_spec({"kind": "classification", "labels": ["red"]}, wines)["labels"]
    ['red', 'white']
    >>> feedback_spec({"kind": "regression"}, wines)
    {'kind': 'regression'}
    """
    if answer["kind"] == "regression":
        return answer
    return {**answer, "labels": list(dict.fromkeys([*answer["labels"], *signature.labels]))}
