"""Several processes train one network: the same weights as one, the same export; one that dies is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from _problems import digits

from tidemill.engines.parallel import ParallelEngine
from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Sparse
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner, GradientModel
from tidemill.learners.gradient.batches import Batches
from tidemill.learners.gradient.together import processes, train_together

PARAMS = {"epochs": 3, "batch_size": 64, "augment": False, "precision": "float32", "learning_rate": 0.01}
DYING = """
import os, signal
from torch import nn

class Dying(nn.Module):
    '''The second process dies in its third step.'''

    def __init__(self, classes):
        super().__init__()
        self.layer, self.steps = nn.Linear(64, classes), 0

    def forward(self, image):
        self.steps += self.training
        if self.steps == 3 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(image.float().flatten(1) / 255)
"""


def bag(rows: int = 400) -> Problem:
    """Which of two groups of columns a sparse row has more of."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, rows)
    indices = (rng.integers(0, 40, (rows, 8)) * 2 + target[:, None]).astype(np.int32)
    ngrams = Sparse(indices.ravel(), np.ones(rows * 8, np.float32), np.arange(rows + 1) * 8, 80)
    info = {"ngrams": FeatureInfo("sparse", (80,))}
    weight = rng.random(rows).astype(np.float32)
    return Problem(kind="classification", features={"ngrams": ngrams}, info=info, target=target, train=300, classes=2,
                   weight=weight)  # fmt: skip


def both(problem: Problem, network: dict[str, object], folder: Path) -> tuple[GradientModel, GradientModel]:
    view = RecipeView(network=network, params=PARAMS)
    curves: list[list[tuple[int, dict[str, float]]]] = [[], []]
    one = GradientLearner().fit(
        problem, view, Context(max_epochs=3, device="cpu", report=lambda e, m: curves[0].append((e, m)))
    )
    team = ParallelEngine(processes=2, threads=2, log=folder / "log")
    context = Context(max_epochs=3, device="cpu", workdir=folder, report=lambda e, m: curves[1].append((e, m)))
    two = train_together(problem, view, context, team, 2)
    assert [epoch for epoch, _ in curves[1]] == [1, 2, 3]
    for (_, alone), (_, shared) in zip(*curves, strict=True):
        assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], abs=1e-3)
        assert shared["training_loss"] == pytest.approx(alone["training_loss"], abs=1e-3)
    return one, two


def test_two_processes_find_the_weights_that_one_finds(tmp_path: Path) -> None:
    problem = bag()
    one, two = both(problem, {"name": "ngram", "size": 8, "dropout": 0.0}, tmp_path)
    assert type(two) is type(one) and two.spec == one.spec
    assert {**two.summary, "seconds": 0, "processes": 1, "threads": 0} == {**one.summary, "seconds": 0, "threads": 0}
    assert two.summary["processes"] == 2
    for ours, theirs in zip(one.network.parameters(), two.network.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-3)
    assert np.allclose(one.scores(problem.features), two.scores(problem.features), atol=5e-3)
    assert two.export().onnx is not None
    assert not list(tmp_path.glob("together-*"))


def test_one_that_dies_ends_the_training_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING, encoding="utf-8")
    view = RecipeView(network={"name": "module", "ref": f"{tmp_path / 'dying.py'}:Dying"}, params=PARAMS)
    team = ParallelEngine(processes=2, threads=2, log=tmp_path / "log")
    with pytest.raises(TrainingError, match="process 2 of 2 was killed by signal 9"):
        train_together(digits(300, 400), view, Context(max_epochs=3, device="cpu"), team, 2)


def test_processes_share_a_batch_among_them() -> None:
    problem = digits(200)
    alone = Batches(problem.features, problem.target, None, 200, 30, 7, torch.device("cpu"))
    parts = [
        Batches(problem.features, problem.target, None, 200, 30, 7, torch.device("cpu"), place=(rank, 4))
        for rank in range(4)
    ]
    for whole, *shares in zip(alone.epoch(1), *(part.epoch(1) for part in parts), strict=True):
        assert [len(share.target) for share in shares] == [8, 8, 7, 7]
        images = torch.cat([share.features["image"] for share in shares]).flatten(1)
        assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, whole.features["image"].flatten(1).tolist()))


def test_small_steps_stay_with_one_process() -> None:
    view, context = RecipeView(params={"batch_size": 64}), Context(device="cpu")
    assert processes(digits(1000), view, context, 2) == 1
    assert processes(digits(1000), RecipeView(params={"batch_size": 1000}), context, 2) == 2
    large = Problem(
        kind="classification", features={"image": np.zeros((100, 64, 64, 3), np.uint8)},
        info={"image": FeatureInfo("uint8", (64, 64, 3))}, target=np.zeros(100, np.int64), train=100, classes=2,
    )  # fmt: skip
    assert processes(large, RecipeView(params={"batch_size": 6}), context, 8) == 3
