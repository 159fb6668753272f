"""One cycle of the loop: begun or resumed, run, and recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time

from tidemill.errors import StoreError
from tidemill.loop._base import OnEvent, Setting, unheard, untraced
from tidemill.loop.planning import Plan, plan
from tidemill.loop.revolution import Revolution
from tidemill.records import JSON, Cycle, new_id

_DECISIVE = {
    *("task", "data", "target", "labels", "inputs", "ignore", "weight", "tasks", "splits", "recipes", "transfer"),
    *("audit", "gate", "decision", "feedback", "goal", "tuning"),
}
"""The settings that say what a cycle does. Its limits are recorded with it; the others do not touch it."""

__all__ = ["OnEvent", "Plan", "Setting", "plan", "run_cycle", "unheard", "untraced"]


def run_cycle(
    setting: Setting,
    *,
    budget: float | None = None,
    max_trials: int | None = None,
    max_epochs: int | None = None,
    seed: int | None = None,
    trigger: str = "asked",
    on_event: OnEvent = unheard,
) -> Cycle:
    """Run one cycle; a cycle that was killed or stopped is gone on with first, under the limits it began with.

    Args:
        budget: seconds for tuning and training together; planned before it starts.
        max_trials: trials of each recipe's search; with *max_epochs*, the same data and seed give the same result.
        max_epochs: most passes over the training rows.
        seed: of everything random in it; the configuration's unless given.
        trigger: what started it, in words.
        on_event: told what happens.

    Raises:
        BusyError: another process runs a cycle on this project.
        TidemillError: what stopped it; the cycle is recorded as failed, and nothing that serves has changed.
        KeyboardInterrupt: it was stopped; the next call goes on from there.
    """
    store, defaults = setting.store, setting.config.cycle
    with store.lock("cycle"):
        cycle = _begun(setting, on_event)
        if cycle is None:
            limits: JSON = {
                "budget": budget if budget is not None else defaults.budget_seconds,
                "max_trials": max_trials if max_trials is not None else defaults.max_trials,
                "max_epochs": max_epochs if max_epochs is not None else defaults.max_epochs,
            }
            if (max_trials or max_epochs) and budget is None:
                limits["budget"] = None  # fixed limits were asked for, so no clock may interfere
            limits["settings"] = _settings(setting)
            cycle = Cycle(
                id=new_id(Cycle.prefix),
                status="running",
                trigger=trigger,
                seed=defaults.seed if seed is None else seed,
                plan=limits,
            )
            store.insert(cycle)
        else:
            on_event({"stage": "prepare", "what": f"going on with {cycle.id}, which was {_how_it_ended(cycle)}"})
            cycle = dataclasses.replace(cycle, status="running")
            store.update(cycle)
        try:
            done = Revolution(setting, cycle, on_event).run()
        except KeyboardInterrupt:
            store.update(dataclasses.replace(cycle, status="stopped"))
            raise
        except Exception as error:
            with contextlib.suppress(StoreError):  # on a full disk; then the next call goes on from here
                store.update(dataclasses.replace(cycle, status="failed", error=str(error), finished=time.time()))
            raise
        store.update(done)
        return done


def _begun(setting: Setting, on_event: OnEvent) -> Cycle | None:
    """The cycle to go on with; one that was begun under other settings is closed instead."""
    store = setting.store
    cycle = next(iter(store.find(Cycle, status=["running", "stopped"], newest_first=True, limit=1)), None)
    if cycle is None or cycle.plan.get("settings") in (None, _settings(setting)):
        return cycle
    why = "tidemill.yaml was changed since"
    on_event({"stage": "prepare", "what": f"{cycle.id} was {_how_it_ended(cycle)}, and {why}: beginning anew"})
    store.update(dataclasses.replace(cycle, status="failed", error=why, finished=time.time()))
    return None


def _settings(setting: Setting) -> str:
    """A hash of what in ``tidemill.yaml`` says what a cycle does."""
    text = setting.config.model_dump_json(include=_DECISIVE)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _how_it_ended(cycle: Cycle) -> str:
    return "stopped" if cycle.status == "stopped" else "interrupted"
