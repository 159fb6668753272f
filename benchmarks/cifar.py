"""CIFAR10-5k: what the defaults that MNIST is measured with reach on 4,000 colour images, tested on 1,000.

python benchmarks/cifar.py     # about a minute
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from _common import HERE, cifar, in_process, machine, table

SEEDS = 3


def main() -> None:
    print(machine(), flush=True)
    (images, labels), (test_images, test_labels) = cifar()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cifar.npz"
        np.savez(file, images=images, labels=labels, test_images=test_images, test_labels=test_labels)
        runs = [in_process(sys.executable, HERE / "mnist_ours.py", str(file), str(seed)) for seed in range(SEEDS)]
    accuracies = [100 * run["accuracy"] for run in runs]
    row = [
        f"`cnn`, defaults ({runs[0]['fit_epochs']} epochs)",
        f"{statistics.median(run['seconds'] for run in runs):.2f}",
        f"{statistics.mean(accuracies):.1f} %",
        " ".join(f"{a:.1f}" for a in accuracies),
    ]
    print(table(["training", "seconds (median of 3)", "accuracy (mean of 3 seeds)", "accuracies"], [row]))


if __name__ == "__main__":
    main()
