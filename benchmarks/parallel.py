"""Two data-parallel processes on two cores beside one process with one thread, and one with two.

    python benchmarks/parallel.py            # MNIST and CIFAR10-5k; about 10 minutes
    python benchmarks/parallel.py --quick    # a tenth of MNIST, one round

The clock is training alone, from the first step to the last, as the summary of the run states it; what starting the
processes takes stands beside it. Rounds alternate between the contestants, and the figure is the median. Neither may be
slower than one: two processes not slower than one process with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import Arrays, cifar, machine, mnist, table
from tidemill.engines.parallel import ParallelEngine
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView

CONTESTANTS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 2)}


def problem_of(training: Arrays, test: Arrays, rows: int) -> Problem:
    """The first rows train, the test images only say how good it is."""
    images, labels = training[0][:rows], training[1][:rows]
    mean, std = (getattr(images, name)(axis=(0, 1, 2)).tolist() for name in ("mean", "std"))
    return Problem(
        kind="classification",
        features={"image": np.concatenate([images, test[0]])},
        info={"image": FeatureInfo("uint8", images.shape[1:], {"mean": mean, "std": std})},
        target=np.concatenate([labels, test[1]]),
        train=rows,
        classes=10,
    )


def fit(problem: Problem, epochs: float, processes: int, threads: int, folder: Path) -> dict[str, Any]:
    """Train once: seconds of training, seconds in all, accuracy on the held-out rows."""
    team = ParallelEngine(processes=2, threads=threads, log=folder / "log") if processes > 1 else None
    context = Context(threads=threads, device="cpu", team=team)
    began = time.perf_counter()
    # without validation the clock holds steps and nothing else
    rows = {name: array[: problem.train] for name, array in problem.features.items()}
    alone = Problem(
        kind=problem.kind, features=rows, info=problem.info, target=problem.target[: problem.train],
        train=problem.train, classes=problem.classes,
    )  # fmt: skip
    model = get_learner("gradient").fit(alone, RecipeView(network={"name": "cnn"}, params={"epochs": epochs}), context)
    whole = time.perf_counter() - began
    held = {name: array[problem.train :] for name, array in problem.features.items()}
    right = float((model.scores(held).argmax(1) == problem.target[problem.train :]).mean())
    assert model.summary["processes"] == processes
    return {"seconds": model.summary["seconds"], "start": whole - model.summary["seconds"], "accuracy": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of MNIST, one round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    sets = {"MNIST": (problem_of(*mnist(), rows=6_000 if arguments.quick else 60_000), 1.0)}
    if not arguments.quick:
        sets["CIFAR10-5k"] = (problem_of(*cifar(), rows=4_000), 8.0)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        for title, (problem, epochs) in sets.items():
            found: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in CONTESTANTS}
            for _ in range(1 if arguments.quick else arguments.rounds):
                for contestant, (processes, threads) in CONTESTANTS.items():
                    found[contestant].append(fit(problem, epochs, processes, threads, Path(name)))
            floor = statistics.median(run["seconds"] for run in found["one process, one thread"])
            for contestant, runs in found.items():
                middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                spread = [run["seconds"] for run in runs]
                lines.append([
                    title, contestant, f"{middle['seconds']:.2f} ({min(spread):.2f} to {max(spread):.2f})",
                    f"{floor / middle['seconds']:.2f}", f"{middle['start']:.1f}", f"{100 * middle['accuracy']:.2f} %",
                ])  # fmt: skip
    print(table(["data", "who", "seconds of training (range)", "times as fast", "starting, s", "accuracy"], lines))


if __name__ == "__main__":
    main()
