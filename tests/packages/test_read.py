"""Reading a package that nobody vouches for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.errors import PackageError, TidemillError
from tidemill.packages import read_manifest, write_package
from tidemill.runtime import load


@pytest.fixture
def package(tmp_path: Path, ridge) -> Path:
    folder = tmp_path / "model"
    write_package(folder, ridge.manifest, ridge.export, ridge.features, ridge.scores)
    return folder


def refused(folder: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load(folder)
    assert caught.value.what and caught.value.where and caught.value.mend
    return caught.value


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps({k: v for k, v in {**data, **changes}.items() if v is not ...}))


def test_a_truncated_model(package: Path) -> None:
    path = package / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    assert "model.onnx is truncated" in refused(package).what


def test_an_altered_model_of_the_same_size(package: Path) -> None:
    path = package / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert "model.onnx was altered" in refused(package).what


def test_a_missing_model(package: Path) -> None:
    (package / "model.onnx").unlink()
    assert "model.onnx is missing" in refused(package).what


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "estimator.joblib", "arrays.npy"])
def test_a_pickle_is_never_opened(package: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (package / "exploded",))

    (package / name).write_bytes(pickle.dumps(Bomb()))
    assert "may run code" in refused(package).what
    assert not (package / "exploded").exists()


def test_a_stranger_a_folder_and_a_link(package: Path, tmp_path: Path) -> None:
    (package / "notes.txt").write_text("hello")
    assert "notes.txt" in refused(package).what
    (package / "notes.txt").unlink()
    (package / "sub").mkdir()
    assert "sub" in refused(package).what
    (package / "sub").rmdir()
    outside = tmp_path / "outside.onnx"
    (package / "model.onnx").rename(outside)
    (package / "model.onnx").symlink_to(outside)
    assert "is a link" in refused(package).what


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "sub/model.onnx", "other.bin"])
def test_a_path_that_leads_elsewhere(package: Path, name: str) -> None:
    files = json.loads((package / "manifest.json").read_bytes())["files"]
    rewrite(package, files={**files, name: files["model.onnx"]})
    assert name in refused(package).what


@pytest.mark.parametrize(
    ("schema", "mend"), [(2, "Upgrade tidemill"), (0, "Export"), ("1", "Export"), (..., "Export"), (True, "Export")]
)
def test_an_unknown_schema(package: Path, schema: Any, mend: str) -> None:
    rewrite(package, schema=schema)
    error = refused(package)
    assert "schema" in error.what and mend in (error.mend or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": "pickle"},
        {"runtime": "torch"},
        {"signature": {}},
        {"signature": []},
        {"features": {"steps": []}},
        {"features": {"steps": [{"step": "os", "columns": [], "state": {}}]}},
        {"features": {"steps": [{"step": "pixels", "columns": ["image"], "state": {}}]}},
        {"answer": {}},
        {"answer": {"kind": "classification", "labels": ["a", "b"]}},
        {"answer": {"kind": "classification", "labels": list("0123456789"), "temperature": 0}},
        {"answer": ...},
        {"files": {}},
        {"files": {"model.onnx": {"sha256": "0"}}},
        {"files": {"model.onnx": {"sha256": 3, "bytes": "many"}}},
        {"id": None},
    ],
    ids=lambda changes: json.dumps(changes, default=str)[:60],
)
def test_a_manifest_that_makes_no_sense(package: Path, changes: dict[str, Any]) -> None:
    rewrite(package, **changes)
    refused(package)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_manifest_that_is_none(package: Path, content: bytes) -> None:
    (package / "manifest.json").write_bytes(content)
    assert "manifest" in refused(package).what


def test_no_package_at_all(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere").what
    assert "no manifest.json" in refused(tmp_path).what


def test_a_users_module_is_not_run(package: Path, tmp_path: Path) -> None:
    import hashlib

    from safetensors.numpy import save

    module = tmp_path / "evil.py"
    module.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef make(): ...")
    weights = save({})
    (package / "model.safetensors").write_bytes(weights)
    facts = {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    network = {"name": "module", "ref": f"{module}:make"}
    rewrite(package, runtime="torch", network=network, files={"model.safetensors": facts})
    assert "never run" in refused(package).what
    assert not (tmp_path / "ran").exists()


def test_damaged_weights(package: Path) -> None:
    import hashlib

    weights = b"\x10\0\0\0\0\0\0\0not safetensors!"
    (package / "model.safetensors").write_bytes(weights)
    facts = {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    rewrite(package, runtime="torch", network={"name": "cnn-small"}, files={"model.safetensors": facts})
    assert "weights cannot be read" in refused(package).what


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["signature", "features", "answer", "files", "network", "runtime", "lineage", "metrics"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["steps", "kind", "labels", "inputs", "name", "model.onnx"]), inner, max_size=3
            )
        ),
        max_leaves=5,
    ),
)
def test_whatever_a_manifest_says_it_is_read_or_refused_cleanly(package: Path, field: str, value: Any) -> None:
    path = package / "manifest.json"
    whole = path.read_bytes()
    try:
        rewrite(package, **{field: value})
        load(package)
    except TidemillError as error:
        assert isinstance(error, PackageError)
    finally:
        path.write_bytes(whole)


def test_verification_can_be_left_out_where_it_was_done_before(package: Path) -> None:
    path = package / "README.md"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"!")
    assert "README.md was altered" in refused(package).what
    assert load(package, verify=False).manifest == read_manifest(package)
