"""A device that runs out of memory: the batch is halved, the step repeated, the result the same, and it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _problems import digits

from tidemill.errors import TrainingError
from tidemill.features._memory import memory_told, out_of_memory
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner, GradientModel

HUNGRY = """
import torch
from torch import nn

class Hungry(nn.Module):
    '''Has memory for so many rows, while it trains and while it answers.'''

    def __init__(self, classes, most=10**9, answers=10**9, norm=False):
        super().__init__()
        self.most, self.answers = most, answers
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32) if norm else nn.Identity(), nn.ReLU(),
                                    nn.Linear(32, classes))

    def forward(self, image):
        if len(image) > (self.most if self.training else self.answers):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return self.layers(image.float().flatten(1) / 255)
"""
PARAMS = {"epochs": 3, "batch_size": 64, "augment": False, "precision": "float32", "learning_rate": 0.01}


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hungry") / "hungry.py"
    path.write_text(HUNGRY, encoding="utf-8")
    return f"{path}:Hungry"


def fit(problem: Problem, ref: str, *, context: dict[str, Any] | None = None, **network: Any) -> GradientModel:
    spec = {"name": "module", "ref": ref, **network}
    view = RecipeView(network=spec, params=PARAMS)
    return GradientLearner().fit(problem, view, Context(max_epochs=3, device="cpu", **(context or {})))


def test_the_batch_is_halved_until_it_fits_and_the_weights_are_the_same(ref: str) -> None:
    problem = digits(300, 600)
    plain, short = fit(problem, ref), fit(problem, ref, most=20, answers=7)
    assert (plain.summary["batch_parts"], short.summary["batch_parts"]) == (1, 4)
    assert short.summary["steps"] == plain.summary["steps"] == 12 and short.summary["batch_size"] == 64
    for one, other in zip(plain.network.parameters(), short.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)
    rows = {"image": problem.features["image"][300:]}
    assert np.allclose(short.scores(rows), fit(problem, ref, most=20).scores(rows), atol=1e-5)


def test_weighted_rows_count_alike_in_parts(ref: str) -> None:
    problem = digits(300, 400)
    weight = np.random.default_rng(0).random(400).astype(np.float32)
    given = Problem(
        kind="classification", features=problem.features, info=problem.info, target=problem.target, train=300,
        classes=10, weight=weight,
    )  # fmt: skip
    plain, short = fit(given, ref), fit(given, ref, most=16)
    for one, other in zip(plain.network.parameters(), short.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


def test_a_resumed_training_keeps_to_the_parts(ref: str, tmp_path: Path) -> None:
    problem = digits(300, 400)
    whole = fit(problem, ref, most=20)

    def stop(_epoch: int, _metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(problem, ref, most=20, context={"workdir": tmp_path, "report": stop})
    again = fit(problem, ref, most=20, context={"workdir": tmp_path})
    assert again.summary["resumed"] and again.summary["batch_parts"] == 4
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("norm", "rows"), [(False, 1), (True, 2)])
def test_where_not_even_a_few_rows_fit_that_is_said(ref: str, norm: bool, rows: int) -> None:
    with pytest.raises(TrainingError, match=f"cpu has too little memory for a step on {rows} rows"):
        fit(digits(128, 200), ref, most=0, norm=norm)
    with pytest.raises(TrainingError, match="scoring one row"):
        fit(digits(128, 200), ref, answers=0)


def test_a_network_that_does_not_fit_at_all_is_said() -> None:
    with pytest.raises(TrainingError, match="too little memory for this network"), memory_told("this network"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")
    with pytest.raises(RuntimeError, match="shapes"), memory_told("this network"):
        raise RuntimeError("shapes cannot be multiplied")


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import torch
torch.set_num_threads(1)
from tidemill.features._base import FeatureInfo
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner
rng = np.random.default_rng(0)
x = rng.normal(size=(4096, 4)).astype(np.float32)
problem = Problem(kind="classification", features={"x": x}, info={"x": FeatureInfo("float32", (4,))},
                  target=(x[:, 0] > 0).astype(np.int64), train=3072, classes=2)
network = {"name": "mlp", "hidden": [16384]}
def fit(size, **more):
    view = RecipeView(network=network, params={"batch_size": size, "precision": "float32", "average": 0.0, **more})
    return GradientLearner().fit(problem, view, Context(max_epochs=1, threads=1, device="cpu"))
fit(32, epochs=0.02)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 500_000_000,) * 2)
print(fit(3072, optimizer="sgd").summary["batch_parts"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_machine_short_of_memory_trains_in_parts(tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED, encoding="utf-8")
    done = subprocess.run([sys.executable, script, tmp_path], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) in (2, 4, 8, 16)


def test_only_errors_of_memory_count() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert out_of_memory(RuntimeError("could not create a primitive"))
    assert not out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
