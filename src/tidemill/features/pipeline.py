"""A recipe's feature steps as one object: fitted in one pass, then the same transform in training and serving."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.data.arrays import Columns, length
from tidemill.data.schema import Signature
from tidemill.errors import ConfigError, TrainingError
from tidemill.features._base import Feature, FeatureInfo, FeatureStep, Sparse
from tidemill.features._sparse import beside

_ENGINE_ROOM = {"pipeline", "cache"}
_ALONE = {
    "image": "Keep one, or use pixel_vector for the other.",
    "tokens": "Keep one, and name all its columns there.",
}
"""Outputs that only one step may write, and what to do instead."""


def step_names() -> list[str]:
    """The names of all feature steps: one a file of this folder.

    >>> "numbers" in step_names() and "pipeline" not in step_names()
    True
    """
    import tidemill.features as folder

    found = (module.name for module in pkgutil.iter_modules(folder.__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in _ENGINE_ROOM)


def step_class(name: str) -> type[FeatureStep]:
    """The step called *name*.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    names = step_names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1)
        mend = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."
        raise ConfigError(f"there is no feature step {name!r}", where="the recipe's features", mend=mend)
    module = importlib.import_module(f"tidemill.features.{name}")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, FeatureStep) and kind.__dict__.get("name") == name
    )


class Pipeline:
    """The steps of one recipe over one signature.

    Args:
        specs: each ``{"step": NAME, "columns": [...], ...options}``. Without ``columns`` a step takes every input of
            the types it handles, and is left out when there is none.
        signature: the inputs that the steps choose from; ``None`` when every spec names its columns.

    Raises:
        ConfigError: an unknown step, column or option, or nothing is left to do.

    >>> from tidemill.data.schema import Field
    >>> signature = Signature(inputs=(Field(name="age", type="number"),), target="y", kind="regression")
    >>> pipeline = Pipeline([{"step": "numbers"}, {"step": "categories"}], signature)
    >>> pipeline.fit([{"age": np.array([20.0, 40.0])}])
    >>> pipeline.transform({"age": np.array([30.0])})
    {'x': array([[0.]], dtype=float32)}
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], signature: Signature | None) -> None:
        if signature is not None:
            specs = [spec for given in specs if (spec := _resolve(given, signature)) is not None]
        if not specs:
            types = sorted({field.type for field in signature.inputs} if signature else ())
            raise ConfigError(
                f"no feature step reads the inputs, which are of type {', '.join(types)}",
                where="the recipe's features",
                mend="Add a step that does, for example numbers, categories or pixels.",
            )
        self._specs = [dict(spec) for spec in specs]
        self._steps = [_make(spec) for spec in self._specs]
        self._info: dict[str, FeatureInfo] = {}

    @property
    def specs(self) -> list[dict[str, Any]]:
        """What each step was made of, its columns named."""
        return [dict(spec) for spec in self._specs]

    @property
    def steps(self) -> tuple[FeatureStep, ...]:
        """The steps in their order."""
        return tuple(self._steps)

    @property
    def learns(self) -> bool:
        """Whether its state follows from the rows it is fitted on."""
        return any(step.learns for step in self._steps)

    @property
    def columns(self) -> list[str]:
        """The input columns that any step reads."""
        return list(dict.fromkeys(name for step in self._steps for name in step.columns))

    def fit(self, chunks: Iterable[Columns]) -> None:
        """One pass over the training rows.

        Raises:
            TrainingError: there are no training rows.
        """
        rows = 0
        for chunk in chunks:
            rows += length(chunk)
            for step in self._steps:
                step.observe(chunk)
        if rows == 0:
            raise TrainingError(
                "there are no labelled training rows to fit features on", mend="Label some samples first."
            )
        for step in self._steps:
            step.finish()
        self._info = _merge_info([step.info() for step in self._steps])

    def transform(self, columns: Columns) -> dict[str, Feature]:
        """The features of any rows; a pure function of the fitted state."""
        if len(self._steps) == 1:
            return dict(self._steps[0].transform(columns))
        parts: dict[str, list[Feature]] = {}
        for step in self._steps:
            for name, array in step.transform(columns).items():
                parts.setdefault(name, []).append(array)
        return {name: _side_by_side(arrays) for name, arrays in parts.items()}

    def info(self) -> dict[str, FeatureInfo]:
        """What :meth:`transform` writes, by name."""
        return dict(self._info)

    def packed(self) -> Pipeline | None:
        """What a package holds of it, where a step has another in its place (:meth:`FeatureStep.packed`).

        Raises:
            ConfigError: two of them write what only one may.
        """
        others = [step.packed() for step in self._steps]
        if not any(others):
            return None
        steps = [
            spec | {"state": step.state()}
            if other is None
            else {"step": other.name, "columns": other.columns, "state": other.state()}
            for spec, step, other in zip(self._specs, self._steps, others, strict=True)
        ]
        return Pipeline.from_json({"steps": steps})

    def to_json(self) -> dict[str, Any]:
        """Specs and fitted state as JSON."""
        return {"steps": [spec | {"state": s.state()} for spec, s in zip(self._specs, self._steps, strict=True)]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pipeline:
        """The pipeline that :meth:`to_json` wrote, equal to the fitted one.

        Raises:
            ConfigError: an unknown step or option.
            KeyError, ValueError, TypeError: the state is not what the step wrote.
        """
        specs = [{key: value for key, value in spec.items() if key != "state"} for spec in data["steps"]]
        pipeline = cls(specs, None)
        pipeline.restore([spec["state"] for spec in data["steps"]])
        return pipeline

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over each step's fitted state."""
        for step, state in zip(self._steps, states, strict=True):
            step.restore(state)
        self._info = _merge_info([step.info() for step in self._steps])


