"""A model that no cycle made, judged as if one had: on the data of the last cycle, by the same gate."""

from __future__ import annotations

from tidemill.data.dataset import open_dataset
from tidemill.errors import NotReadyError
from tidemill.loop._base import OnEvent, Setting, unheard
from tidemill.loop.judging import Bench
from tidemill.records import JSON, Cycle, Dataset, Decision
from tidemill.stages.feedback import feedback


def last_cycle(setting: Setting) -> tuple[Cycle, Dataset]:
    """The last cycle that was done, with its data.

    Raises:
        NotReadyError: there is none yet, or it had nothing to learn.
    """
    for cycle in setting.store.find(Cycle, status="done", newest_first=True, limit=1):
        if cycle.dataset_id is not None:
            return cycle, setting.store.get(Dataset, cycle.dataset_id)
    raise NotReadyError("no cycle has prepared the data yet", mend="Run `tidemill cycle` first.")


def judge_outsider(setting: Setting, model_id: str, on_event: OnEvent = unheard) -> Decision:
    """Let a model stand before the gate; what that decides is put into force.

    Raises:
        NotReadyError: no cycle has been done yet.
        BusyError: a cycle is running.
    """
    store = setting.store
    with store.lock("cycle"):
        cycle, record = last_cycle(setting)
        dataset = open_dataset(store.root, record)
        settled = feedback(store, setting.task, until=cycle.created, config=setting.config)
        bench = Bench(setting, None, dataset, settled, on_event)
        return bench.decide(model_id, _best_baseline(cycle.summary))


def _best_baseline(summary: JSON) -> str | None:
    """The model that no newcomer may be worse than."""
    baselines = [c for c in summary.get("candidates", []) if c["baseline"] and "model" in c]
    best = max(baselines, key=lambda c: float(c["validation"]), default=None)
    return None if best is None else str(best["model"])
