"""Manifests and models that somebody altered: each is refused when it is opened, not when the first caller comes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tidemill.errors import PackageError
from tidemill.runtime import load

RELEASED = Path(__file__).resolve().parents[1] / "fixtures" / "packages" / "schema-1"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(RELEASED / "table", tmp_path / "table")
    return tmp_path / "table"


def altered(package: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = package / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return package


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", 7), ("name", "city"), ("type", "audio"), ("type", []), ("shape", [8, 8, 1]), ("optional", "no")],
)
def test_an_input_that_is_none(field: str, value: Any, package: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["signature"]["inputs"][0][field] = value

    with pytest.raises(PackageError, match="signature or features cannot be understood"):
        load(altered(package, change))


@pytest.mark.parametrize("shape", [None, ["", 8, 1], [8, 8, 2], [8, 8], [0, 8, 1], 5])
def test_an_image_of_no_shape(shape: Any, tmp_path: Path) -> None:
    shutil.copytree(RELEASED / "image", tmp_path / "image")

    def change(manifest: dict[str, Any]) -> None:
        manifest["signature"]["inputs"][0]["shape"] = shape

    with pytest.raises(PackageError):
        load(altered(tmp_path / "image", change))


def test_features_that_cannot_be_computed(package: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["features"]["steps"][2]["state"] = {"values": [[1, 2]]}

    with pytest.raises(PackageError, match="signature or features cannot be understood"):
        load(altered(package, change))


def test_a_graph_that_opens_and_cannot_be_computed(tmp_path: Path) -> None:
    shutil.copytree(RELEASED / "image", tmp_path / "image")
    path = tmp_path / "image" / "model.onnx"
    model = onnx.load_from_string(path.read_bytes())
    (shape,) = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64]
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([3, -1]), shape.name))  # no row has a multiple of three pixels
    content = model.SerializeToString()
    path.write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    folder = altered(tmp_path / "image", lambda manifest: manifest["files"].update({"model.onnx": facts}))
    with pytest.raises(PackageError, match="cannot answer a row of zeros"):
        load(folder).warm_up()
