"""A class more from a few samples, in seconds: what the model that serves has learned stays, and a snapshot joins it.

The samples are also kept as predictions with the new label, as if an annotator had given it: the next cycle trains on
them like on everything that people said, and `tidemill forget` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.encode import decode_row, encode
from tidemill.data.keys import content_keys, key_text
from tidemill.data.learned import CLASSES
from tidemill.errors import ConflictError, InputError, NotReadyError
from tidemill.gate import Judged, Verdict, judge_class, level
from tidemill.learners import prototypes
from tidemill.loop._base import OnEvent, Setting, unheard
from tidemill.loop.fitting import unfit
from tidemill.loop.judging import current_generation, policy_of
from tidemill.loop.outside import last_cycle
from tidemill.records import (
    Annotation,
    Decision,
    Deployment,
    Generation,
    Model,
    Prediction,
    StateSnapshot,
    new_id,
)
from tidemill.runtime import Predictor, load
from tidemill.runtime.classes import Classes, unit
from tidemill.runtime.learned import Inside, with_classes
from tidemill.stages.deploy import deploy_state
from tidemill.store import Store, new_prediction_id

FEWEST, MOST = 2, 500
"""Samples of a new class: one has nothing to be compared with, and of many a cycle makes more."""
_OLD_ROWS, _PER_CLASS = 5000, 200
_CHUNK = 1024
_ALARMS = 0.25
"""Of what the old classes may lose, the part that validation rows may show already."""
_SHARPNESS = 30.0
"""How much the log odds of the new class grow with the cosine."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it.

    Attributes:
        decision: the gate's.
        snapshot: the new state; ``None`` when it was refused.
        deployment: what put it into force; ``None`` likewise.
        samples: ids of the predictions that keep the samples; none likewise.
    """

    decision: Decision
    snapshot: StateSnapshot | None
    deployment: Deployment | None
    samples: tuple[str, ...]


def learn_class(
    setting: Setting,
    name: str,
    records: Sequence[Mapping[str, Any]],
    *,
    author: str,
    reason: str | None = None,
    on_event: OnEvent = unheard,
) -> Learned:
    """Teach the model that serves one class more.

    Args:
        name: of the class.
        records: its samples, one mapping each as :func:`tidemill.data.encode.encode` takes them.
        author: who says that they are of it.
        reason: why, in words.
        on_event: told what happens.

    Raises:
        ConflictError: the model knows the class already.
        InputError: too few or too many samples, the same one twice, one that does not fit, or no task of one label.
        NotReadyError: nothing serves yet, or no cycle's data is there.
        PackageError: the model has no representation in which classes could be compared.
        BusyError: a cycle is running.
    """
    with setting.store.lock("cycle"):
        return _Lesson(setting, name, records, on_event).learn(author, reason)


class _Lesson:
    """One class, one model, one set of old rows."""

    def __init__(self, setting: Setting, name: str, records: Sequence[Mapping[str, Any]], on_event: OnEvent) -> None:
        self.setting = setting
        self.store = setting.store
        self.name = name
        self.say = on_event
        self.force = _in_force(self.store)
        self.model = self.store.get(Model, self.force.model_id)
        version = last_cycle(setting)[1]
        self.dataset = open_dataset(self.store.root, version)
        self.inside = _inside(setting, self.store.root / self.model.path, self.dataset)
        self.parent = _snapshot(self.store, self.force)
        self.known = None if self.parent is None else Classes.from_bytes(self.store.blobs.get(self.parent.blob))
        _require(self.inside, self.known, name, len(records))
        self.columns = encode(self.inside.signature, records)
        self.keys = [key_text(key) for key in content_keys(self.columns, self.inside.signature)]
        if len(set(self.keys)) < len(self.keys):
            raise InputError("a sample is given twice", mend="Give different ones: the same one teaches nothing new.")

    def learn(self, author: str, reason: str | None) -> Learned:
        """Learn, judge, and put into force."""
        self.say({"stage": "learn", "what": "reading the old classes"})
        new = self.inside.inner(self.columns)
        base = self.known or self._space(len(new))
        alarms = self._nearness(base, "validation")
        hits, offset = _taught(base, base.placed(new), alarms, self.setting.config.gate.slice_margin * _ALARMS)
        found = base.with_class(self.name, base.placed(new).mean(axis=0), offset)
        self.say({"stage": "learn", "what": "looking at what the old classes lose"})
        generation = current_generation(self.store, self.setting.config)
        verdict = self._judge(found, hits, generation)
        return self._keep(found, verdict, generation, author, reason)

    def _space(self, shots: int) -> Classes:
        """The old classes' prototypes, in the space that does best on classes held out."""
        rows = _spread(self.dataset, "train", self.inside.signature.labels)
        inner = self._inner(rows)
        codes = self._codes(rows)
        space = prototypes.best_space(inner, codes, shots=shots, seed=0)
        old = prototypes.prototypes(space.placed(inner), codes, len(self.inside.signature.labels))
        none = np.zeros((0, old.shape[1]), np.float32)
        return Classes((), space.centre, space.matrix, old, none, np.zeros(0, np.float32), _SHARPNESS)

    def _codes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The labels of rows as the model numbers them."""
        place = {label: code for code, label in enumerate(self.inside.signature.labels)}
        mapped = np.array([place.get(label, -1) for label in self.dataset.signature.labels], np.int64)
        return np.asarray(mapped[np.asarray(self.dataset.target[rows], np.int64)])

    def _inner(self, rows: npt.NDArray[np.int64]) -> Floats:
        return np.concatenate([self.inside.inner(columns) for columns in self.dataset.chunks(rows, _CHUNK)])

    def _nearness(self, base: Classes, split: str) -> Floats:
        """Old rows that train nothing here, placed: what must not be taken for the new class."""
        rows = self.dataset.rows(split)
        if not len(rows):
            rows = self.dataset.rows("train")
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _OLD_ROWS)).astype(np.int64)]
        return base.placed(self._inner(rows))

    def _judge(self, found: Classes, hits: Sequence[bool], generation: Generation) -> Verdict:
        before = self._predictor(self.known)
        after = self._predictor(found)
        policy = policy_of(self.setting.config)
        sets = []
        for split in ("reference", "recent-test"):
            rows = self.dataset.rows(split)
            rows = rows[[self.dataset.signature.labels[int(c)] != self.name for c in self.dataset.target[rows]]]
            if len(rows) and (split == "reference" or len(rows) >= policy.min_effective):
                sets.append(self._judged(split, rows, before, after))
        return judge_class(
            sets,
            hits,
            policy,
            name=self.name,
            level=level(policy, generation.spent),
            spent=generation.spent,
            margin_used=_margin_used(self.store),
            lost=self._lost(found),
        )

    def _judged(self, split: str, rows: npt.NDArray[np.int64], before: Predictor, after: Predictor) -> Judged:
        target = np.asarray(self.dataset.target[rows], np.int64)
        right = []
        for predictor in (before, after):
            parts = [self._answered(predictor, columns) for columns in self.dataset.chunks(rows, _CHUNK)]
            right.append((np.concatenate(parts) == target).astype(np.float64))
        return Judged(
            split=split.removesuffix("-test"),
            keys=np.asarray(self.dataset.keys[rows]),
            champion=right[0],
            challenger=right[1],
            weights=np.asarray(self.dataset.weight[rows], np.float64),
        )

    def _answered(self, predictor: Predictor, columns: Mapping[str, Any]) -> npt.NDArray[np.int64]:
        """The most probable label of each row as the dataset numbers it; -1 for one that it does not have."""
        own, wanted = predictor.signature.labels, self.dataset.signature.labels
        place = np.array([wanted.index(label) if label in wanted else -1 for label in own], np.int64)
        return np.asarray(place[predictor.probabilities(columns).argmax(axis=1)])

    def _predictor(self, classes: Classes | None) -> Predictor:
        if classes is None:
            return load(self.store.root / self.model.path, threads=self.setting.threads)
        return with_classes(self.inside, classes)

    def _lost(self, found: Classes) -> list[str]:
        """Classes learned before of whose samples more are lost than stay."""
        if self.known is None or self.parent is None:
            return []
        predictor, lost = self._predictor(found), []
        for name, samples in self.parent.facts["samples"].items():
            kept = [p.inputs for p in self.store.find(Prediction, id=samples) if not p.erased]
            answers = [answer["label"] for answer in predictor.predict(kept)] if kept else []
            if answers and 2 * sum(answer == name for answer in answers) <= len(answers):
                lost.append(name)
        return lost

    def _keep(
        self,
        found: Classes,
        verdict: Verdict,
        generation: Generation,
        author: str,
        reason: str | None,
    ) -> Learned:
        decision = Decision(
            id=new_id(Decision.prefix),
            cycle_id=None,
            challenger_id=new_id(StateSnapshot.prefix),
            champion_id=self.model.id,
            outcome=verdict.outcome,
            reason=verdict.reason,
            alpha=verdict.spends,
            generation=generation.number,
            evidence=verdict.evidence,
        )
        samples = self._samples(author) if verdict.outcome == "promoted" else []
        content = found.to_bytes()
        before = {} if self.parent is None else self.parent.facts["samples"]
        snapshot = StateSnapshot(
            id=decision.challenger_id,
            model_id=self.model.id,
            parent=None if self.parent is None else self.parent.id,
            kind=CLASSES,
            blob=self.store.blobs.put(content) if samples else "",
            size_bytes=len(content),
            reason=reason or f"learned {self.name!r} from {len(self.keys)} samples",
            decision_id=decision.id,
            facts={"labels": list(found.labels), "samples": {**before, self.name: [p.id for p, _ in samples]}},
        )
        deployment = deploy_state(self.store, decision, generation, snapshot, samples, replaces=self.force)
        self.say({"stage": "deploy", "what": f"{decision.outcome}: {decision.reason}"})
        kept = None if deployment is None else snapshot
        return Learned(decision, kept, deployment, tuple(p.id for p, _ in samples))

    def _samples(self, author: str) -> list[tuple[Prediction, Annotation]]:
        """The samples as predictions of the model as it was, each with its label."""
        predictor = self._predictor(self.known)
        answers = predictor.answers(predictor.scores(self.columns))
        made = []
        for row, (key, answer) in enumerate(zip(self.keys, answers, strict=True)):
            prediction = Prediction(
                id=new_prediction_id(self.store.secret),
                deployment=self.force.id,
                model_id=self.model.id,
                state_id=self.force.state_id,
                key=key,
                inputs=decode_row(self.inside.signature, self.columns, row),
                answer=answer,
                caller=author,
            )
            label = Annotation(
                id=new_id(Annotation.prefix),
                subject=prediction.id,
                label=self.name,
                author=author,
                purpose="import",
                note=f"a sample of the new class {self.name!r}",
            )
            made.append((prediction, label))
        return made


def _margin_used(store: Store) -> float:
    """Quality given away since the last superiority winner, which this changes nothing of."""
    last = store.find(Decision, outcome="promoted", newest_first=True, limit=1)
    return float(last[0].evidence.get("margin_used_after", 0.0)) if last else 0.0


def _in_force(store: Store) -> Deployment:
    deployment = store.champion()
    if deployment is None:
        raise NotReadyError("no model serves yet that could learn a class", mend="Run `tidemill cycle` first.")
    return deployment


def _snapshot(store: Store, deployment: Deployment) -> StateSnapshot | None:
    return None if deployment.state_id is None else store.get(StateSnapshot, deployment.state_id)


def _inside(setting: Setting, package: Path, dataset: DatasetArrays) -> Inside:
    if (why := unfit(package, dataset.signature)) is not None:
        raise NotReadyError(f"the model that serves cannot be judged: {why}", mend="Run `tidemill cycle` first.")
    inside = Inside(package, setting.threads)
    if inside.signature.kind != "classification":
        raise InputError(
            f"the task is {setting.task.name}, and classes are learned where one of several labels is right",
            mend="State the label in the data, and run `tidemill cycle`.",
        )
    return inside


def _require(inside: Inside, known: Classes | None, name: str, samples: int) -> None:
    """Refuse what makes no class."""
    labels = (*inside.signature.labels, *(known.labels if known is not None else ()))
    if not name.strip() or name != name.strip() or "\0" in name:
        raise InputError(f"{name!r} is no name of a class", mend="Give a text without blanks around it.")
    if name.casefold() in {label.casefold() for label in labels}:
        raise ConflictError(
            f"the model knows the class {name!r} already", mend="State it as feedback, or give the class another name."
        )
    if inside.manifest.answer.get("costs") is not None:
        raise InputError(
            f"what it costs to take {name!r} for another class is not known",
            where="decision.costs",
            mend="Add the label to the data and to decision.costs, and run `tidemill cycle`.",
        )
    if not FEWEST <= samples <= MOST:
        how = f"at least {FEWEST}, better 5" if samples < FEWEST else f"at most {MOST}; more belong in the data"
        raise InputError(f"{samples} samples are given", mend=f"Give {how}.")


def _spread(dataset: DatasetArrays, split: str, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """At most so many rows of each class that the model knows, evenly over the split."""
    rows = dataset.rows(split)
    codes = np.asarray(dataset.target[rows], np.int64)
    most = max(10, min(_PER_CLASS, _OLD_ROWS // max(1, len(labels))))
    kept = []
    for code, label in enumerate(dataset.signature.labels):
        found = rows[codes == code]
        if label in labels and len(found):
            kept.append(found[np.linspace(0, len(found) - 1, min(len(found), most)).astype(np.int64)])
    if not kept:
        raise NotReadyError("no training row has a label that the model knows", mend="Run `tidemill cycle` first.")
    return np.concatenate(kept)


def _taught(base: Classes, new: Floats, alarms: Floats, allowed: float) -> tuple[list[bool], float]:
    """Which samples are recognised when they are left out, and the offset of the class.

    Args:
        new: its samples, placed: ``[n, r]``.
        alarms: old rows, placed, of which not more than the share *allowed* may be taken for it.
    """
    total, n = new.sum(axis=0), len(new)
    away = (new @ base.old.T).max(axis=1)
    # nearness of each sample to the mean of the others
    others = unit((total - new) / max(n - 1, 1))
    near = (new * others).sum(axis=1) - away
    hits = []
    for i in range(n):
        rest = np.delete(near, i)
        hits.append(bool(near[i] > _offset(base, others[i], alarms, rest, allowed)))
    return hits, _offset(base, unit(total[None])[0], alarms, near, allowed)


def _offset(base: Classes, prototype: Floats, alarms: Floats, near: Floats, allowed: float) -> float:
    """How much nearer a row must be: beyond nearly all old rows, and a third of the way on to the samples."""
    old = alarms @ prototype - (alarms @ base.old.T).max(axis=1)
    least = float(np.quantile(old, 1 - allowed))
    return least + max(0.0, float(np.median(near)) - least) / 3
