"""What a roll-out of a policy is judged by: the rewards of choices that either policy might have made.

Who answers a caller is drawn by a known share, and each policy draws its action by known probabilities. So an action
comes, whoever drew it, with the probability of the two policies' mixture, and each choice tells of both policies: of
each as much as its probability of this action says, over the mixture's. Where both would have chosen alike a choice
tells of no difference, and is no noise either; what remains is told doubly robust, beside the mean of what both models
expect. Comparing the mean rewards of two groups of callers would need many times as many of them.

This holds for choices that stand alone. The rows of a slate do not: there the two groups are compared after all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tidemill.data.offers import ACTION, SLATE
from tidemill.data.rewards import REWARDS, is_choice, reward_of
from tidemill.monitor.rollout import as_json, interval, sums
from tidemill.records import JSON, Feedback, Prediction, Rollout
from tidemill.store import Store
from tidemill.store.rollouts import both_since

LabelOf = Callable[[Feedback, Prediction], Any]

_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What one choice says of both policies.

    Attributes:
        caller: whose choices stand or fall together.
        champion, challenger: what each policy would have earned there; no more than an estimate, but right on average.
    """

    caller: str
    champion: float
    challenger: float


@dataclass(frozen=True, slots=True)
class _Group:
    """A row of a slate, of which only counts who chose it.

    Attributes:
        caller: whose it is.
        challenger: the challenger chose.
        share: of the callers that are the challenger's.
        reward: what it earned.
    """

    caller: str
    challenger: bool
    share: float
    reward: float

    def against(self, middle: float) -> Rewarded:
        """What it says of both policies; *middle* is taken off first, since it says nothing of either."""
        more = self.reward - middle
        if self.challenger:
            return Rewarded(self.caller, middle, middle + more / self.share)
        return Rewarded(self.caller, middle + more / (1 - self.share), middle)


def measured(
    store: Store, rollout: Rollout, label_of: LabelOf, caller_of: Callable[[str | None, str], str], *, now: float
) -> JSON:
    """What the rewards so far say: how many there are, sums, interval and means.

    Args:
        store: the project's; its journal should have been folded lately.
        rollout: whose challenger has been a canary, or is.
        label_of: the task's reading of a piece of feedback.
        caller_of: who stands or falls together, from caller and key.
        now: UTC seconds.
    """
    judge = rollout.evidence["judge"]
    horizon, silence = judge["horizon"], judge["silence"]
    said: dict[str, list[Feedback]] = {}
    for item in store.find(Feedback, kind=list(REWARDS), created_after=rollout.created):
        if not item.erased:
            said.setdefault(item.subject, []).append(item)
    asked = 0
    rows: list[Rewarded] = []
    slates: list[_Group] = []
    for prediction in _choices(store, rollout):
        asked += 1
        reward = reward_of(said.get(prediction.id, ()), prediction, label_of, horizon)
        if reward is None and horizon is not None and prediction.created + horizon <= now:
            reward = silence
        if reward is not None:
            caller = caller_of(prediction.caller, prediction.key)
            if prediction.inputs.get(SLATE):
                share = float((prediction.shadow or {})["share"])
                if share < 1:  # else there is no other group
                    slates.append(_Group(caller, prediction.model_id == rollout.challenger_id, share, reward))
            else:
                rows.append(Rewarded(caller, *_of_mixture(rollout, prediction, reward)))
    if slates:
        middle = float(np.mean([slate.reward for slate in slates]))
        rows += [slate.against(middle) for slate in slates]
    facts: JSON = {"asked": asked, "responded": len(rows), "statements": sum(map(len, said.values()))}
    if not rows:
        return facts | {"labels": None, "interval": None, "scores": None}
    champion, challenger = (np.array([getattr(row, name) for row in rows]) for name in ("champion", "challenger"))
    gap = challenger - champion
    low, high = judge["rewards"]
    span = max(high - low, float(np.abs(gap).max()))
    found = sums(gap, np.ones(len(gap)), np.array([row.caller for row in rows]), span)
    means = {
        "champion": float(champion.mean()),
        "challenger": float(challenger.mean()),
        "better": int((gap > 0).sum()),
        "worse": int((gap < 0).sum()),
    }
    known = interval(found, rollout.evidence["policy"]["alpha"])
    return facts | {"labels": asdict(found), "interval": as_json(known), "scores": means}


def _choices(store: Store, rollout: Rollout) -> Iterator[Prediction]:
    """The choices in whose draw both policies had their share, some thousands at a time."""
    after, models = rollout.evidence["start"], {rollout.champion_id, rollout.challenger_id}
    while found := both_since(store, after, limit=_AT_ONCE):
        after = found[-1][0]
        for _, prediction in found:
            other = prediction.shadow
            if other is None or not other.get("share") or not is_choice(prediction):
                continue
            if {prediction.model_id, other["model_id"]} == models:
                yield prediction


def _of_mixture(rollout: Rollout, choice: Prediction, reward: float) -> tuple[float, float]:
    """What champion and challenger would have earned, by the probabilities that each gave what was chosen."""
    other = choice.shadow
    assert other is not None
    share, action = float(other["share"]), str(choice.answer[ACTION])
    answers = {choice.model_id: choice.answer, other["model_id"]: other["answer"]}
    old, new = answers[rollout.champion_id], answers[rollout.challenger_id]
    expected = {
        name: (old["expected"].get(name, 0.0) + new["expected"].get(name, 0.0)) / 2
        for name in {**old["propensities"], **new["propensities"]}
    }
    likely = [float(answer["propensities"].get(action, 0.0)) for answer in (old, new)]
    mixture = (1 - share) * likely[0] + share * likely[1]
    surprise = (reward - expected.get(action, 0.0)) / mixture
    champion, challenger = (
        _mean(answer["propensities"], expected) + p * surprise for answer, p in zip((old, new), likely, strict=True)
    )
    return champion, challenger


def _mean(likely: Mapping[str, float], expected: Mapping[str, float]) -> float:
    return sum(p * expected.get(name, 0.0) for name, p in likely.items())
