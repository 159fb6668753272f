"""The gradient learner on the real digits: it learns, resumes exactly after a kill, exports what it scores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from _problems import digits, fit, same, table, weights

from tidemill.errors import TrainingError
from tidemill.learners._base import Context, Problem, Pruned, RecipeView
from tidemill.learners.gradient import GradientLearner, merge, state
from tidemill.networks import build_network


def test_learns_the_digits_from_a_hundred_samples_and_better_from_a_thousand() -> None:
    few, many = digits(100), digits(1000)
    accuracy = []
    for problem in (few, many):
        model = fit(problem, params={"epochs": 60 if problem is few else 12})
        scores = model.scores({"image": problem.features["image"][1000:]})
        accuracy.append(float((scores.argmax(1) == problem.target[1000:]).mean()))
    assert accuracy[0] > 0.85
    assert accuracy[1] > 0.96


@pytest.mark.parametrize("name", ["cnn", "cnn-small", "mlp"])
def test_the_exported_graph_scores_as_the_network_does(name: str) -> None:
    problem = digits(300)
    model = fit(problem, name, params={"epochs": 1})
    export = model.export()
    assert export.onnx is not None
    assert export.tensors is not None
    session = onnxruntime.InferenceSession(export.onnx, providers=["CPUExecutionProvider"])
    for rows in (1, 37):
        batch = {"image": problem.features["image"][-rows:]}
        ours = model.scores(batch)
        theirs = session.run(["scores"], batch)[0]
        assert ours.shape == theirs.shape == (rows, 10)
        assert np.abs(ours - theirs).max() < 1e-4
    rebuilt = build_network(export.network or {}, problem.info, 10)
    rebuilt.load_state_dict({k: torch.from_numpy(v) for k, v in export.tensors.items()})
    with torch.no_grad():
        again = rebuilt.eval()(image=torch.from_numpy(batch["image"])).numpy()
    assert np.abs(ours - again).max() < 1e-5


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_tables_with_numbers_and_categories(kind: str) -> None:
    problem = table(kind)
    model = fit(problem, "mlp", params={"epochs": 20})
    held = {name: array[problem.train :] for name, array in problem.features.items()}
    scores, target = model.scores(held), problem.target[problem.train :]
    if kind == "classification":
        assert (scores.argmax(1) == target).mean() > 0.93
    else:
        assert ((scores[:, 0] - target) ** 2).mean() < 0.75 * target.var()
    onnx = model.export().onnx
    assert onnx is not None
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(["scores"], held)[0], scores, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    problem = digits(300)
    one, two, other = (weights(fit(problem, seed=seed, max_epochs=2)) for seed in (1, 1, 2))
    assert same(one, two)
    assert not same(one, other)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_gradient import digits, fit
params = {"epochs": 16, "batch_size": 16, "checkpoint_seconds": 0.0}
def report(epoch, metrics):
    print(epoch, flush=True)
fit(digits(200, 260), params=params, seed=3, workdir=Path(sys.argv[2]), report=report)
"""


def test_a_training_killed_in_the_middle_resumes_to_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    folder = tmp_path / "work"
    with subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 3:
                break
        time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert (folder / "checkpoint.safetensors").is_file()
    heard: list[int] = []
    params = {"epochs": 16, "batch_size": 16, "checkpoint_seconds": 0.0}
    resumed = fit(digits(200, 260), params=params, seed=3, workdir=folder, report=lambda epoch, _: heard.append(epoch))
    assert resumed.summary["resumed"]
    assert heard == list(range(1, 17))
    whole = fit(digits(200, 260), params=params | {"checkpoint_seconds": 1e6}, seed=3)
    assert not whole.summary["resumed"]
    assert same(weights(resumed), weights(whole))


