"""All that lives while the service runs, in one process: opened and closed in one place, in one order."""

from __future__ import annotations

from typing import Any

from tidemill.errors import NotFoundError
from tidemill.records import Prediction
from tidemill.serving._base import ServedProject
from tidemill.serving.batcher import Batcher
from tidemill.serving.conducting import Conductor
from tidemill.serving.folding import Folder
from tidemill.serving.following import Follower, OnSwap
from tidemill.serving.gone import Gone
from tidemill.serving.limits import Deadlines
from tidemill.store import FeedbackWriter, JournalWriter, check_prediction_id


class Service:
    """The living parts of one serving process; making one starts them.

    Args:
        on_swap: told of each deployment that is taken up.

    Attributes:
        project: what is served.
        max_text: bytes of UTF-8 that one text of a request may have.
        follower: keeps the champion loaded.
        conductor: drives roll-outs.
        batcher: answers predictions.
        feedback: commits feedback in groups.
        deadlines: gives up what takes too long.
        folder: folds the journal.
        gone: knows which predictions were erased.
    """

    def __init__(self, project: ServedProject, on_swap: OnSwap | None = None) -> None:
        store = project.store
        self.project = project
        self.max_text = int(project.config.limits.text_mb * 1_000_000)
        self.conductor = Conductor(project)
        self.follower = Follower(project, on_swap, on_broken=self.conductor.give_up)
        self._journal = JournalWriter(store.root)
        self.batcher = Batcher(
            self.follower.served,
            self._journal,
            secret=store.secret,
            audit_rate=project.config.audit.rate,
            max_pixels=int(project.config.limits.image_megapixels * 1_000_000),
            most_pixels=int(project.config.serve.max_megapixels * 1_000_000),
            latency=project.config.serve.latency_ms / 1000,
            timeout=project.config.serve.timeout_s,
        )
        self.deadlines = Deadlines(project.config.serve.timeout_s)
        self.feedback = FeedbackWriter(store)
        self.gone = Gone(store)
        self.gone.look()
        self.folder = Folder(store, project.config.store, also=self.gone.look)
        self.follower.start()
        self.folder.start()
        self.conductor.start()

    def knows(self, prediction: str) -> bool:
        """Whether this project gave out *prediction*, also when its row is still in the journal.

        Raises:
            NotFoundError: it was erased.
        """
        self.gone.refuse(prediction)
        return check_prediction_id(self.project.store.secret, prediction)

    def given(self, prediction: str) -> dict[str, Any] | None:
        """The answer of *prediction* where the model may abstain; ``None`` while its row is in the journal."""
        spec = self.follower.feedback_spec()
        if spec.get("abstain_cost") is None and spec.get("threshold") is None:
            return None
        found = self.project.store.find(Prediction, id=prediction, limit=1)
        return found[0].answer if found else None

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
        self.conductor.close()
        self.follower.close()
        self.batcher.close()
        self.feedback.close()
        self._journal.close()
        self.folder.close()
