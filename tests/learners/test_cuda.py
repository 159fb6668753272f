"""Training on a CUDA device: what is promised of the CPU holds there. Skipped by name where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _problems import digits, fit, same, table

from _checkpoints import WORDS, Checkpoints
from tidemill.data.arrays import Ragged
from tidemill.engines.parallel import ParallelEngine
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner
from tidemill.learners.gradient.together import processes, train_together
from tidemill.packages.graph import open_graph, tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

PLAIN: dict[str, Any] = {"epochs": 3, "batch_size": 64, "augment": False, "precision": "float32", "learning_rate": 0.01}


WIDE = """
from torch import nn

class Wide(nn.Module):
    def __init__(self, classes, width=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, image):
        return self.layers(image.float().flatten(1) / 255)
"""


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """A network that does not normalise over a batch, so that parts of one give the gradients of the whole."""
    path = tmp_path / "wide.py"
    path.write_text(WIDE, encoding="utf-8")
    return f"{path}:Wide"


def on_the_device(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.network.state_dict().items()}


def test_the_device_is_chosen_and_convolutions_run_in_bfloat16() -> None:
    problem = digits(1200)
    model = fit(problem, "cnn", device="auto", params={"epochs": 12})
    assert model.summary["device"].startswith("cuda") and model.summary["precision"] == "bfloat16"
    scores = model.scores({"image": problem.features["image"][1200:]})
    assert (scores.argmax(1) == problem.target[1200:]).mean() > 0.95


def test_half_the_bits_lose_nothing_that_counts() -> None:
    problem = digits(1200)
    rows = {"image": problem.features["image"][1200:]}
    right = []
    for precision in ("float32", "bfloat16"):
        model = fit(problem, "cnn", device="cuda", params={"epochs": 12, "precision": precision})
        right.append((model.scores(rows).argmax(1) == problem.target[1200:]).mean())
    assert abs(right[0] - right[1]) < 0.02


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_tables_find_what_the_cpu_finds(kind: str) -> None:
    problem = table(kind)
    params = {**PLAIN, "epochs": 5, "average": 0.0}
    own, cpu = (fit(problem, "mlp", params=params, device=device) for device in ("cuda", "cpu"))
    assert own.summary["precision"] == "float32"
    assert np.allclose(own.scores(problem.features), cpu.scores(problem.features), rtol=0.02, atol=0.05)


def test_the_graph_of_what_was_trained_there_answers_alike_on_the_cpu() -> None:
    problem = digits(600, 800)
    model = fit(problem, "cnn", device="cuda", params={"epochs": 4})
    onnx = model.export().onnx
    assert onnx is not None
    given = {"image": problem.features["image"][600:]}
    graph = open_graph(onnx, problem.info).run(["scores"], tensors(given, ["image"]))[0]
    ours = model.scores(given)
    assert (graph.argmax(1) == ours.argmax(1)).mean() > 0.99
    assert np.allclose(graph, ours, atol=0.05)


def test_an_interrupted_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    problem = digits(600, 800)
    whole = fit(problem, "mlp", device="cuda", params={"epochs": 4, "dropout": 0.2}, max_epochs=4)

    def stop(epoch: int, _metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            problem,
            "mlp",
            device="cuda",
            params={"epochs": 4, "dropout": 0.2},
            max_epochs=4,
            workdir=tmp_path,
            report=stop,
        )
    again = fit(problem, "mlp", device="cuda", params={"epochs": 4, "dropout": 0.2}, max_epochs=4, workdir=tmp_path)
    assert again.summary["resumed"]
    for name, one in on_the_device(whole).items():
        assert np.allclose(one, on_the_device(again)[name], atol=1e-4), name


def test_a_device_that_runs_out_of_memory_trains_in_parts(wide: str) -> None:
    """Nothing is pretended: the process may take so little of the card that the batch does not fit."""
    problem = digits(1200)
    view = RecipeView(network={"name": "module", "ref": wide, "width": 32768}, params={**PLAIN, "batch_size": 1200})
    plain = GradientLearner().fit(problem, view, Context(device="cuda"))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3e8 / torch.cuda.mem_get_info()[1])
    try:
        short = GradientLearner().fit(problem, view, Context(device="cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert plain.summary["batch_parts"] == 1 and short.summary["batch_parts"] in (2, 4, 8, 16)
    assert short.summary["steps"] == plain.summary["steps"]
    assert np.allclose(plain.scores(problem.features), short.scores(problem.features), atol=0.02)


@pytest.mark.parametrize(("backend", "count"), [("nccl", 1), ("gloo", 2)])
def test_processes_that_train_together(tmp_path: Path, wide: str, backend: str, count: int) -> None:
    """NCCL wants a card for each; over gloo two share the one that there is."""
    problem = digits(600, 800)
    view = RecipeView(network={"name": "module", "ref": wide}, params=PLAIN)
    alone = GradientLearner().fit(problem, view, Context(max_epochs=3, device="cuda"))
    team = ParallelEngine(processes=count, threads=2, log=tmp_path / "log")
    context = Context(max_epochs=3, device="cuda", workdir=tmp_path)
    shared = train_together(problem, view, context, team, count, backend=backend)
    assert shared.summary["processes"] == count and shared.summary["device"].startswith("cuda")
    assert np.allclose(alone.scores(problem.features), shared.scores(problem.features), atol=0.02)


def test_never_more_processes_than_cards() -> None:
    problem = digits(1200)
    cards = torch.cuda.device_count()
    assert processes(problem, RecipeView(params={"batch_size": 512}), Context(device="cuda"), 64) == min(64, cards)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_frozen_features_are_those_of_the_cpu(
    checkpoints: Checkpoints, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    given: Any = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    if family == "bert":
        given = Ragged.from_strings([" ".join(rng.choice(WORDS, 1 + row % 7)) for row in range(40)])
    found = []
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        step = {"step": "encoder", "checkpoint": checkpoints.reference(family), "columns": ["input"]}
        pipeline = Pipeline([step], None)
        pipeline.fit([{"input": given}])
        found.append(np.asarray(pipeline.transform({"input": given})["x"]))
    assert np.allclose(found[0], found[1], atol=1e-2) and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_fine_tuning_a_checkpoint(checkpoints: Checkpoints, adapter: str | None) -> None:
    reference = checkpoints.reference("bert")
    texts = Ragged.from_strings(["lovely thanks", "broken late"] * 60)
    pipeline = Pipeline([{"step": "tokenizer", "checkpoint": reference, "columns": ["input"]}], None)
    pipeline.fit([{"input": texts}])
    problem = Problem(
        kind="classification", features=pipeline.transform({"input": texts}), info=pipeline.info(),
        target=np.arange(120) % 2, train=100, classes=2,
    )  # fmt: skip
    network = {"name": "pretrained", "checkpoint": reference, "adapter": adapter}
    view = RecipeView(network=network, params={"epochs": 10, "batch_size": 10, "learning_rate": 3e-3})
    model = GradientLearner().fit(problem, view, Context())
    assert model.summary["precision"] == "bfloat16"
    assert (model.scores(problem.features).argmax(1) == problem.target).all()
    assert model.export().onnx is not None


def test_the_same_weights_again() -> None:
    problem = digits(600, 800)
    one, other = (fit(problem, "mlp", device="cuda", params=PLAIN, seed=3, max_epochs=3) for _ in range(2))
    assert same(on_the_device(one), on_the_device(other))
