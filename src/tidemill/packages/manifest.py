"""``manifest.json``, schema 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidemill.errors import ConfigError, PackageError

SCHEMA = 1
MODEL_FILES = {"onnx": "model.onnx", "torch": "model.safetensors"}
STATE_FILE = "state.safetensors"
"""What a model that learns while it serves begins with."""
KNOWN_FILES = (*MODEL_FILES.values(), STATE_FILE, "README.md")

_TYPES: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "created": (int, float),
    "task": str,
    "recipe": str,
    "runtime": str,
    "signature": dict,
    "features": dict,
    "answer": dict,
    "network": (dict, type(None)),
    "files": dict,
    "lineage": dict,
    "metrics": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a package says of itself; every field is JSON.

    Attributes:
        id: the model's id (``model_…``).
        created: UTC seconds.
        task: the task it serves.
        recipe: the recipe's name.
        runtime: what answers: ``onnx``, or ``torch`` when there are only weights.
        signature: see :meth:`tidemill.data.schema.Signature.to_json`.
        features: see :meth:`tidemill.features.pipeline.Pipeline.to_json`.
        answer: how scores become an answer, see :mod:`tidemill.runtime.answers`.
        network: what rebuilds the network around ``model.safetensors``, or ``None``.
        files: ``{NAME: {"sha256": …, "bytes": …}}`` of every other file; filled in by writing.
        lineage: ``{"run": …, "dataset": …, "cycle": …, "parents": […]}``.
        metrics: what was measured on validation.
    """

    id: str
    created: float
    task: str
    recipe: str
    runtime: Literal["onnx", "torch"]
    signature: dict[str, Any]
    features: dict[str, Any]
    answer: dict[str, Any]
    network: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Manifest:
        """The manifest that :meth:`to_json` wrote.

        Raises:
            PackageError: an unknown schema, or a field that is missing, mistyped or out of its range.
        """
        schema = data.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            newer = type(schema) is int and schema > SCHEMA
            raise PackageError(
                f"the package has schema {schema!r}, and this version reads schema {SCHEMA}",
                where=where,
                mend="Upgrade tidemill." if newer else "Export the model again.",
            )
        for name, kind in _TYPES.items():
            if name not in data:
                raise _broken(f"{name!r} is missing", where)
            if not isinstance(data[name], kind):
                raise _broken(f"{name!r} is of the wrong type ({type(data[name]).__name__})", where)
        if data["runtime"] not in MODEL_FILES:
            raise _broken(f"runtime is {data['runtime']!r}, not one of {', '.join(MODEL_FILES)}", where)
        if MODEL_FILES[data["runtime"]] not in data["files"]:
            raise _broken(f"there is no {MODEL_FILES[data['runtime']]} for runtime {data['runtime']}", where)
        for name, facts in data["files"].items():
            if name not in KNOWN_FILES:
                raise PackageError(
                    f"it lists a file {name!r}, and a package holds only {', '.join(KNOWN_FILES)}",
                    where=where,
                    mend="Do not use this package; export the model again from its project.",
                )
            if (
                not isinstance(facts, dict)
                or not isinstance(facts.get("sha256"), str)
                or type(facts.get("bytes")) is not int
            ):
                raise _broken(f"the checksum or size of {name} is missing", where)
        return cls(schema=SCHEMA, **{name: data[name] for name in _TYPES})


def parsed(manifest: Manifest, where: str) -> tuple[Any, Any]:
    """The signature and the feature pipeline that a manifest carries.

    Nothing vouches for a pipeline's state, so a made-up row goes through it: what cannot be computed is found out here,
    and not by the first caller.

    Raises:
        PackageError: one of them cannot be understood.
    """
    from tidemill.data.schema import Signature
    from tidemill.features.pipeline import Pipeline

    try:
        signature = Signature.from_json(manifest.signature)
        pipeline = Pipeline.from_json(manifest.features)
        _try(signature, pipeline)
    except _MEANINGLESS as error:
        raise _broken(f"its signature or features cannot be understood ({str(error)[:200]})", where) from error
    return signature, pipeline


_MEANINGLESS = (
    ConfigError, KeyError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError, MemoryError,
    RecursionError,
)  # fmt: skip


def _try(signature: Any, pipeline: Any) -> None:
    """Compute the features of a row of nothing, and compare them with what the pipeline says of itself."""
    import numpy as np

    from tidemill.data.arrays import Column, Ragged
    from tidemill.features._base import Sparse

    row: dict[str, Column] = {}
    for given in signature.inputs:
        if given.type == "image":
            row[given.name] = np.zeros((1, *given.shape), np.uint8)
        else:
            row[given.name] = np.zeros(1) if given.type in ("number", "date") else Ragged.from_strings([None])
    made, said = pipeline.transform(row), pipeline.info()
    for name, info in said.items():
        feature = made[name]
        shape = (1, feature.width) if isinstance(feature, Sparse) else feature.shape
        dtype = "sparse" if isinstance(feature, Sparse) else feature.dtype.name
        if (dtype, shape) != (info.dtype, (1, *info.shape)):
            raise ValueError(f"{name} is {dtype} {shape} instead of {info.dtype} {(1, *info.shape)}")


def _broken(what: str, where: str) -> PackageError:
    return PackageError(
        f"the manifest is damaged: {what}", where=where, mend="Copy the package again, or export the model again."
    )