def _resolve(spec: Mapping[str, Any], signature: Signature) -> dict[str, Any] | None:
    kind = step_class(spec.get("step", ""))
    fields = {field.name: field for field in signature.inputs}
    if spec.get("columns") is None:
        columns = [f.name for f in signature.inputs if f.type in kind.handles and f.role in ("input", "action")]
        return {**spec, "columns": columns} if columns else None
    for name in spec["columns"]:
        if name not in fields:
            near = difflib.get_close_matches(name, list(fields), 1)
            raise ConfigError(
                f"there is no input column {name!r}",
                where=f"feature step {kind.name}",
                mend=f"Did you mean {near[0]}?" if near else f"The columns are {', '.join(fields)}.",
            )
        # a text that the recipe names on purpose may be counted like a category
        allowed = {*kind.handles, *(("text",) if "category" in kind.handles else ())}
        if fields[name].type not in allowed:
            raise ConfigError(
                f"column {name!r} holds {fields[name].type}, but the step reads {' or '.join(kind.handles)}",
                where=f"feature step {kind.name}",
                mend="Choose another step for it, or leave it out.",
            )
    return {**spec, "columns": list(spec["columns"])}


def _make(spec: Mapping[str, Any]) -> FeatureStep:
    kind = step_class(spec["step"])
    options = {name: value for name, value in spec.items() if name not in ("step", "columns")}
    known = [name for name in inspect.signature(kind).parameters if name != "columns"]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            listed = f"It takes {', '.join(known)}." if known else "It takes none."
            raise ConfigError(
                f"step {kind.name} has no option {name!r}",
                where="the recipe's features",
                mend=f"Did you mean {near[0]}?" if near else listed,
            )
    return kind(list(spec["columns"]), **options)


def _side_by_side(parts: Sequence[Feature]) -> Feature:
    if len(parts) == 1:
        return parts[0]
    sparse = [part for part in parts if isinstance(part, Sparse)]
    return beside(sparse) if sparse else np.concatenate([np.asarray(part) for part in parts], axis=1)


def _merge_info(infos: Sequence[Mapping[str, FeatureInfo]]) -> dict[str, FeatureInfo]:
    merged: dict[str, FeatureInfo] = {}
    for name, new in (pair for info in infos for pair in info.items()):
        if name not in merged:
            merged[name] = new
            continue
        if name in _ALONE:
            raise ConfigError(f"two steps write {name}", where="the recipe's features", mend=_ALONE[name])
        old = merged[name]
        meta = {key: [*old.meta.get(key, []), *new.meta.get(key, [])] for key in {**old.meta, **new.meta}}
        merged[name] = FeatureInfo(old.dtype, (old.shape[0] + new.shape[0],), meta)
    return merged
