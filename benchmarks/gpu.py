"""Training on a CUDA device: rows a second in two number formats beside bare PyTorch loops, and memory that is short.

    python benchmarks/gpu.py            # about three minutes on one card; ends where there is none

`cnn` on MNIST with its defaults; `cnn` on images of 96 pixels a side; and the whole of a BERT of six layers, 384 wide
(the shape of MiniLM-L6), and of one of twelve, 768 wide (BERT base), random weights, on texts of 128 tokens. The bare
loop trains the same network on the same batches with AdamW in the same number format, its rows gathered as NumPy arrays
and moved from pinned memory, without averaging, schedule, checks or checkpoints; nothing is augmented on either side.
Rounds alternate; figures are medians of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from _common import mnist, table
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.networks import build_network

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device here; this benchmark measures one.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    found: dict[str, Any] = {"mnist": whole_mnist()}
    print(found["mnist"], flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, problem, network, params in jobs(Path(folder)):
            for precision in ("bfloat16", "float32"):
                runs = [
                    beside(problem, network, {**params, "precision": precision}) for _ in range(arguments.rounds + 1)
                ]
                ours, bare = (statistics.median(run[i] for run in runs[1:]) for i in (0, 1))
                found[f"{name} {precision}"] = {"ours": ours, "bare": bare}
                rows.append([name, precision, f"{ours:,.0f}", f"{bare:,.0f}", f"{ours / bare:.2f}"])
                print(rows[-1], file=sys.stderr, flush=True)
        found["parts"] = short_of_memory()
    print(table(["training", "format", "rows a second", "bare loop", "ratio"], rows))
    print(found["parts"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def whole_mnist() -> dict[str, Any]:
    """The recipe ``cnn`` with its defaults on all of MNIST; the second run, when the device is warm."""
    (images, labels), (test, truth) = mnist()
    problem = image_problem(images, labels, 10)
    runs = []
    for seed in range(4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        model = get_learner("gradient").fit(problem, RecipeView(network={"name": "cnn"}), Context(seed=seed, threads=8))
        seconds = time.perf_counter() - began
        accuracy = float((model.scores({"image": test}).argmax(1) == truth).mean())
        runs.append({"seconds": seconds, "accuracy": accuracy, "precision": model.summary["precision"]})
    return {"first": runs[0], "seconds": statistics.median(r["seconds"] for r in runs[1:]),
            "accuracy": statistics.mean(r["accuracy"] for r in runs[1:])}  # fmt: skip


def image_problem(images: Any, labels: Any, classes: int) -> Problem:
    channels = images.shape[-1]
    info = FeatureInfo("uint8", images.shape[1:], {"mean": [80.0] * channels, "std": [70.0] * channels})
    return Problem(kind="classification", features={"image": images}, info={"image": info}, target=labels,
                   train=len(labels), classes=classes)  # fmt: skip


def jobs(folder: Path) -> list[tuple[str, Problem, dict[str, Any], dict[str, Any]]]:
    (images, labels), _ = mnist()
    rng = np.random.default_rng(0)
    large = np.repeat(np.repeat(images[:8192, :24, :24], 4, axis=1), 4, axis=2).repeat(3, axis=3)
    small, base = bert(folder / "small", 6, 384, rng), bert(folder / "base", 12, 768, rng)
    plain = {"augment": False, "epochs": 1}
    return [
        ("`cnn`, MNIST", image_problem(images, labels, 10), {"name": "cnn"}, {**plain, "batch_size": 512}),
        ("`cnn`, 96 × 96 × 3", image_problem(large, labels[:8192], 10), {"name": "cnn"}, {**plain, "batch_size": 128}),
        ("BERT of 6 layers, 384 wide", *small, {**plain, "batch_size": 32, "learning_rate": 1e-4}),
        ("BERT of 12 layers, 768 wide", *base, {**plain, "batch_size": 64, "learning_rate": 1e-4}),
    ]


def bert(folder: Path, layers: int, width: int, rng: np.random.Generator) -> tuple[Problem, dict[str, Any]]:
    """Texts of 128 random tokens, and a checkpoint of random weights that reads them."""
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=30522, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
                        intermediate_size=4 * width, max_position_embeddings=512)  # fmt: skip
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    (folder / "tokenizer.json").write_text(Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")).to_str())
    tokens = rng.integers(4, 30522, (6400, 128), dtype=np.int32)
    problem = Problem(
        kind="classification", features={"tokens": tokens}, info={"tokens": FeatureInfo("int32", (128,))},
        target=rng.integers(0, 4, 6400), train=6400, classes=4,
    )  # fmt: skip
    return problem, {"name": "pretrained", "checkpoint": f"folder:{folder}"}


def beside(problem: Problem, network: dict[str, Any], params: dict[str, Any]) -> tuple[float, float]:
    """Rows a second of ours and of the bare loop."""
    recipe = RecipeView(network=network, params=params)
    facts = get_learner("gradient").fit(problem, recipe, Context(threads=8)).summary
    ours = facts["steps"] * facts["batch_size"] / facts["seconds"]
    return ours, bare(problem, network, params)


def bare(problem: Problem, spec: dict[str, Any], params: dict[str, Any]) -> float:
    device, size = torch.device("cuda"), params["batch_size"]
    network = build_network(spec, problem.info, problem.classes).to(device)
    if "image" in problem.info:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    rows = problem.train // size * size
    network.train()
    torch.cuda.synchronize()
    began = time.perf_counter()
    order = np.random.default_rng(0).permutation(problem.train)[:rows]
    for first in range(0, rows, size):
        chosen = order[first : first + size]
        given = {k: moved(v[chosen], device) for k, v in problem.features.items()}  # type: ignore[arg-type]
        target = moved(problem.target[chosen], device)
        with torch.autocast("cuda", torch.bfloat16, enabled=params["precision"] == "bfloat16"):
            out = network(**given)
        loss = functional.cross_entropy(out.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    return rows / (time.perf_counter() - began)


def moved(array: Any, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().to(device, non_blocking=True)


def short_of_memory() -> dict[str, Any]:
    """`cnn` on MNIST in batches of 4,096, first freely, then with a fourth of the memory that this took."""
    (images, labels), _ = mnist()
    problem = image_problem(images, labels, 10)
    view = RecipeView(network={"name": "cnn"}, params={"batch_size": 4096, "epochs": 1, "augment": False})
    whole = torch.cuda.mem_get_info()[1]
    out: dict[str, Any] = {}
    for name, share in (("free", 1.0), ("a fourth", 0.25)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        if share < 1:
            torch.cuda.set_per_process_memory_fraction(share * out["free"]["peak_bytes"] / whole)
        try:
            facts = get_learner("gradient").fit(problem, view, Context(threads=8)).summary
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        out[name] = {"parts": facts["batch_parts"], "steps": facts["steps"], "seconds": facts["seconds"],
                     "peak_bytes": torch.cuda.max_memory_reserved()}  # fmt: skip
    return out


if __name__ == "__main__":
    main()
