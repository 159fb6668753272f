"""Writing a package: proved equal, written whole or not at all, and never changed afterwards."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml

from tidemill.errors import ConflictError, PackageError, StoreError
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Export
from tidemill.learners.gradient.graph import export_onnx
from tidemill.networks import build_network
from tidemill.packages import read_manifest, verify, write_package
from tidemill.runtime import load


def write(folder: Path, given) -> int:
    return write_package(folder, given.manifest, given.export, given.features, given.scores)


@pytest.fixture(scope="module")
def network(ridge):
    """The same signature answered by torch weights alone."""
    info = Pipeline.from_json(ridge.manifest.features).info()
    spec = {"name": "cnn-small"}
    torch.manual_seed(0)
    module = build_network(spec, info, 10).eval()
    tensors = {name: value.numpy() for name, value in module.state_dict().items()}
    with torch.inference_mode():
        scores = module(image=torch.as_tensor(ridge.features["image"])).float().numpy()
    manifest = dataclasses.replace(ridge.manifest, runtime="torch", network=spec)
    export = Export(onnx=None, tensors=tensors, network=spec)
    return dataclasses.replace(ridge, manifest=manifest, export=export, scores=scores)


def test_a_package_holds_what_it_says(tmp_path: Path, ridge) -> None:
    size = write(tmp_path / "m", ridge)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"manifest.json", "model.onnx", "README.md"}
    assert size == sum(path.stat().st_size for path in (tmp_path / "m").iterdir())
    manifest = read_manifest(tmp_path / "m")
    verify(tmp_path / "m", manifest)
    assert dataclasses.replace(manifest, files={}) == ridge.manifest
    assert (tmp_path / "m" / "model.onnx").read_bytes() == ridge.export.onnx


def test_the_model_card_is_what_hubs_read(tmp_path: Path, ridge) -> None:
    write(tmp_path / "m", ridge)
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head == {"library_name": "tidemill", "pipeline_tag": "image-classification", "tags": ["tidemill"]}
    for fact in (
        "model_digits",
        "`ridge`",
        "2025-06-15",
        "8 × 8 × 1",
        "| validation accuracy | 0.9000 |",
        "`run_1`",
        "`model_0`",
    ):
        assert fact in card, fact


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the names of open files from /proc")
def test_the_manifest_is_written_last_and_everything_is_synced(tmp_path: Path, ridge, monkeypatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "m", ridge)
    assert synced == ["model.onnx", "README.md", "manifest.json", ".m.part", tmp_path.name]


@pytest.mark.parametrize("wrong", ["scores", "shape", "nan"])
def test_a_graph_with_other_scores_is_refused(tmp_path: Path, ridge, wrong: str) -> None:
    scores = ridge.scores.copy()
    if wrong == "scores":
        scores[5, 2] += 0.1
    elif wrong == "nan":
        scores[0, 0] = np.nan
    else:
        scores = scores[:, :9]
    with pytest.raises(PackageError, match=r"model\.onnx gives other scores"):
        write(tmp_path / "m", dataclasses.replace(ridge, scores=scores))
    assert list(tmp_path.iterdir()) == []


def test_weights_are_proved_too(tmp_path: Path, network) -> None:
    write(tmp_path / "m", network)
    predictor = load(tmp_path / "m")
    predictor.warm_up()
    np.testing.assert_allclose(predictor.scores(network.features), network.scores, atol=1e-5)
    twisted = dict(network.export.tensors)
    name = next(name for name in twisted if name.endswith("bias"))
    twisted[name] = twisted[name] + 1
    export = dataclasses.replace(network.export, tensors=twisted)
    with pytest.raises(PackageError, match=r"model\.safetensors gives other scores"):
        write(tmp_path / "n", dataclasses.replace(network, export=export))


def test_both_forms_lie_side_by_side_and_both_are_proved(tmp_path: Path, network) -> None:
    info = Pipeline.from_json(network.manifest.features).info()
    torch.manual_seed(0)
    module = build_network({"name": "cnn-small"}, info, 10).eval()
    graph, _ = export_onnx(module, info)
    both = dataclasses.replace(network, export=dataclasses.replace(network.export, onnx=graph)).but(runtime="onnx")
    write(tmp_path / "m", both)
    assert set(read_manifest(tmp_path / "m").files) == {"model.onnx", "model.safetensors", "README.md"}
    np.testing.assert_allclose(load(tmp_path / "m").scores(network.features), network.scores, atol=1e-5)
    other, _ = export_onnx(build_network({"name": "cnn-small"}, info, 10).eval(), info)
    wrong = dataclasses.replace(both, export=dataclasses.replace(both.export, onnx=other))
    with pytest.raises(PackageError, match=r"model\.onnx gives other scores"):
        write(tmp_path / "n", wrong)


def test_what_did_not_convert_says_why(tmp_path: Path, ridge) -> None:
    export = Export(onnx=None, note="Nearest does not convert to ONNX")
    with pytest.raises(PackageError, match=r"did not convert.*Nearest.*cannot serve"):
        write(tmp_path / "m", dataclasses.replace(ridge, export=export))


@pytest.mark.parametrize("fault", ["garbage", "input", "output"])
def test_a_graph_that_does_not_fit_the_features_is_refused(tmp_path: Path, ridge, fault: str) -> None:
    model = onnx.load_from_string(ridge.export.onnx)
    if fault == "input":
        for node in model.graph.node:
            node.input[:] = ["picture" if name == "image" else name for name in node.input]
        model.graph.input[0].name = "picture"
    elif fault == "output":
        model.graph.node[-1].output[0] = "logits"
        model.graph.output[0].name = "logits"
    graph = b"not a graph" if fault == "garbage" else model.SerializeToString()
    wanted = {"garbage": "cannot open", "input": "asks for picture", "output": "no single output 'scores'"}[fault]
    with pytest.raises(PackageError, match=wanted):
        write(tmp_path / "m", dataclasses.replace(ridge, export=Export(onnx=graph)))


def test_a_finished_package_never_changes_but_its_own_step_may_run_again(tmp_path: Path, ridge) -> None:
    size = write(tmp_path / "m", ridge)
    before = (tmp_path / "m" / "manifest.json").read_bytes()
    assert write(tmp_path / "m", ridge.but(created=1.8e9)) == size
    assert (tmp_path / "m" / "manifest.json").read_bytes() == before
    with pytest.raises(ConflictError, match="packages never change"):
        write(tmp_path / "m", ridge.but(id="model_other"))


def test_a_half_written_package_is_none_and_is_replaced(tmp_path: Path, ridge) -> None:
    """Killed between the files and the manifest: no reader takes it for a package, the next try writes it whole."""
    script = textwrap.dedent(
        f"""
        import os, signal, pathlib
        from tidemill.packages import write
        contents = {{"model.onnx": b"x" * 100, "README.md": b"y", "manifest.json": b"z"}}
        real, done = os.fsync, []
        def fsync(descriptor):
            real(descriptor)
            done.append(descriptor)
            if len(done) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = fsync
        write._place(pathlib.Path({str(tmp_path / "m")!r}), contents)
        """
    )
    died = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (tmp_path / "m").exists()
    with pytest.raises(PackageError, match="no such folder"):
        read_manifest(tmp_path / "m")
    write(tmp_path / "m", ridge)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    load(tmp_path / "m").warm_up()


def test_a_full_disk_is_one_clear_error(tmp_path: Path, ridge, monkeypatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(tmp_path / "m", ridge)
    assert not (tmp_path / "m").exists()


def test_numbers_that_json_has_not_are_refused_before_anything_is_written(tmp_path: Path, ridge) -> None:
    with pytest.raises(PackageError, match="not JSON"):
        write(tmp_path / "m", ridge.but(metrics={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_plain_json(tmp_path: Path, ridge) -> None:
    write(tmp_path / "m", ridge)
    data = json.loads((tmp_path / "m" / "manifest.json").read_bytes())
    assert data["schema"] == 1 and data["files"]["model.onnx"]["bytes"] == len(ridge.export.onnx)