def test_ctrl_c_ends_between_two_steps_and_leaves_a_checkpoint_that_resumes(tmp_path: Path) -> None:
    problem = digits(400)

    def interrupt(epoch: int, _: dict[str, float]) -> None:
        if epoch == 2:
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        fit(problem, params={"epochs": 20}, workdir=tmp_path, report=interrupt)
    resumed = fit(problem, params={"epochs": 20}, workdir=tmp_path)
    assert resumed.summary["resumed"]
    assert same(weights(resumed), weights(fit(problem, params={"epochs": 20})))


def test_wherever_the_checkpoint_was_written_the_rest_is_the_same(tmp_path: Path) -> None:
    problem = digits(150, 200)  # 4 steps an epoch: before, at and after the end of one
    params = {"epochs": 4, "batch_size": 32, "checkpoint_seconds": 0.0}
    curve: list[int] = []
    whole = weights(fit(problem, params=params, report=lambda epoch, _: curve.append(epoch)))
    written = state.write_checkpoint
    for stop in range(1, 14):
        count = 0

        def stop_after(*arguments: Any) -> None:
            nonlocal count
            written(*arguments)
            count += 1
            if count == stop:  # noqa: B023 - called within this turn of the loop
                raise Killed

        folder = tmp_path / str(stop)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("tidemill.learners.gradient.learner.write_checkpoint", stop_after)
            fit(problem, params=params, workdir=folder)
        heard: list[int] = []
        again = fit(problem, params=params, workdir=folder, report=lambda epoch, _: heard.append(epoch))  # noqa: B023
        assert again.summary["resumed"]
        assert same(weights(again), whole)
        assert heard == curve == [1, 2, 3, 4]


class Killed(BaseException):
    """Stands for the end of a process."""


def test_a_checkpoint_of_another_training_is_not_resumed(tmp_path: Path) -> None:
    problem = digits(200)
    fit(problem, params={"epochs": 1}, workdir=tmp_path)
    assert fit(problem, params={"epochs": 1}, workdir=tmp_path).summary["resumed"]
    assert not fit(problem, params={"epochs": 1}, workdir=tmp_path, seed=1).summary["resumed"]


def test_pruned_passes_through() -> None:
    def give_up(_epoch: int, _metrics: dict[str, float]) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        fit(digits(100), max_epochs=2, report=give_up)


def test_a_diverging_training_says_how_to_mend_it() -> None:
    with pytest.raises(TrainingError, match=r"diverged.*learning_rate"):
        fit(
            table("regression"),
            "mlp",
            params={"epochs": 30, "learning_rate": 99.0, "optimizer": "sgd"},
        )


