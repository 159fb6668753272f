"""Drift: recent traffic has moved away from what the champion was trained on.

It fires once for a state: as long as traffic stays where it was when it fired, there is nothing that another cycle
could learn that the last one could not. When it moves on, or comes back and moves again, it fires again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from tidemill.data.dataset import open_dataset
from tidemill.data.storage import is_complete
from tidemill.monitor.traffic import Described, compare, describe_traffic, describe_training, recent_traffic
from tidemill.monitor.triggers._base import Look
from tidemill.records import JSON, Cycle, Dataset, Deployment, Model
from tidemill.runtime import Predictor
from tidemill.store import Store

_SENTENCES = 3
_BEFORE = ("the traffic that it fired on", "traffic")


class Drift:
    """Fires when a column, the answers, or the inputs as a whole have moved.

    Args:
        store: the project's store.
        open_champion: the deployment in force and its model, loaded.
        least: inputs of different keys from which on it may fire.
        fires: else it only measures.
        rest: seconds between two firings at least.
    """

    name: ClassVar[str] = "drift"
    heavy: ClassVar[bool] = True

    def __init__(
        self,
        store: Store,
        open_champion: Callable[[], tuple[Deployment, Predictor]],
        *,
        least: int,
        fires: bool,
        rest: float,
    ) -> None:
        self._store = store
        self._open = open_champion
        self._least = least
        self.fires = fires
        self._rest = rest

    def look(self, memory: JSON, now: float) -> Look:
        """Compare the traffic since the last cycle with the champion's data."""
        deployment = self._store.champion()
        if deployment is None:
            return Look(waiting="no model serves yet", memory=memory)
        dataset = self._dataset(deployment)
        if dataset is None:
            return Look(waiting="the champion's data were removed, so nothing can be compared with it", memory=memory)
        deployment, predictor = self._open()
        traffic = recent_traffic(self._store, predictor.signature, after=self._since())
        found: JSON = {"rows": traffic.rows, "model": deployment.model_id, "dataset": dataset.id, "columns": []}
        if traffic.rows < self._least:
            return Look(waiting=f"{traffic.rows} of {self._least} new inputs", found=found, memory=memory)
        here = describe_traffic(predictor, traffic)
        training = describe_training(predictor, open_dataset(self._store.root, dataset))
        lines = compare(predictor.signature, training, here)
        found["columns"] = [{k: line[k] for k in ("column", "type", "effect", "size", "p", "moved")} for line in lines]
        moved = [line for line in lines if line["moved"]]
        if not moved:
            return Look(waiting=_calm(lines), found=found, memory=_forgotten(memory))
        said = "; ".join(line["sentence"] for line in moved[:_SENTENCES])
        if not self.fires:
            return Look(waiting=said, found=found, memory=memory)
        if self._fired_on(memory, predictor, here):
            return Look(waiting=f"{said}, as when it fired", found=found, memory=memory)
        if memory.get("fired") is not None and 0 <= now - memory["fired"] < self._rest:
            return Look(waiting=f"{said}, but it rests", found=found, memory=memory)
        return Look(waiting=said, reason=said, found=found, memory={"fired": now, "newest": traffic.newest})

    def _dataset(self, deployment: Deployment) -> Dataset | None:
        model = self._store.get(Model, deployment.model_id)
        if model.dataset_id is None or not self._store.exists(Dataset, model.dataset_id):
            return None
        dataset = self._store.get(Dataset, model.dataset_id)
        return dataset if is_complete(self._store.root / dataset.path) else None

    def _since(self) -> float | None:
        """When the last cycle that was done began: what came before, it has seen."""
        last = self._store.find(Cycle, status="done", newest_first=True, limit=1)
        return last[0].created if last else None

    def _fired_on(self, memory: JSON, predictor: Predictor, here: Described) -> bool:
        """Whether traffic is where it was when it fired, as far as the predictions of then are still in the tables."""
        if memory.get("newest") is None:
            return False
        then = recent_traffic(self._store, predictor.signature, before=memory["newest"] + 1e-6)
        if then.rows < self._least:
            return False
        lines = compare(predictor.signature, describe_traffic(predictor, then), here, _BEFORE)
        return not any(line["moved"] for line in lines)


def _calm(lines: Sequence[JSON]) -> str:
    largest = max(lines, key=lambda line: float(line["size"]), default=None)
    told = "" if largest is None else f" (largest: {largest['column']} {largest['size']:.1f}, of 1)"
    return f"no column has moved{told}"


def _forgotten(memory: JSON) -> JSON:
    """Traffic is back: when it moves again, it has moved anew."""
    return {"fired": memory["fired"]} if memory.get("fired") is not None else {}
