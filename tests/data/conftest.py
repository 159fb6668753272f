"""A store, and prepare with few words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.config import make_config
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled
from tidemill.records import Dataset
from tidemill.stages.prepare import prepare
from tidemill.store import create_store
from tidemill.tasks import get_task


@dataclass(frozen=True)
class Prepared:
    """A dataset version and what its report says."""

    data: DatasetArrays
    record: Dataset

    @property
    def actions(self) -> dict[str, tuple[int, list[str]]]:
        """What was done: how often, with examples."""
        return {a["what"]: (a["count"], a["examples"]) for a in self.record.report["actions"]}

    @property
    def notes(self) -> list[str]:
        notes: list[str] = self.record.report["notes"]
        return notes

    def label(self, row: int) -> str:
        return self.data.signature.labels[int(self.data.target[row])]

    def splits(self) -> list[int]:
        return np.asarray(self.data.split).tolist()


Make = Callable[..., Prepared]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """``make(task, source or sources, target, **config)``: prepared in a store of the test's own."""
    with create_store(tmp_path / ".tidemill") as store:

        def made(
            task: str, source: Path | Sequence[Path], target: str, settled: Settled | None = None, **more: Any
        ) -> Prepared:
            files = [str(s) for s in ([source] if isinstance(source, Path) else source)]
            config = make_config(task=task, data=files, target=target, **more)
            name = prepare(store, get_task(task), config, files, settled or Settled())
            record = store.get(Dataset, name)
            return Prepared(open_dataset(store.root, record), record)

        yield made