def test_wrong_parameters_are_named_together() -> None:
    with pytest.raises(TrainingError) as error:
        fit(digits(100), params={"epoch": 3, "batch_size": -1, "optimizer": "adam"})
    for part in ("'epochs'", "batch_size", "'adamw'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"batch_size": 2.5}, "a whole number from 1"),
        ({"patience": 1.5}, "a whole number"),
        ({"weight_decay": None}, "weight_decay is None"),
        ({"robust": "no"}, "robust is 'no', but must be true or false"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"class_weight": {"a": 1}}, "'balanced'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_parameter_of_another_type_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        fit(digits(100), params=params)


def test_early_stopping_keeps_the_best_epoch() -> None:
    curve: list[float] = []
    model = fit(
        digits(100),
        params={"epochs": 200, "patience": 5},
        report=lambda _, metrics: curve.append(metrics["validation_score"]),
    )
    assert model.summary["epochs"] < 200
    problem = digits(100)
    scores = model.scores({"image": problem.features["image"][100:]})
    assert (scores.argmax(1) == problem.target[100:]).mean() == pytest.approx(max(curve))


def test_sample_weights_and_class_weights_move_the_answer() -> None:
    problem = table("classification")
    shares = []
    for weight, params in (
        (None, {}),
        (np.where(problem.target == 0, 50, 1).astype(np.float32), {}),
        (None, {"class_weight": "balanced"}),
    ):
        weighted = Problem(
            kind="classification",
            features=problem.features,
            info=problem.info,
            target=problem.target,
            train=problem.train,
            classes=2,
            weight=weight,
        )
        model = fit(weighted, "mlp", params={"epochs": 6} | params)
        log_odds = np.diff(model.scores(problem.features), axis=1)
        shares.append(float(log_odds.mean()))
    plain, samples, balanced = shares
    assert samples < plain - 0.2
    assert balanced < plain


def test_local_updates_merge_into_one_state() -> None:
    problem = digits(600)
    recipe = RecipeView(network={"name": "mlp"}, params={"epochs": 10})
    trainer = GradientLearner().trainer(problem, recipe, Context(device="cpu"))
    state = trainer.state()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    for _ in range(4):
        parts = []
        for rows in (slice(0, 300), slice(300, 600)):
            arrays = {"image": problem.features["image"][rows], "target": problem.target[rows]}
            parts.append(trainer.local_update(state, arrays, 20))
        assert all(part.counters["step"] == state.counters["step"] + 20 for part in parts)
        state = merge(parts, [300, 300])
    assert all(torch.equal(before[name], tensor) for name, tensor in before.items())
    trainer.load(state)
    scores = trainer.scores(problem.features, slice(600, 1797))
    assert (scores.argmax(1) == problem.target[600:]).mean() > 0.85
    one = trainer.local_update(state, arrays, 3)
    two = trainer.local_update(state, arrays, 3)
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_a_model_starts_from_another_ones_tensors() -> None:
    problem = digits(1000)
    first = fit(problem, params={"epochs": 8})
    recipe = RecipeView(network={"name": "cnn"}, params={"epochs": 1, "learning_rate": 1e-5}, init=weights(first))
    again = GradientLearner().fit(problem, recipe, Context(device="cpu"))
    assert (again.scores(problem.features).argmax(1) == problem.target).mean() > 0.95


MODULE = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.a = nn.Linear(64, width)
        self.b = nn.Linear(width, classes)

    def forward(self, image):
        return self.b(torch.tanh(self.a(image.float().flatten(1) / 255)))
"""


FAULTY = """
import torch
from torch import nn

class Wide(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a = nn.Linear(65, classes)

    def forward(self, image):
        return self.a(image.float().flatten(1))

class Few(Wide):
    def __init__(self, classes):
        super().__init__(2)
        self.a = nn.Linear(64, 2)

class Late(Few):
    def __init__(self, classes):
        super().__init__(classes)
        self.a = nn.Linear(64, classes)

    def forward(self, image):
        return super().forward(image) if self.training else None

class Empty(nn.Module):
    def forward(self, image):
        return image.float().flatten(1)[:, :10]
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Wide", "faulty.py, line 11: the network 'Wide' failed: RuntimeError: mat1 and mat2 shapes"),
        ("Few", "faulty.py: the network 'Few' failed: IndexError: Target .* out of bounds. .* float .rows, scores"),
        ("Late", "faulty.py: the network 'Late' failed: AttributeError: 'NoneType' object has no attribute 'float'"),
        ("Empty", "faulty.py: the network 'Empty' failed: RuntimeError: element 0 of tensors does not require grad"),
    ],
)
def test_what_a_users_own_module_raises_is_told(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    network = {"name": "module", "ref": f"{tmp_path / 'faulty.py'}:{name}"}
    view = RecipeView(network=network, params={"epochs": 1})
    with pytest.raises(TrainingError, match=said):
        GradientLearner().fit(digits(100, 150), view, Context(device="cpu"))


def test_a_users_own_module_trains_and_exports(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    problem = digits(1000)
    network = {"name": "module", "ref": f"{tmp_path / 'mine.py'}:Tiny", "width": 32}
    model = GradientLearner().fit(problem, RecipeView(network=network, params={"epochs": 15}), Context(device="cpu"))
    scores = model.scores({"image": problem.features["image"][1000:]})
    assert (scores.argmax(1) == problem.target[1000:]).mean() > 0.8
    onnx = model.export().onnx
    assert onnx is not None
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    assert np.abs(session.run(["scores"], {"image": problem.features["image"][1000:]})[0] - scores).max() < 1e-4
