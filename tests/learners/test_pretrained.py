"""Networks that start from a checkpoint: fine-tuned, adapted, resumed, and written as graphs without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _checkpoints import WORDS, Checkpoints
from tidemill.data.arrays import Columns, Ragged
from tidemill.errors import TrainingError
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner
from tidemill.learners.gradient.layers import Thaw, rate_factors
from tidemill.learners.gradient.state import network_tensors
from tidemill.learners.graft import grafted
from tidemill.networks import build_network
from tidemill.networks.pretrained import Pretrained, merged
from tidemill.packages.graph import open_graph, tensors

TEXTS, IMAGES = ("bert", "roberta", "distilbert"), ("vit", "convnext", "resnet")
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "average": 0.0, "warmup": 0.1}


def columns_of(family: str, rows: int = 24) -> Columns:
    rng = np.random.default_rng(1)
    if family in IMAGES:
        return {"input": rng.integers(0, 256, (rows, 16, 16, 3), dtype=np.uint8)}
    return {"input": Ragged.from_strings([" ".join(rng.choice(WORDS, 1 + row % 7)) for row in range(rows)])}


def problem_of(reference: str, family: str, *, frozen: bool = False) -> tuple[Problem, Pipeline, Columns]:
    columns = columns_of(family)
    step: dict[str, Any] = {"step": "encoder", "checkpoint": reference}
    if not frozen:
        step = {"step": "pixels"} if family in IMAGES else {"step": "tokenizer", "checkpoint": reference}
    pipeline = Pipeline([{**step, "columns": ["input"]}], None)
    pipeline.fit([columns])
    features = pipeline.transform(columns)
    target = np.arange(24) % 3
    problem = Problem(
        kind="classification", features=features, info=pipeline.info(), target=target, train=18, classes=3
    )
    return problem, pipeline, columns


LONG = pytest.mark.long  # tracing takes seconds: of each kind one is enough in every run


@pytest.mark.parametrize("family", [*TEXTS, "vit", *(pytest.param(name, marks=LONG) for name in IMAGES[1:])])
def test_a_frozen_encoder_becomes_part_of_the_graph(checkpoints: Checkpoints, family: str) -> None:
    problem, pipeline, columns = problem_of(checkpoints.reference(family), family, frozen=True)
    fitted = get_learner("closed_form").fit(problem, RecipeView(params={"method": "ridge"}), Context())
    packed = pipeline.packed()
    assert packed is not None
    export = grafted(fitted.export(), pipeline, packed)
    assert export.onnx is not None and export.tensors is None
    features = packed.transform(columns)
    session = open_graph(export.onnx, packed.info())
    names = [node.name for node in session.get_inputs()]
    assert names == ["image" if family in IMAGES else "tokens"]
    whole = session.run(["scores"], tensors(features, names))[0]
    assert np.allclose(whole, fitted.scores(problem.features), atol=1e-3)
    one = session.run(["scores"], {names[0]: np.asarray(features[names[0]])[:1]})[0]
    assert np.allclose(one, whole[:1], atol=1e-3)
    blank = {name: item.blank(1) for name, item in packed.info().items()}
    assert np.isfinite(session.run(["scores"], blank)[0]).all()


TRAINED = [("bert", "lora"), ("roberta", None), pytest.param("vit", "lora", marks=LONG)]


@pytest.mark.parametrize(("family", "adapter"), TRAINED)
def test_training_and_its_graph(checkpoints: Checkpoints, family: str, adapter: str | None) -> None:
    problem, pipeline, _ = problem_of(checkpoints.reference(family), family)
    network = {"name": "pretrained", "checkpoint": checkpoints.reference(family), "adapter": adapter, "rank": None}
    fitted = GradientLearner().fit(problem, RecipeView(network=network, params=QUICK), Context())
    scores = fitted.scores(problem.features)
    export = fitted.export()
    assert export.onnx is not None and export.tensors is None and export.network is None
    session = open_graph(export.onnx, pipeline.info())
    names = [node.name for node in session.get_inputs()]
    assert np.allclose(session.run(["scores"], tensors(problem.features, names))[0], scores, atol=1e-4)
    trained, whole = fitted.summary["trained"], fitted.summary["parameters"]
    assert trained < 0.2 * whole if adapter else trained == whole
    blank = {name: item.blank(1) for name, item in pipeline.info().items()}
    assert np.isfinite(session.run(["scores"], blank)[0]).all()


def build(checkpoints: Checkpoints, **arguments: Any) -> tuple[Pretrained, Problem]:
    problem, pipeline, _ = problem_of(checkpoints.reference("bert"), "bert")
    spec = {"name": "pretrained", "checkpoint": checkpoints.reference("bert"), **arguments}
    network = build_network(spec, pipeline.info(), 3)
    assert isinstance(network, Pretrained)
    return network, problem


def test_adapters_start_from_the_checkpoint_and_merge(checkpoints: Checkpoints) -> None:
    torch.manual_seed(0)
    adapted, problem = build(checkpoints, adapter="lora", rank=4)
    tokens = torch.from_numpy(np.asarray(problem.features["tokens"]))
    plain, _ = build(checkpoints)
    plain.load_state_dict({**plain.state_dict(), "head.weight": adapted.head.weight, "head.bias": adapted.head.bias})
    adapted.eval(), plain.eval()
    assert torch.allclose(adapted(tokens=tokens), plain(tokens=tokens), atol=1e-5)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    assert not torch.allclose(adapted(tokens=tokens), plain(tokens=tokens), atol=1e-3)
    whole = merged(adapted)
    assert not any("lora" in name for name, _ in whole.named_parameters())
    assert torch.allclose(whole(tokens=tokens), adapted(tokens=tokens), atol=1e-5)
    assert all("lora" in name or "head" in name for name in network_tensors(adapted, "network"))


def test_layers_have_rates_of_their_own(checkpoints: Checkpoints) -> None:
    network, _ = build(checkpoints)
    factors = rate_factors(network, 0.5, 10.0)
    assert set(factors) == {name for name, _ in network.named_parameters()}
    first = "backbone.model.encoder.layer.0.output.dense.weight"
    last = "backbone.model.encoder.layer.1.output.dense.weight"
    embedded = "backbone.model.embeddings.word_embeddings.weight"
    assert [factors[name] for name in ("head.weight", last, first, embedded)] == [10.0, 1.0, 0.5, 0.25]


def test_layers_begin_to_train_from_the_head_down(checkpoints: Checkpoints) -> None:
    network, _ = build(checkpoints)
    thaw = Thaw(network, steps=30)

    def trained() -> set[str]:
        named = [name for name, p in network.named_parameters() if p.requires_grad]
        return {found.group(1) for name in named if (found := re.search(r"encoder\.layer\.(\d)", name))}

    thaw.at(0)
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    thaw.at(10)
    assert trained() == {"1"}
    thaw.at(30)
    assert all(p.requires_grad for p in network.parameters())
    thaw.at(5)  # a resumed run begins where it stopped
    assert not any(p.requires_grad for p in network.backbone.parameters())


def test_a_killed_training_goes_on(checkpoints: Checkpoints, tmp_path: Path) -> None:
    problem, _, _ = problem_of(checkpoints.reference("bert"), "bert")
    network = {"name": "pretrained", "checkpoint": checkpoints.reference("bert"), "adapter": "lora"}
    view = RecipeView(network=network, params={**QUICK, "epochs": 4, "unfreeze": 0.5, "checkpoint_seconds": 0.0})
    straight = GradientLearner().fit(problem, view, Context(max_epochs=4)).scores(problem.features)

    def stop(epoch: int, _metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GradientLearner().fit(problem, view, Context(max_epochs=4, workdir=tmp_path, report=stop))
    saved = (tmp_path / "checkpoint.safetensors").stat().st_size
    resumed = GradientLearner().fit(problem, view, Context(max_epochs=4, workdir=tmp_path))
    assert resumed.summary["resumed"] and np.array_equal(resumed.scores(problem.features), straight)
    assert saved < 0.9 * (checkpoints("bert") / "model.safetensors").stat().st_size  # what never changes is not saved


def test_what_does_not_fit(checkpoints: Checkpoints) -> None:
    image, _, _ = problem_of(checkpoints.reference("vit"), "vit")
    text = {"name": "pretrained", "checkpoint": checkpoints.reference("bert")}
    vit = {"name": "pretrained", "checkpoint": checkpoints.reference("vit")}
    for network, what in (
        (text, "needs the feature 'tokens'"),
        ({**vit, "adapter": "prefix"}, "no adapter 'prefix'"),
        ({**vit, "adapter": "lora", "rank": 0}, "rank"),
        ({"name": "pretrained"}, "does not take these arguments"),
    ):
        with pytest.raises(TrainingError, match=what):
            GradientLearner().fit(image, RecipeView(network=network, params=QUICK), Context())
