"""The queues, ordered anew between cycles: by the champion as it is, and by all that was said since."""

from __future__ import annotations

import time

from tidemill.data.assigned import fold_journal
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.errors import NotReadyError
from tidemill.monitor.label_errors import known_suspects
from tidemill.project import said
from tidemill.project.opened import OpenProject
from tidemill.records import JSON
from tidemill.runtime import Predictor
from tidemill.stages.annotate import annotate


def requeue(project: OpenProject) -> JSON:
    """Order the questions anew; how many wait, by purpose.

    Raises:
        NotReadyError: nothing has been prepared yet.
    """
    fold_journal(project.store)
    record = project.dataset
    if record is None:
        raise NotReadyError("no data has been prepared yet", mend="Run `tidemill cycle` first.")
    dataset = open_dataset(project.store.root, record)
    settled = said.settle(project)
    counts = annotate(
        project.store,
        dataset,
        _champion(project, dataset),
        settled,
        seed=time.time_ns() % 2**32,
        policy=project.config.annotation,
        doubtful=known_suspects(project.store.root, record) if project.config.annotation.check_labels else [],
    )
    return dict(counts)


def _champion(project: OpenProject, dataset: DatasetArrays) -> Predictor | None:
    """The champion, if it reads what the version has."""
    if project.store.champion() is None:
        return None
    _, predictor = project.open_champion()
    same = predictor.signature.inputs == dataset.signature.inputs and predictor.signature.kind == dataset.signature.kind
    return predictor if same else None
