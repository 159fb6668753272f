"""What a training step costs above a bare PyTorch loop: on a tiny MLP with one thread, and on ``cnn``.

    python benchmarks/step_overhead.py                  # makes benchmarks/.venv-trainers on first use
    python benchmarks/step_overhead.py --without-peers

Ours keeps its defaults: shuffling, averaging of weights, the schedule, the watch over threads and interrupts; a
checkpoint folder is given. Each figure is the median of rounds in which bare loop and trainer alternate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from _common import HERE, environment, in_process, machine, mnist, table
from step_overhead_peers import BATCH, CLASSES, INPUTS, ROWS, bare, rows
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView

PEERS = {"Lightning": "lightning", "Accelerate": "accelerate", "Hugging Face Trainer": "transformers"}
REQUIREMENTS = ("torch==2.13.0", "lightning", "accelerate", "transformers", "numpy")


def tiny(folder: Path, rounds: int) -> tuple[float, float]:
    """Median seconds a step: bare, and ours minus bare."""
    x, y = (tensor.numpy() for tensor in rows())
    problem = Problem(
        kind="classification",
        features={"x": x},
        info={"x": FeatureInfo("float32", (INPUTS,))},
        target=y,
        train=ROWS,
        classes=CLASSES,
    )
    network = {"name": "module", "ref": f"{HERE / 'step_overhead_peers.py'}:Tiny"}
    params = {"epochs": 15, "batch_size": BATCH, "learning_rate": 1e-3, "label_smoothing": 0.0}
    recipe = RecipeView(network=network, params=params)
    floors, ours = [], []
    bare()
    for seed in range(rounds):
        floors.append(bare())
        context = Context(seed=seed, threads=1, device="cpu", workdir=folder / str(seed))
        facts = get_learner("gradient").fit(problem, recipe, context).summary
        ours.append(facts["seconds"] / facts["steps"])
    return statistics.median(floors), statistics.median(o - f for o, f in zip(ours, floors, strict=True))


def convolutional(folder: Path, rounds: int, threads: int) -> tuple[float, float]:
    """The same for the recipe ``cnn`` on MNIST, without augmentation on either side."""
    import torch
    from torch.nn import functional

    from tidemill.learners.gradient.device import bfloat16_pays, kept_memory
    from tidemill.networks import build_network

    (images, labels), _ = mnist()
    images, labels = images[:12_800], labels[:12_800]
    info = {"image": FeatureInfo("uint8", (28, 28, 1), {"mean": [33.0], "std": [78.0]})}
    problem = Problem(
        kind="classification", features={"image": images}, info=info, target=labels, train=len(labels), classes=10
    )
    recipe = RecipeView(network={"name": "cnn"}, params={"epochs": 1, "batch_size": 128, "augment": False})

    def loop() -> float:
        network = build_network({"name": "cnn"}, info, 10).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        lean = bfloat16_pays(torch.device("cpu"), network)
        with kept_memory():
            began = time.perf_counter()
            order = np.random.default_rng(0).permutation(len(labels))
            for first in range(0, len(labels), 128):
                chosen = order[first : first + 128]
                x, y = torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])
                with torch.autocast("cpu", torch.bfloat16, enabled=lean):
                    out = network(image=x)
                functional.cross_entropy(out.float(), y, label_smoothing=0.1).backward()
                optimizer.step()
                optimizer.zero_grad()
            return (time.perf_counter() - began) / (len(labels) // 128)

    torch.set_num_threads(threads)
    loop()
    floors, ours = [], []
    for seed in range(rounds):
        floors.append(loop())
        context = Context(seed=seed, threads=threads, device="cpu", max_epochs=1, workdir=folder / f"cnn{seed}")
        facts = get_learner("gradient").fit(problem, recipe, context).summary
        ours.append(facts["seconds"] / facts["steps"])
    return statistics.median(floors), statistics.median(o - f for o, f in zip(ours, floors, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-peers", action="store_true", help="ours alone")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="for cnn")
    arguments = parser.parse_args()
    print(machine(), flush=True)

    import torch

    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.set_num_threads(1)
        lines.append(line("tiny MLP", "Tidemill", *tiny(folder, arguments.rounds)))
        lines.append(line("`cnn`", "Tidemill", *convolutional(folder, arguments.rounds, arguments.threads)))
    if not arguments.without_peers:
        python = environment("trainers", REQUIREMENTS)
        for title, peer in PEERS.items():
            facts = in_process(python, HERE / "step_overhead_peers.py", peer)
            lines.append(line("tiny MLP", title, facts["bare"], facts["step"] - facts["bare"]))
    print(table(["network", "trainer", "bare loop, µs a step", "above it, µs", "above it, %"], lines))


def line(network: str, trainer: str, floor: float, above: float) -> list[str]:
    return [network, trainer, f"{1e6 * floor:.0f}", f"{1e6 * above:+.0f}", f"{100 * above / floor:+.1f}"]


if __name__ == "__main__":
    main()
