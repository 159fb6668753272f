"""Following the store: whatever any process promotes, rolls out or rolls back is what answers within a second."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from tidemill.data.schema import Signature
from tidemill.errors import NotFoundError, NotReadyError, PackageError, StoreError, TidemillError
from tidemill.records import Dataset, Deployment, Generation, Model, Rollout
from tidemill.runtime import Predictor, load
from tidemill.runtime.choosing import ChoicePredictor
from tidemill.runtime.heads import Heads
from tidemill.serving._base import Served, ServedProject
from tidemill.serving.rolling import Challenger, OnBroken, Rolling
from tidemill.store import current_state, running_rollout
from tidemill.tasks import stated_spec

logger = logging.getLogger("tidemill.serving")

OnSwap = Callable[[Deployment], None]

INTERVAL = 0.2
RETRY_FIRST = 1.0
RETRY_LAST = 10.0
PATIENCE = 0.25
"""Part of the time that an answer may take after which the champion answers in the challenger's place."""


class Follower:
    """Keeps the champion loaded and warm.

    A new deployment is loaded and warmed up beside the old one, on this object's own thread, and then put in its place
    by one assignment. When that fails the old one keeps answering, :attr:`fault` says why, and it is tried again, ever
    more seldom.

    The challenger of a roll-out is loaded likewise, after the champion, and let go as soon as the roll-out has ended.

    Args:
        project: whose champion is followed.
        on_swap: told of each deployment that is taken up, on whichever thread took it up.
        interval: seconds between two looks at the store.
        on_broken: told when a challenger cannot be loaded, or fails too often.
    """

    def __init__(
        self,
        project: ServedProject,
        on_swap: OnSwap | None = None,
        *,
        interval: float = INTERVAL,
        on_broken: OnBroken | None = None,
    ) -> None:
        self._project = project
        self._on_swap = on_swap
        self._on_broken = on_broken
        self._given_up: set[str] = set()
        self._interval = interval
        self._seen: tuple[Any, ...] | None = None
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
        """Stop following; what is loaded stays usable, but for a challenger, whose callers the champion answers."""
        self._stop.set()
        self._thread.join()
        if (served := self._served) is not None and served.rolling is not None:
            self._served = dataclasses.replace(served, rolling=None)
            served.rolling.challenger.close()

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
        return stated_spec(self._project.task, self._project.signature, self._project.config)

    def look(self) -> None:
        """Take up what is in force now, if it is not what answers."""
        try:
            store = self._project.store
            rollout = running_rollout(store)
            stands = None if rollout is None else (rollout.id, rollout.phase, rollout.share)
            seen = (store.revision(), store.count(Generation), store.count(Dataset), stands, self._state())
            if self._served is not None and self._served.rolling is not None:
                self._served.rolling.challenger.look()
            if seen == self._seen and (self.fault is None or time.monotonic() < self._retry_at):
                return
            self._seen = seen
            if seen[0]:
                before, served = self._served, self._take_up(store.champion(), rollout)
                self._served = served
                self._let_go(before, served)
                if self._on_swap is not None and (before is None or before.deployment != served.deployment):
                    self._on_swap(served.deployment)
                if rollout is not None and served.rolling is None:
                    self._served = dataclasses.replace(served, rolling=self._begin(rollout, served))
            self.fault, self._retry_after = None, RETRY_FIRST
        except TidemillError as error:
            self._failed(str(error))
        except Exception as error:  # a package can fail in ways of its own; the champion that answers must not
            logger.exception("the model to serve could not be taken up")
            self._failed(f"{type(error).__name__}: {error}")

    def _take_up(self, deployment: Deployment | None, rollout: Rollout | None) -> Served:
        current = self._served
        rolling = None if current is None else current.rolling
        if current is not None and deployment is not None and deployment.id == current.deployment.id:
            predictor = current.predictor
            deployment = current.deployment
        else:
            if rolling is not None and deployment is not None and deployment.model_id == rolling.rollout.challenger_id:
                predictor = rolling.challenger.predictor  # it has proved itself, and is warm
            else:
                deployment, predictor = self._project.open_champion()
                predictor.warm_up()
            rolling = None
            logger.info("serving %s by %s (%s)", deployment.model_id, deployment.id, deployment.action)
        if rolling is not None:
            rolling = Rolling(rollout, rolling.challenger) if rollout and rolling.same_as(rollout) else None
        predictor = self._learned(predictor, deployment)
        return Served(deployment, predictor, self._answer(predictor), self._generation(), rolling)

    def _state(self) -> str | None:
        """What the policy in force has learned last, where it is one that learns while it serves."""
        served = self._served
        if served is None or not isinstance(served.predictor, ChoicePredictor):
            return None
        snapshot = current_state(self._project.store, served.deployment)
        return None if snapshot is None else snapshot.id

    def _learned(self, predictor: Predictor, deployment: Deployment) -> Predictor:
        """*predictor* with what it has learned since it was made; as it is, where that cannot be read."""
        if not isinstance(predictor, ChoicePredictor):
            return predictor
        store = self._project.store
        snapshot = current_state(store, deployment)
        if (None if snapshot is None else snapshot.id) == predictor.state_id:
            return predictor
        if snapshot is None:
            return predictor.with_heads(predictor.base, None)
        try:
            return predictor.with_heads(Heads.from_bytes(store.blobs.get(snapshot.blob), snapshot.id), snapshot.id)
        except (NotFoundError, PackageError) as error:  # a newer one may have taken its place, or it is damaged
            logger.warning("the state %s cannot be taken up: %s", snapshot.id, error)
            return predictor

    def _begin(self, rollout: Rollout, served: Served) -> Rolling | None:
        """The challenger, loaded and warm; ``None`` when it is none of this champion's, or cannot be loaded."""
        if rollout.id in self._given_up or rollout.champion_id != served.deployment.model_id:
            return None
        config, store = self._project.config, self._project.store
        folder = store.root / store.get(Model, rollout.challenger_id).path
        try:
            predictor = load(folder, threads=config.serve.threads or 1)
            predictor.warm_up()
        except StoreError:
            raise
        except Exception as error:  # a package can fail in ways of its own
            self._give_up(rollout.id, f"The challenger cannot be taken up: {error}")
            return None
        logger.info("%s is in the %s of %s", rollout.challenger_id, rollout.phase, rollout.id)
        challenger = Challenger(
            rollout,
            predictor,
            served.predictor.signature,
            patience=config.serve.timeout_s * PATIENCE,
            max_pixels=config.limits.image_pixels,
            on_broken=self._give_up,
        )
        return Rolling(rollout, challenger)

    def _give_up(self, rollout: str, reason: str) -> None:
        self._given_up.add(rollout)
        if self._on_broken is not None:
            self._on_broken(rollout, reason)

    def _let_go(self, before: Served | None, after: Served) -> None:
        """Let the champion answer those who wait for a challenger that is needed no more."""
        old = None if before is None else before.rolling
        if old is not None and (after.rolling is None or after.rolling.challenger is not old.challenger):
            old.challenger.end()

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
