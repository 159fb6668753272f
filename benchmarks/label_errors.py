"""How many wrong labels stand at the front of the queue, and what correcting them is worth.

    python benchmarks/label_errors.py            # digits and AG News, 5 seeds each: about ten minutes
    python benchmarks/label_errors.py --quick    # one seed, AG News cut to 2,000 rows: about a minute

A tenth of all labels are flipped: to any other label at random, or by class, each label to one and the same other. The
order is that of the queue (`tidemill.monitor.label_quality`, by scores of the task's quick recipe that has not seen the
row); the peer is plain out-of-fold confidence, the probability of the stated label. Reported is the share of the
flipped labels among the first 15 % of the order. Then those 15 % are answered with the true labels, and the recipe
learns from the corrected, the flipped and the clean labels; what they get right is judged on rows that nothing was done
to.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import numpy.typing as npt

from _common import machine, table
from active import Rows, Set, accuracy, ag_news, digits, fit
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._folds import out_of_fold, taken
from tidemill.metrics.calibrators import fit_answer
from tidemill.monitor.label_quality import label_quality
from tidemill.runtime.answers import probabilities as by_spec

FLIPPED, LOOKED_AT = 0.10, 0.15
Floats = npt.NDArray[np.float64]


def flipped(target: npt.NDArray[np.int64], classes: int, *, by_class: bool, rng: np.random.Generator) -> Rows:
    """A copy in which a tenth of the labels are wrong."""
    wrong = rng.choice(len(target), round(FLIPPED * len(target)), replace=False)
    other = rng.permutation(classes)
    while (other == np.arange(classes)).any():
        other = rng.permutation(classes)
    found = target.copy()
    found[wrong] = (
        other[target[wrong]] if by_class else (target[wrong] + rng.integers(1, classes, len(wrong))) % classes
    )
    return found


def unseen(
    data: Set, rows: Rows, target: npt.NDArray[np.int64], seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Calibrated probabilities of each row by the quick recipe fitted on the other folds: on all rows there, and, as
    the project finds them, on those that the first time left no doubt of.
    """
    recipe = data.recipes[0]
    classes = len(data.signature.labels)
    validating = len(rows) // 10
    problem = Problem(
        kind="classification",
        features=taken(data.features, rows),
        info=data.info,
        target=target,
        train=len(rows) - validating,
        classes=classes,
    )
    learner, context = get_learner(recipe.learner), Context(seed=seed)
    first = learner.fit(problem, RecipeView(params=dict(recipe.params)), context)
    view = RecipeView(params={**recipe.params, **first.summary.get("chosen", {})})

    def judged(weight: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
        scores = out_of_fold(learner, dataclasses.replace(problem, weight=weight), view, context, 5, seed)
        spec = fit_answer({"kind": "classification", "labels": list(data.signature.labels)}, scores, target)
        return by_spec(spec, scores)

    once = judged(None)
    _, suspected = label_quality("classification", target, once)
    return once, judged(np.where(suspected, np.float32(0), np.float32(1)))


def caught(order: Rows, wrong: npt.NDArray[np.bool_]) -> float:
    """The share of the wrong labels among the first 15 %."""
    return float(wrong[order[: round(LOOKED_AT * len(order))]].sum() / wrong.sum())


def run(data: Set, seed: int, *, by_class: bool, most: int | None) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    pool, test = data.split(rng)
    rows = np.sort(rng.choice(pool, min(len(pool), most or len(pool)), replace=False))
    rows = rng.permutation(rows)  # the last tenth chooses parameters
    true = data.target[rows]
    stated = flipped(true, len(data.signature.labels), by_class=by_class, rng=rng)
    wrong = stated != true
    once, found = unseen(data, rows, stated, seed)
    quality, _ = label_quality("classification", stated, found)
    order = np.argsort(quality, kind="stable")
    plain = np.argsort(once[np.arange(len(rows)), stated], kind="stable")
    asked = order[: round(LOOKED_AT * len(order))]
    corrected = stated.copy()
    corrected[asked] = true[asked]

    def scored(target: npt.NDArray[np.int64]) -> float:
        whole = data.target.copy()
        whole[rows] = target
        known = dataclasses.replace(data, target=whole)
        return 100 * accuracy(data, fit(known, data.recipes[0], rows, seed), test)

    return {
        "queue": 100 * caught(order, wrong),
        "plain": 100 * caught(plain, wrong),
        "clean": scored(true),
        "flipped": scored(stated),
        "corrected": scored(corrected),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, AG News cut to 2,000 rows")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for make in (digits, ag_news):
        data = make()
        most = 2000 if arguments.quick and data.name != "digits" else None
        for by_class in (False, True):
            runs = [
                run(data, seed, by_class=by_class, most=most)
                for seed in range(1 if arguments.quick else arguments.seeds)
            ]
            mean = {name: float(np.mean([one[name] for one in runs])) for name in runs[0]}
            how = "by class" if by_class else "at random"
            line = [data.name, how, *(f"{mean[name]:.1f} %" for name in ("queue", "plain"))]
            rows.append([*line, *(f"{mean[name]:.2f} %" for name in ("clean", "flipped", "corrected"))])
            print("  ".join(rows[-1]), flush=True)
    head = ["data", "flipped", "queue", "plain confidence", "right: clean", "flipped", "corrected"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
