"""Rewards of choices, settled: what each choice earned, and what it teaches or judges.

A reward belongs to one choice, not to its inputs: two choices in equal contexts earn two rewards. The newest statement
counts, whoever made it, as long as it came within the horizon; where nothing came until then, the choice earned what
silence means. Every choice was drawn with a known probability, so all traffic may judge, not only what an audit drew:
a hash of its id says which choices do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable

from tidemill.config import Bandit, Config, parse_duration
from tidemill.data.offers import ACTION, EVENT, FEATURE, OFFER, PROPENSITY, offered_text, offers_of
from tidemill.data.settled import LiveSample, Settled, Tried, settled_labels
from tidemill.data.stated import LabelOf
from tidemill.records import Feedback, Prediction
from tidemill.store import Store

REWARDS = ("reward", "rating")
"""The kinds of feedback that state what a choice earned."""
_AT_ONCE = 5000


def settled_for(
    store: Store,
    kind: str,
    label_of: LabelOf,
    config: Config,
    *,
    until: float | None = None,
    imported: float = 0.0,
    tried: Tried | None = None,
) -> Settled:
    """What people said before *until* (UTC seconds), settled as a task of that kind reads it: labels, or rewards.

    Args:
        store: the project's store; its journal should have been folded before.
        kind: of the task's signatures.
        label_of: the task's reading of a piece of feedback.
        config: whose word counts for how much; horizon and silence; the shares of the splits.
        until: ignore what was said later.
        imported: the weight of the training samples that come from the project's sources.
        tried: what became of doubts.
    """
    if kind == "choice":
        return settled_rewards(store, label_of, config, until=until)
    return settled_labels(store, label_of, until=until, policy=config.feedback, imported=imported, tried=tried)


def settled_rewards(store: Store, label_of: LabelOf, config: Config, *, until: float | None = None) -> Settled:
    """What each choice in traffic earned; see :func:`settled_for`."""
    moment = time.time() if until is None else until
    horizon = horizon_of(config.bandit)
    said = store.find(Feedback, kind=list(REWARDS), created_before=until)
    stated: dict[str, list[Feedback]] = {}
    for item in said:
        if not item.erased:
            stated.setdefault(item.subject, []).append(item)
    live: list[LiveSample] = []
    for prediction in _choices(store, stated, horizon, moment, until):
        reward = reward_of(stated.get(prediction.id, ()), prediction, label_of, horizon)
        if reward is None and horizon is not None and prediction.created + horizon <= moment:
            reward = config.bandit.silence
        if reward is not None:
            split = split_of(prediction.id, config.splits.validation, config.splits.reference)
            live.append(LiveSample(prediction=as_logged(prediction), label=reward, split=split, weight=1.0))
    live.sort(key=lambda sample: sample.prediction.id)
    return Settled(live=live, statements=len(said))


def horizon_of(bandit: Bandit) -> float | None:
    """Seconds for which a reward may take; ``None`` for ever."""
    return None if bandit.horizon is None else parse_duration(bandit.horizon)


def reward_of(
    statements: Iterable[Feedback], prediction: Prediction, label_of: LabelOf, horizon: float | None
) -> float | None:
    """What the newest statement within the horizon says; ``None`` when there is none."""
    last = prediction.created + (float("inf") if horizon is None else horizon)
    for item in sorted(statements, key=lambda item: (item.created, item.id), reverse=True):
        if item.created <= last and (reward := label_of(item, prediction)) is not None:
            return float(reward)
    return None


def _choices(
    store: Store, stated: dict[str, list[Feedback]], horizon: float | None, moment: float, until: float | None
) -> Iterable[Prediction]:
    """The choices whose reward may be known: those spoken of, and with a horizon those that are older than it."""
    named = [subject for subject in stated if subject.startswith(Prediction.prefix)]
    seen: set[str] = set()
    for start in range(0, len(named), _AT_ONCE):
        for prediction in store.find(Prediction, id=named[start : start + _AT_ONCE], created_before=until):
            if is_choice(prediction):
                seen.add(prediction.id)
                yield prediction
    if horizon is not None:
        for prediction in store.find(Prediction, created_before=moment - horizon):
            if prediction.id not in seen and is_choice(prediction):
                yield prediction


def is_choice(prediction: Prediction) -> bool:
    """Whether a prediction is a choice that can be learned from: its action is known, and with which probability."""
    return not prediction.erased and ACTION in prediction.answer and PROPENSITY in prediction.answer


def as_logged(prediction: Prediction) -> Prediction:
    """A choice with what its log says among its inputs, as a row of a source has it."""
    answer = prediction.answer
    features = described(prediction)
    logged = {ACTION: answer[ACTION], PROPENSITY: answer[PROPENSITY], EVENT: prediction.id}
    return dataclasses.replace(prediction, inputs={**prediction.inputs, **features, **logged})


def described(prediction: Prediction) -> dict[str, object]:
    """The features of the chosen action as columns, where its offer has any."""
    text = offered_text(prediction.inputs.get(OFFER))
    offer = None if text is None else offers_of([text])[0]
    chosen = next((action for action in offer or () if action["name"] == prediction.answer[ACTION]), {})
    return {FEATURE + name: value for name, value in chosen.items() if name != "name"}


def split_of(identifier: str, validation: float, reference: float) -> str:
    """Whether a choice trains, chooses among models, or judges: by a hash of its id, for good.

    >>> sorted({split_of(f"pred_{n}", 0.2, 0.2) for n in range(50)})
    ['recent-test', 'recent-validation', 'train']
    """
    point = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big") / 2**64
    if point < reference:
        return "recent-test"
    return "recent-validation" if point < reference + validation else "train"
