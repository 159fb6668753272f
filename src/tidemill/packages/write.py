"""Writing a package: every form of the model is proved equal to the one in memory before the manifest is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.errors import ConflictError, PackageError, StoreError
from tidemill.features._base import Features
from tidemill.packages.card import model_card
from tidemill.packages.manifest import STATE_FILE, Manifest, parsed
from tidemill.packages.proof import TOLERANCE, difference
from tidemill.packages.read import read_manifest


class Exported(Protocol):
    """What a learner's export offers (:class:`tidemill.learners._base.Export`)."""

    @property
    def onnx(self) -> bytes | None: ...  # noqa: D102
    @property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]] | None: ...  # noqa: D102
    @property
    def note(self) -> str | None: ...  # noqa: D102
    @property
    def state(self) -> bytes | None: ...  # noqa: D102


def write_package(
    folder: Path, manifest: Manifest, export: Exported, features: Features, scores: npt.NDArray[np.float32]
) -> int:
    """Write the package and return its size in bytes.

    The files are written and fsynced beside the place and renamed into it with the manifest last, so a reader sees a
    whole package or none.

    Args:
        folder: where it shall lie; a half-written one there is replaced.
        manifest: everything but ``files``.
        export: the model's graph and/or weights.
        features: some rows, on which every form is compared with *scores*.
        scores: what the model in memory gives for these rows, float32 ``[n, classes]``.

    Raises:
        PackageError: there is neither graph nor weights for the manifest's runtime, or a form gives other scores.
        ConflictError: another finished package lies there; packages never change.
        StoreError: it cannot be written.
    """
    folder = Path(folder)
    contents = _contents(manifest, export, features, scores)
    if (folder / "manifest.json").is_file():
        if _same(folder, manifest, contents):
            return sum(path.stat().st_size for path in folder.iterdir())
        raise ConflictError(
            "another finished package lies there, and packages never change",
            where=str(folder),
            mend="Choose another folder.",
        )
    contents["README.md"] = model_card(manifest).encode()
    files = {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in contents.items()}
    complete = dataclasses.replace(manifest, files=files)
    contents["manifest.json"] = _json(complete, f"package of {manifest.id}")
    try:
        _place(folder, contents)
    except OSError as error:
        raise StoreError(
            f"the package cannot be written: {error.strerror or error}",
            where=str(folder),
            mend="Free some disk space (tidemill gc), or make the folder writable.",
        ) from error
    return sum(map(len, contents.values()))


def _contents(manifest: Manifest, export: Exported, features: Features, scores: npt.NDArray[Any]) -> dict[str, bytes]:
    """The model's files, each proved to give *scores*."""
    from tidemill.packages.graph import open_graph, tensors

    where = f"package of {manifest.id}"
    signature, pipeline = parsed(manifest, where)
    info = pipeline.info()
    contents = {}
    if export.onnx is not None:
        session = open_graph(export.onnx, info, where=where)
        wanted = tensors(features, [node.name for node in session.get_inputs()])
        _prove("model.onnx", signature.kind, session.run(["scores"], wanted)[0], scores, where)
        contents["model.onnx"] = export.onnx
    if export.tensors is not None and manifest.network is not None:
        from safetensors.numpy import save

        from tidemill.packages.weights import open_network

        network = open_network(manifest.network, export.tensors, info, scores.shape[1], trusted=True, where=where)
        _prove("model.safetensors", signature.kind, network(features), scores, where)
        contents["model.safetensors"] = save({k: np.ascontiguousarray(v) for k, v in export.tensors.items()})
    if export.state is not None:
        contents[STATE_FILE] = export.state
    needed = {"onnx": "model.onnx", "torch": "model.safetensors"}[manifest.runtime]
    # whoever opens the package never runs a user's module, so its weights alone are no model
    foreign = manifest.runtime == "torch" and (manifest.network or {}).get("name") == "module"
    if needed not in contents or foreign:
        raise PackageError(
            "the model did not convert to ONNX" + (f" ({export.note})" if export.note else ""),
            where=where,
            mend="It cannot serve; choose an estimator or a network that converts.",
        )
    return contents


def _json(manifest: Manifest, where: str) -> bytes:
    try:
        return json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise PackageError(
            f"the manifest is not JSON ({error})",
            where=where,
            mend="Give only finite numbers, texts, lists and objects.",
        ) from error


def _prove(name: str, kind: str, got: npt.NDArray[Any], expected: npt.NDArray[Any], where: str) -> None:
    far = difference(kind, got, expected)
    if not far <= TOLERANCE:  # also refuses NaN
        raise PackageError(
            f"{name} gives other scores than the model in memory: they differ by {far:.2g}",
            where=where,
            mend="It cannot serve; choose an estimator or a network that converts exactly.",
        )


def _same(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> bool:
    """A finished package of the same model: an interrupted step that is run again finds its own work."""
    there = read_manifest(folder)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return there.id == manifest.id and all(there.files.get(n, {}).get("sha256") == s for n, s in sums.items())


def _place(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files beside *folder*, in the order given, then rename them into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for name, data in contents.items():
        with (building / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(building)
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """As the store does it; but what opens a package, wherever it is, shall not load the store."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
