"""Sift: whether labels that the model's word alone speaks against do any harm.

Labels that hardly fit what the model said may come from somebody who lies, or from a world that has changed: then the
model is sure and wrong, and they are what it has to learn. The model cannot tell one from the other, but samples whose
labels are known can. A quick model learns from known samples alone, and another one from these and the doubtful labels:
when the second is worse on validation data of the project's sources, the labels contradict what is known, and stay held
back; otherwise they may train (*reject on negative impact*, Nelson et al., 2008). What changed elsewhere does not make
it worse; a lie about inputs like the known ones does. How much worse is measured against a third model, which learns as
many wrong labels of known inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from tidemill.data.arrays import Column, Rows, stacked
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.encode import encode
from tidemill.data.schema import Signature
from tidemill.data.settled import Doubt
from tidemill.data.targets import Stated
from tidemill.errors import InputError
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.records import Dataset, Recipe
from tidemill.store import Store
from tidemill.tasks import Task

LEAST_KNOWN, MOST_KNOWN = 300, 5000
"""Known samples that the quick models learn from: twice as many as there are doubtful ones, within these bounds."""
VALIDATING = 2000
SHARE = 1 / 3
"""Of the loss that as many lies would bring, this much shows that labels are no better."""
LEAST_LOSS = 0.01
"""Less than this is no loss."""

_FORMS = {"i": np.int64, "f": np.float32}

Columns = dict[str, Column]


def sift(
    store: Store, task: Task, doubts: Sequence[Doubt], *, until: float | None = None, seed: int = 0, threads: int = 1
) -> list[str]:
    """The marks of those *doubts* that do no harm, as far as the last dataset version tells.

    Args:
        until: leave later versions out of account, so that a resumed cycle comes to the same result.
        seed: of the samples that are drawn.
    """
    newest = store.find(Dataset, newest_first=True, limit=1, created_before=until)
    if not doubts or not newest:
        return []
    bench = _Bench(open_dataset(store.root, newest[0]), task, seed, threads)
    released: list[Doubt] = []
    for doubt in sorted(doubts, key=lambda d: (-len(d.samples), d.mark)):
        if bench.can_tell and not bench.harmed([*released, doubt]):
            released.append(doubt)
    return [doubt.mark for doubt in released]


class _Bench:
    """Known samples of a version, and the quick model that learns from them."""

    def __init__(self, dataset: DatasetArrays, task: Task, seed: int, threads: int) -> None:
        self._dataset = dataset
        self._signature = dataset.signature
        self._recipe = _quick(task, dataset.signature)
        self._context = Context(seed=seed, threads=threads, device="cpu")
        self._rng = np.random.default_rng(seed)
        self._train = self._rng.permutation(dataset.rows("train"))[:MOST_KNOWN]
        self._judge = np.sort(self._rng.permutation(dataset.rows("validation"))[:VALIDATING])
        self._stated = Stated(dataset.signature)
        labels = dataset.target[self._train]
        self.can_tell = len(self._judge) > 1 and len(labels) > 1 and bool((labels != labels[0]).any())

    def harmed(self, doubts: Sequence[Doubt]) -> bool:
        """Whether a model that learns the labels of *doubts*, too, is worse than one that does not."""
        columns, target = self._doubtful(doubts)
        if not len(target):
            return False
        known = np.sort(self._train[: max(LEAST_KNOWN, 2 * len(target))])
        pipeline = Pipeline(self._recipe.features, self._signature)
        pipeline.fit([self._dataset.columns(known)])
        without = self._quality(pipeline, known, {}, target[:0])
        lost = without - self._quality(pipeline, known, columns, target)
        chance = float(lost.std()) / np.sqrt(len(lost))
        if lost.mean() <= max(LEAST_LOSS, chance):
            return False
        lies = self._rng.choice(known, len(target))
        wrong = self._wrong(self._dataset.target[lies])
        would = without - self._quality(pipeline, known, self._dataset.columns(lies), wrong)
        return bool(lost.mean() > SHARE * would.mean())

    def _wrong(self, target: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels that are not those: the next one, or those of others."""
        if self._signature.kind == "classification":
            return np.asarray((target + 1) % len(self._signature.labels), target.dtype)
        return self._rng.permutation(target)

    def _doubtful(self, doubts: Sequence[Doubt]) -> tuple[Columns, npt.NDArray[Any]]:
        """The inputs and labels of *doubts*, as far as the version knows such inputs and labels."""
        found: list[Columns] = []
        values = []
        for inputs, label in (sample for doubt in doubts for sample in doubt.samples):
            value = self._stated.value(label)
            if value is None:
                continue
            try:
                found.append(encode(self._signature, [inputs]))
            except InputError:  # of fields that the project had before
                continue
            values.append(value)
        columns = {name: stacked([one[name] for one in found]) for name in found[0]} if found else {}
        return columns, np.array(values, self._dataset.target.dtype)

    def _quality(
        self, pipeline: Pipeline, known: Rows, columns: Columns, target: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """How well each validation row is answered by a model of the known rows and of those in *columns*."""
        parts = [self._dataset.columns(known), *([columns] if len(target) else []), self._dataset.columns(self._judge)]
        features = pipeline.transform({name: stacked([part[name] for part in parts]) for name in parts[0]})
        truth = self._dataset.target[self._judge]
        targets = np.concatenate([self._dataset.target[known], target, truth])
        several = targets.ndim > 1
        problem = Problem(
            kind=self._signature.kind,
            features=features,
            info=pipeline.info(),
            target=(targets > 0).astype(np.uint8) if several else targets.astype(_FORMS[targets.dtype.kind]),
            train=len(targets) - len(truth),
            classes=max(1, len(self._signature.labels)),
        )
        view = RecipeView(params=dict(self._recipe.params))
        fitted = get_learner(self._recipe.learner).fit(problem, view, self._context)
        scores = fitted.scores({name: array[problem.train :] for name, array in features.items()})
        return _quality(scores, truth)


def _quick(task: Task, signature: Signature) -> Recipe:
    """The recipe of the quick model: trees where the task has them, since they can learn one thing here and another
    there; else the last of the baselines.
    """
    recipes = task.recipes(signature)
    trees = [recipe for recipe in recipes if recipe.learner == "trees"]
    return trees[0] if trees else [recipe for recipe in recipes if recipe.baseline][-1]


def _quality(scores: npt.NDArray[Any], truth: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Between 0 and 1 for each row: the probability of its label or labels, or how near a number is.

    Probabilities tell of a lie long before answers do.
    """
    if truth.dtype.kind == "f":
        spread = float(np.abs(truth - np.median(truth)).mean()) or 1.0
        return np.asarray(1.0 / (1.0 + np.abs(scores[:, 0] - truth) / spread), np.float64)
    if truth.ndim > 1:
        return np.asarray(special.expit(np.where(truth > 0, scores, -scores)).mean(axis=1), np.float64)
    return np.asarray(special.softmax(scores, axis=1)[np.arange(len(truth)), truth], np.float64)
