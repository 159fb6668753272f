"""MNIST: seconds of training alone, from data in memory to the last weight update, beside the textbook Keras script.

    python benchmarks/mnist.py             # about three minutes; makes benchmarks/.venv-keras on first use
    python benchmarks/mnist.py --validate  # what settings are chosen by: 10,000 training rows held out, test untouched

Keras and ours alternate, three timings each, in processes of their own; accuracy of ours is the mean of five seeds.
Ours is the recipe ``cnn`` with its defaults on all 60,000 training rows; the clock holds everything ``fit`` does, also
building the network and asking the data about mirror images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from _common import HERE, environment, in_process, machine, mnist, table

TIMINGS, SEEDS = 3, 5
KERAS = ("tensorflow-cpu==2.21.*",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validate", action="store_true", help="hold out 10,000 training rows instead of the test set")
    parser.add_argument("--without-keras", action="store_true", help="ours alone")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    (images, labels), (test_images, test_labels) = mnist()
    if arguments.validate:
        order = np.random.default_rng(123).permutation(len(labels))
        test_images, test_labels = images[order[50_000:]], labels[order[50_000:]]
        images, labels = images[order[:50_000]], labels[order[:50_000]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mnist.npz"
        np.savez(file, images=images, labels=labels, test_images=test_images, test_labels=test_labels)
        peer = not (arguments.without_keras or arguments.validate)
        python = environment("keras", KERAS) if peer else None
        keras, few, many = [], [], []
        for seed in range(arguments.seeds):
            if python and seed < TIMINGS:
                keras.append(in_process(python, HERE / "mnist_keras.py", str(file), str(seed)))
            few.append(in_process(sys.executable, HERE / "mnist_ours.py", str(file), str(seed), "0.5"))
            many.append(in_process(sys.executable, HERE / "mnist_ours.py", str(file), str(seed)))
            print(f"seed {seed}: half an epoch {few[-1]}\n        defaults {many[-1]}", file=sys.stderr, flush=True)
    base = statistics.median(run["seconds"] for run in keras) if keras else None
    rows = []
    if base is not None:
        rows.append(line(f"Keras {keras[0]['version']}, 5 epochs", keras, base))
    rows.append(line("`cnn`, half an epoch", few, base))
    rows.append(line(f"`cnn`, defaults ({many[0]['fit_epochs']} epochs)", many, base))
    print(table(["training", "seconds (median of 3)", "share of Keras", "accuracy (mean)", "accuracies"], rows))


def line(name: str, runs: list[dict[str, float]], base: float | None) -> list[str]:
    seconds = statistics.median(run["seconds"] for run in runs[:TIMINGS])
    share = "-" if base is None else f"1/{base / seconds:.1f}"
    accuracies = [100 * run["accuracy"] for run in runs]
    each = " ".join(f"{a:.2f}" for a in accuracies)
    return [name, f"{seconds:.2f}", share, f"{statistics.mean(accuracies):.3f} %", each]


if __name__ == "__main__":
    main()
