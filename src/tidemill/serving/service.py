"""All that lives while the service runs, in one process: opened and closed in one place, in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tidemill.errors import NotFoundError
from tidemill.records import JSON, Deployment, Prediction
from tidemill.serving._base import ServedProject
from tidemill.serving.aside import Aside
from tidemill.serving.batcher import Batcher
from tidemill.serving.conducting import Conductor
from tidemill.serving.folding import Folder
from tidemill.serving.following import Follower, OnSwap
from tidemill.serving.gathering import Gatherer
from tidemill.serving.gone import Gone
from tidemill.serving.learning import FastLayer
from tidemill.serving.limits import Deadlines
from tidemill.serving.metrics import Colleagues, Meter
from tidemill.store import FeedbackWriter, JournalWriter, check_prediction_id

BULK_BATCHES = 2
"""Lone statements wait behind no more batches of the bulk doors than this: some ten milliseconds."""


class Service:
    """The living parts of one serving process; making one starts them.

    Args:
        meter: counts and times.
        on_swap: told of each deployment that is taken up.

    Attributes:
        project: what is served.
        max_text: bytes of UTF-8 that one text of a request may have.
        follower: keeps the champion loaded.
        conductor: drives roll-outs.
        batcher: answers predictions.
        aside: does what is no prediction and takes as long as one.
        feedback: commits feedback in groups.
        lone: gathers statements that come one a request.
        bulk_turns: how many batches of bulk doors may be at the writer.
        deadlines: gives up what takes too long.
        folder: folds the journal.
        gone: knows which predictions were erased.
        learning: lets a policy that chooses learn from rewards between cycles.
    """

    def __init__(self, project: ServedProject, meter: Meter, on_swap: OnSwap | None = None) -> None:
        store = project.store
        chooses = project.task.kind == "choice"
        self.project = project
        self._meter = meter
        self._on_swap = on_swap
        self.max_text = int(project.config.limits.text_mb * 1_000_000)
        self.most_pixels = int(project.config.serve.max_megapixels * 1_000_000)
        self.conductor = Conductor(project)
        self.follower = Follower(project, self._swapped, on_broken=self.conductor.give_up)
        self._journal = JournalWriter(store.root)
        self.batcher = Batcher(
            self.follower.served,
            self._journal,
            meter,
            secret=store.secret,
            audit_rate=0.0 if chooses else project.config.audit.rate,  # every choice is drawn at random, so all judge
            choices=chooses,
            max_pixels=project.config.limits.image_pixels,
            most_pixels=self.most_pixels,
            latency=project.config.serve.latency_ms / 1000,
            timeout=project.config.serve.timeout_s,
        )
        self.aside = Aside(project.config.serve.timeout_s)
        self.deadlines = Deadlines(project.config.serve.timeout_s)
        self.feedback = FeedbackWriter(store, meter.stated)
        self.lone = Gatherer(self.feedback)
        self.bulk_turns = asyncio.Semaphore(BULK_BATCHES)
        self._reader = ThreadPoolExecutor(1, "tidemill-reader")
        self.gone = Gone(store)
        self.gone.look()
        self.folder = Folder(store, project.config.store, also=self.gone.look)
        self.follower.start()
        self.folder.start()
        self.learning = FastLayer(project, self.follower, self.folder.now)
        self.learning.start()
        self.conductor.start()
        self._colleagues = Colleagues(store, self._own_numbers)
        self._colleagues.start()

    def _swapped(self, deployment: Deployment) -> None:
        self._meter.swaps += 1
        if self._on_swap is not None:
            self._on_swap(deployment)

    def _own_numbers(self) -> JSON:
        return {**self._meter.to_json(), "queue_rows": self.batcher.rows}

    def numbers(self) -> dict[int, tuple[int, JSON]]:
        """Process id and numbers of every process that serves the project now, this one among them."""
        return self._colleagues.gather()

    def knows(self, prediction: str) -> bool:
        """Whether this project gave out *prediction*, also when its row is still in the journal.

        Raises:
            NotFoundError: it was erased.
        """
        self.gone.refuse(prediction)
        return check_prediction_id(self.project.store.secret, prediction)

    def may_abstain(self) -> bool:
        """Whether the model that serves may give no answer, so that there may be none to confirm."""
        spec = self.follower.feedback_spec()
        return spec.get("abstain_cost") is not None or spec.get("threshold") is not None

    def given(self, predictions: Collection[str]) -> Future[dict[str, dict[str, Any]]]:
        """The answers of *predictions* by their ids, as far as their rows are in the tables.

        They are read by a thread of their own: a database that hangs holds up whoever asks, and nobody else.
        """
        return self._reader.submit(self._answers, predictions)

    def _answers(self, predictions: Collection[str]) -> dict[str, dict[str, Any]]:
        return {found.id: found.answer for found in self.project.store.find(Prediction, id=predictions)}

    def trace(self, identifier: str) -> dict[str, Any]:
        """The line of an id; folds first when a prediction may be too young to be in the tables.

        Raises:
            NotFoundError: no record has this id.
        """
        try:
            return self.project.trace(identifier)
        except NotFoundError:
            if not (
                identifier.startswith(f"{Prediction.prefix}_")
                and check_prediction_id(self.project.store.secret, identifier)
            ):
                raise
        self.folder.now()
        return self.project.trace(identifier)

    def close(self) -> None:
        """Answer and commit what waits, flush the journal, and fold it."""
        self._colleagues.close()
        self.learning.close()
        self.conductor.close()
        self.follower.close()
        self.batcher.close()
        self.aside.close()
        self.feedback.close()
        self._reader.shutdown(cancel_futures=True)
        self._journal.close()
        self.folder.close()
