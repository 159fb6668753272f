"""The fast layer: between two cycles the policy that serves learns from rewards, within what the gate allowed.

A thread looks for rewards a few times a second. What the heads make of them is a snapshot, a version of the policy's
state; every process takes up the newest within moments, and each choice is logged with the snapshot that made it. The
next cycle learns from the same rewards anew, so that what the fast layer knows lives on in its model.

Of several processes that serve, one learns for all: whoever holds the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidemill.config import Bandit
from tidemill.data.encode import encode
from tidemill.data.offers import ACTION
from tidemill.data.rewards import REWARDS, as_logged, horizon_of, is_choice, reward_of
from tidemill.errors import BusyError, InputError, NotFoundError, NotReadyError, TidemillError
from tidemill.records import Cycle, Feedback, Model, Prediction, Run, StateSnapshot, new_id
from tidemill.runtime.choosing import ChoicePredictor
from tidemill.runtime.heads import Heads
from tidemill.serving._base import Served, ServedProject
from tidemill.serving.following import Follower
from tidemill.store import POLICY, Store, current_state, prune_states

logger = logging.getLogger("tidemill.serving")

AT_ONCE = 2000
"""Rewards of one snapshot at most: a flood of them shows in the policy while it is still coming."""
PATIENCE = 60.0
"""Seconds for which a reward waits for its choice to be in the tables."""


@dataclass(slots=True)
class _Progress:
    """Where learning stands, for one deployment.

    Attributes:
        deployment: its id.
        state: the newest snapshot; ``None`` while there is none.
        heads: what they know.
        through: the number of the last piece of feedback that was looked at.
        silent: UTC seconds; choices made before have been learned from, whether or not anybody spoke of them.
        updates: rewards learned from since the model was made.
        waiting: feedback whose choice is in no table yet.
    """

    deployment: str
    state: str | None
    heads: Heads
    through: int
    silent: float
    updates: int
    waiting: list[Feedback] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What one choice earned, and what was believed of it before, if anything was."""

    choice: Prediction
    reward: float
    before: float | None


