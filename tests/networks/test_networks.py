"""Every network takes every image shape it may meet, and says clearly what it cannot take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks import NETWORKS, build_network

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (20, 64, 1), (5, 9, 3), (2, 3, 1), (1, 1, 1), (96, 128, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cnn", "cnn-small", "mlp"])
def test_networks_take_images_of_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    info = {"image": FeatureInfo("uint8", shape, {"mean": [100.0] * shape[2], "std": [50.0] * shape[2]})}
    if name == "cnn-small" and min(shape[:2]) < 4:
        with pytest.raises(TrainingError, match="at least 4"):
            build_network({"name": name}, info, 7)
        return
    network = build_network({"name": name}, info, 7)
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    out = network(image=images)
    assert out.shape == (4, 7)
    out.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_brightness_is_normalised_inside_the_network() -> None:
    plain = {"image": FeatureInfo("uint8", (8, 8, 1), {"mean": [60.0], "std": [20.0]})}
    shifted = {"image": FeatureInfo("uint8", (8, 8, 1), {"mean": [90.0], "std": [20.0]})}
    one, two = build_network({"name": "cnn"}, plain, 3).eval(), build_network({"name": "cnn"}, shifted, 3).eval()
    weights = {k: v for k, v in one.state_dict().items() if not k.startswith("layers.0.")}
    two.load_state_dict(weights, strict=False)
    images = torch.randint(0, 200, (5, 8, 8, 1), dtype=torch.uint8)
    assert torch.allclose(one(image=images), two(image=images + 30), atol=1e-5)
    assert not torch.allclose(one(image=images), two(image=images), atol=1e-3)


def test_mlp_takes_numbers_and_codes_together() -> None:
    info = {
        "x": FeatureInfo("float32", (3,)),
        "codes": FeatureInfo("int64", (2,), {"cardinalities": [4, 9]}),
    }
    network = build_network({"name": "mlp", "hidden": [8], "dropout": 0.1}, info, 1)
    codes = torch.tensor([[0, 8], [3, 0]])
    out = network(x=torch.zeros(2, 3), codes=codes)
    assert out.shape == (2, 1)
    assert not torch.equal(
        network.eval()(x=torch.zeros(2, 3), codes=codes)[0], network(x=torch.zeros(2, 3), codes=codes)[1]
    )


def test_outputs_are_brought_to_the_targets_scale() -> None:
    info = {"x": FeatureInfo("float32", (3,))}
    torch.manual_seed(0)
    plain = build_network({"name": "mlp"}, info, 1).eval()
    torch.manual_seed(0)
    scaled = build_network({"name": "mlp", "output": {"mean": 200.0, "std": 10.0}}, info, 1).eval()
    x = torch.randn(4, 3)
    assert torch.allclose(scaled(x=x), plain(x=x) * 10 + 200)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "cmn"}, "'cnn'"),
        ({"name": "mlp", "widht": 3}, "widht"),
        ({"name": "module", "ref": "nowhere.py:f"}, "nowhere.py"),
        ({"name": "cnn"}, "pixels"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(spec: dict[str, str], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        build_network(spec, {"x": FeatureInfo("float32", (3,))}, 2)


def test_a_users_factory_may_take_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\ndef make(classes):\n    return nn.Linear(3, classes)\nanswer = 42\n")
    network = build_network({"name": "module", "ref": f"{file}:make"}, {"x": FeatureInfo("float32", (3,))}, 5)
    assert network(torch.zeros(1, 3)).shape == (1, 5)
    for name in ("answer", "missing"):
        with pytest.raises(TrainingError, match=name):
            build_network({"name": "module", "ref": f"{file}:{name}"}, {"x": FeatureInfo("float32", (3,))}, 5)
    assert "module" in NETWORKS


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_that_name\n", "mine.py, line 1: it cannot be imported: ModuleNotFoundError: No module"),
        ("def make(:\n    pass\n", "mine.py, line 1: it cannot be imported: SyntaxError: invalid syntax"),
        ("def make(classes):\n    sizes = {}\n    return sizes['x']\n", "line 3: make made no network: KeyError: 'x'"),
        ("def make(classes):\n    return [] + classes\n", "line 2: make made no network: TypeError: can only"),
        ("def make(classes, wide):\n    pass\n", "does not take these arguments: missing a required argument: 'wide'"),
    ],
    ids=["import", "syntax", "factory", "type", "arguments"],
)
def test_what_a_users_code_raises_is_told_with_its_line(code: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code, encoding="utf-8")
    with pytest.raises(TrainingError, match=said):
        build_network({"name": "module", "ref": f"{file}:make"}, {"x": FeatureInfo("float32", (3,))}, 5)
