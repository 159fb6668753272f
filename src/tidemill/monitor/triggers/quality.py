"""Quality: the champion's live quality has fallen under a floor.

It fires when the whole interval lies under the floor (for the error of numbers: above the ceiling). Whoever looks often
enough at a fair coin sees it land on one side, so looks share the chance of a false alarm: the *k*-th test of a
deployment takes 6 / (π² k²) of α, and all of them together err at most α of the time while the quality is at the floor,
however long the deployment lasts (Bonferroni's inequality, which asks nothing of how the looks hang together). A test
is made when a tenth more of the labels are new, so that there are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

from tidemill.data.schema import Kind
from tidemill.data.settled import Settled
from tidemill.monitor.live_quality import METRICS, WINDOW, Interval, Judged, judged, mean_interval
from tidemill.monitor.triggers._base import Action, Look
from tidemill.records import JSON
from tidemill.store import Store

ALPHA = 0.05
FRESH = 0.1
"""Share of the labels that must be new for another test."""
_NAMES: Mapping[Kind, str] = {
    "classification": "accuracy",
    "multilabel": "F1",
    "regression": "mean absolute error",
    "choice": "reward",
}


class Quality:
    """Fires once when live quality is surely under *floor*, and again only after it had been better.

    Args:
        store: the project's store.
        settle: settles what people said, :func:`tidemill.data.settled.settled_labels`.
        kind: of the task; for ``regression`` the floor is a ceiling of the mean absolute error, for ``choice`` it
            is one of the mean reward.
        floor: ``None`` only measures.
        least: labels, or rewards, from which on it may fire.
        response: share of the audit's questions that must have been answered: who answers only some, chooses.
        action: what is done then.
        rest: seconds between two firings at least.
    """

    name: ClassVar[str] = "quality"
    heavy: ClassVar[bool] = True

    def __init__(
        self,
        store: Store,
        settle: Callable[[], Settled],
        kind: Kind,
        *,
        floor: float | None,
        least: int,
        response: float,
        action: Action,
        rest: float,
    ) -> None:
        self._store = store
        self._settle = settle
        self._kind = kind
        self._floor = floor
        self.fires = floor is not None
        self._least = least
        self._response = response
        self._action: Action = action
        self._rest = rest

    def look(self, memory: JSON, now: float) -> Look:
        """Measure, and test when enough labels are new."""
        deployment = self._store.champion()
        if deployment is None:
            return Look(waiting="no model serves yet", memory=memory)
        if memory.get("deployment") != deployment.id:
            memory = {"deployment": deployment.id, "tests": 0, "tested": 0, "low": False, "fired": memory.get("fired")}
        settled = self._settle()
        answers = judged(self._store, settled, deployment, self._kind)
        shown = mean_interval(answers, ALPHA, share=answers.share)
        found: JSON = {
            "metric": METRICS[self._kind],
            "value": _known(shown.value),
            "low": _known(shown.low),
            "high": _known(shown.high),
            "labels": len(answers),
            "floor": self._floor,
            "model": deployment.model_id,
        }
        said = self._said(shown, len(answers))
        if len(answers) < self._least:
            what = "rewards" if self._kind == "choice" else "audited labels"
            return Look(waiting=f"{len(answers)} of {self._least} {what}{said}", found=found, memory=memory)
        if self._floor is not None and settled.answered < self._response * settled.audited:
            share = f"{100 * settled.answered / settled.audited:.0f} % of the audit's questions are answered"
            waiting = f"{said.removeprefix(': ')}, but only {share}, of {100 * self._response:.0f} % that are needed"
            return Look(waiting=waiting, found=found, memory=memory)
        # Counted over the whole deployment: the window holds no more than its newest.
        labels = sum(s.split != "train" for s in settled.live)
        if self._floor is None or abs(labels - memory["tested"]) < max(1, FRESH * min(labels, WINDOW)):
            return Look(waiting=said.removeprefix(": "), found=found, memory=memory)
        return self._test(answers, {**memory, "tested": labels}, found, said, now)

    def _test(self, answers: Judged, memory: JSON, found: JSON, said: str, now: float) -> Look:
        tests = memory["tests"] + 1
        assert self._floor is not None
        was, low = memory["low"], surely_past(answers, self._floor, tests, ceiling=self._kind == "regression")
        memory = {**memory, "tests": tests, "low": low}
        waiting = said.removeprefix(": ")
        if not low:
            return Look(waiting=waiting, found=found, memory=memory)
        limit = "above the ceiling" if self._kind == "regression" else "under the floor"
        reason = f"{waiting}, {limit}"
        if was:
            return Look(waiting=f"{reason} still, which it has acted on", found=found, memory=memory)
        if memory["fired"] is not None and 0 <= now - memory["fired"] < self._rest:
            return Look(waiting=f"{reason}, but it rests", found=found, memory={**memory, "low": False})
        return Look(waiting=reason, reason=reason, action=self._action, found=found, memory={**memory, "fired": now})

    def _said(self, interval: Interval, labels: int) -> str:
        if math.isnan(interval.value):
            return ""
        metric = _NAMES[self._kind]
        width = "" if math.isnan(interval.low) else f" ({self._shown(interval.low)} to {self._shown(interval.high)})"
        floor = ""
        if self._floor is not None:
            floor = f", {'ceiling' if self._kind == 'regression' else 'floor'} {self._shown(self._floor)}"
        what = "rewards" if self._kind == "choice" else "labels"
        return f": live {metric} {self._shown(interval.value)}{width} of {labels} {what}{floor}"

    def _shown(self, value: float) -> str:
        return f"{value:.4g}" if self._kind in ("regression", "choice") else f"{100 * value:.1f} %"


def surely_past(answers: Judged, limit: float, test: int, *, ceiling: bool) -> bool:
    """Whether the mean of *answers* is past *limit*: above it where that is a *ceiling*, under it where it is a floor.

    Args:
        test: the how many-th test of the same thing this is, from 1; see above for what that costs.
    """
    level = 12 * ALPHA / (math.pi * test) ** 2  # of both sides together, of which only one counts
    interval = mean_interval(answers, level, share=answers.share)
    return interval.low > limit if ceiling else interval.high < limit


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