class FastLayer:
    """Learns while it lives, where the model that serves is one that can.

    Args:
        project: whose policy.
        follower: gives what serves, and takes up what was learned.
        fold: folds the journal, so that the choices that rewards speak of are in the tables.
    """

    def __init__(self, project: ServedProject, follower: Follower, fold: Callable[[], object]) -> None:
        self._project = project
        self._follower = follower
        self._fold = fold
        self._progress: _Progress | None = None
        self._told = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where the project's task chooses and its settings allow it."""
        if self._project.task.kind == "choice" and self._project.config.bandit.fast:
            self._thread = threading.Thread(target=self._run, name="tidemill-learning", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop; what was learned is kept."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._project.config.bandit.fast_seconds):
            try:
                self.look()
            except TidemillError as error:
                self._say(f"rewards could not be learned from; they are kept: {error}")
            except Exception:  # answers go on by what the policy knows, whatever it is
                logger.exception("learning from rewards failed")

    def look(self) -> int:
        """Learn from what came since the last look; how many rewards."""
        try:
            served = self._follower.served()
        except NotReadyError:
            return 0
        if not isinstance(served.predictor, ChoicePredictor):
            return 0
        try:
            with self._project.store.lock("learning"):
                learned = self._learn(served, served.predictor)
        except BusyError:  # another process learns for this one, too
            self._progress = None
            return 0
        if learned:
            self._follower.look()
        return learned

    def _learn(self, served: Served, predictor: ChoicePredictor) -> int:
        store, bandit = self._project.store, self._project.config.bandit
        progress = self._resumed(store, served, predictor)
        room = bandit.updates - progress.updates
        if room <= 0:
            self._say(f"it has learned from {progress.updates:,} rewards, as many as it may before the next cycle")
            return 0
        read = min(AT_ONCE, room)
        found, progress.through = store.since(Feedback, progress.through, limit=read)
        said = [*progress.waiting, *(item for item in found if item.kind in REWARDS and not item.erased)]
        lessons = [*self._lessons(store, bandit, progress, said), *self._silent(store, bandit, progress, read)]
        heads, learned = self._taught(predictor, progress.heads, lessons, bandit)
        if not learned:
            return 0
        progress.heads = heads
        progress.updates += learned
        content = heads.to_bytes()
        snapshot = StateSnapshot(
            id=new_id(StateSnapshot.prefix),
            model_id=served.deployment.model_id,
            parent=progress.state or served.deployment.state_id,
            kind=POLICY,
            blob=store.blobs.put(content),
            size_bytes=len(content),
            reason=f"It learned from {learned:,} reward{'' if learned == 1 else 's'}.",
            decision_id=served.deployment.decision_id,
            facts={
                "deployment": served.deployment.id,
                "through": progress.through,
                "silent": progress.silent,
                "updates": progress.updates,
            },
        )
        store.insert(snapshot)
        progress.state = snapshot.id
        prune_states(store, served.deployment.model_id, bandit.snapshots)
        return learned

    def _resumed(self, store: Store, served: Served, predictor: ChoicePredictor) -> _Progress:
        """Where learning stands: as this process left it, else as the newest snapshot says."""
        snapshot = current_state(store, served.deployment)
        state = None if snapshot is None else snapshot.id
        kept = self._progress
        if kept is not None and kept.deployment == served.deployment.id and kept.state == state:
            return kept
        made = _learned_until(store, served.deployment.model_id)
        through, silent, updates = _number_before(store, made), made, 0
        heads = predictor.base
        if snapshot is not None:
            heads = Heads.from_bytes(store.blobs.get(snapshot.blob), snapshot.id)
            facts = snapshot.facts
            through, silent = int(facts["through"]), float(facts["silent"])
            if facts.get("deployment") == served.deployment.id:  # else it was gone back to, and begins to count anew
                updates = int(facts["updates"])
        self._progress = _Progress(served.deployment.id, state, heads, through, silent, updates)
        return self._progress

    def _lessons(
        self, store: Store, bandit: Bandit, progress: _Progress, said: Sequence[Feedback]
    ) -> Iterable[_Lesson]:
        """What the newest statements teach; those whose choice is in no table yet wait."""
        if not said:
            return []
        choices = _choices(store, [item.subject for item in said])
        if any(item.subject not in choices for item in said):
            self._fold()
            choices = _choices(store, [item.subject for item in said])
        fresh = time.time() - PATIENCE
        progress.waiting = [
            item
            for item in said
            if item.subject not in choices and item.subject.startswith(Prediction.prefix) and item.created > fresh
        ]
        horizon, label_of = horizon_of(bandit), self._project.task.label
        ids = {item.id for item in said}
        earlier: dict[str, list[Feedback]] = {}
        for item in store.find(Feedback, subject=list(choices), kind=list(REWARDS)):
            if item.id not in ids and not item.erased:
                earlier.setdefault(item.subject, []).append(item)
        lessons: dict[str, _Lesson] = {}
        for subject in dict.fromkeys(item.subject for item in said):
            choice = choices.get(subject)
            if choice is None or not is_choice(choice):
                continue
            now = [item for item in said if item.subject == subject]
            newest = max(item.created for item in now)
            before = reward_of(
                (item for item in earlier.get(subject, ()) if item.created <= newest), choice, label_of, horizon
            )
            reward = reward_of(now, choice, label_of, horizon)
            if before is None and choice.created < progress.silent and horizon is not None:
                before = bandit.silence  # it was taken for silence, and somebody had spoken in time
            if reward is not None and reward != before:
                lessons[subject] = _Lesson(choice, reward, before)
        return lessons.values()

    def _silent(self, store: Store, bandit: Bandit, progress: _Progress, most: int) -> list[_Lesson]:
        """Choices of which nobody has spoken within the horizon."""
        horizon = horizon_of(bandit)
        if horizon is None:
            return []
        until = time.time() - horizon
        found = store.find(
            Prediction, created_after=progress.silent, created_before=until, order_by="created", limit=most
        )
        progress.silent = found[-1].created if len(found) == most else max(progress.silent, until)
        choices = {choice.id: choice for choice in found if is_choice(choice)}
        spoken = {
            item.subject
            for item in store.find(Feedback, subject=list(choices), kind=list(REWARDS))
            if item.created <= choices[item.subject].created + horizon
        }
        return [_Lesson(choice, bandit.silence, None) for key, choice in choices.items() if key not in spoken]

    def _taught(
        self, predictor: ChoicePredictor, heads: Heads, lessons: Sequence[_Lesson], bandit: Bandit
    ) -> tuple[Heads, int]:
        """Heads that have learned, and from how many lessons; what no longer fits the model's inputs is passed over."""
        lessons = [lesson for lesson in lessons if self._fits(predictor, lesson)]
        if not lessons:
            return heads, 0
        records = [as_logged(lesson.choice).inputs for lesson in lessons]
        z = predictor.representation(encode(predictor.signature, records, logged=True))
        names = [str(lesson.choice.answer[ACTION]) for lesson in lessons]
        heads = heads.extended(names)
        code = {name: 0 if heads.shared else place for place, name in enumerate(heads.actions)}
        fresh = [row for row, lesson in enumerate(lessons) if lesson.before is None]
        action = [code[name] for name in names]
        if fresh:
            heads = heads.learned(
                z[fresh],
                np.array([action[row] for row in fresh]),
                np.array([lessons[row].reward for row in fresh]),
                memory=bandit.memory,
            )
        for row, lesson in enumerate(lessons):
            if lesson.before is not None:
                heads = heads.corrected(z[row], action[row], lesson.reward - lesson.before)
        return heads, len(lessons)

    @staticmethod
    def _fits(predictor: ChoicePredictor, lesson: _Lesson) -> bool:
        try:
            encode(predictor.signature, [as_logged(lesson.choice).inputs], logged=True)
        except InputError:
            return False
        return True

    def _say(self, what: str) -> None:
        if what != self._told:
            logger.warning("the policy learns no further: %s", what)
        self._told = what


def _choices(store: Store, subjects: Sequence[str]) -> dict[str, Prediction]:
    named = [subject for subject in dict.fromkeys(subjects) if subject.startswith(Prediction.prefix)]
    return {choice.id: choice for choice in store.find(Prediction, id=named)} if named else {}


def _learned_until(store: Store, model_id: str) -> float:
    """UTC seconds up to which rewards are in the model itself: when its cycle began."""
    try:
        run_id = store.get(Model, model_id).run_id
        cycle_id = None if run_id is None else store.get(Run, run_id).cycle_id
        return store.get(Cycle, cycle_id).created if cycle_id is not None else store.get(Model, model_id).created
    except NotFoundError:
        return time.time()


def _number_before(store: Store, moment: float) -> int:
    """The number of the last piece of feedback before the first that came later than *moment*."""
    later = store.count(Feedback, created_after=moment)
    newest = store.newest(Feedback)
    return max(0, newest - later)
