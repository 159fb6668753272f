"""Trained ensembles side by side, as one model and as one ONNX node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from tidemill.data.schema import Kind
from tidemill.features._base import FeatureInfo, Features
from tidemill.learners._base import Export, Scores
from tidemill.learners._graph import Graph
from tidemill.learners.trees.graph import ensemble


@dataclass(frozen=True)
class FittedTrees:
    """Trained ensembles.

    Attributes:
        kind: of the problem.
        boosters: LightGBM models, their thresholds exact in float32, each with the first column of the margins that it
            adds to. Ensembles of one column are averaged by ``scale``; a label that training rows never told apart
            has none.
        info: the features they read.
        fill: float32 ``[d + k]``, what replaces NaN; NaN itself where the trees learned what a missing value means.
        classes: labels, or 1 for regression.
        scale: float64 ``[columns]``, what margins are multiplied by: the deviation of a regression's target, since
            trees grow on one of deviation 1, over the number of ensembles in the column.
        shift: float64 ``[columns]``, what is added then: the mean of a regression, the log-odds of a constant label.
        threads: for scoring.
        summary: facts for the run record.
    """

    kind: Kind
    boosters: Sequence[tuple[int, lightgbm.Booster]]
    info: Mapping[str, FeatureInfo]
    fill: npt.NDArray[np.float32]
    classes: int
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    threads: int
    summary: dict[str, Any]

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32: the margins; for two classes 0 and the second one's; ``[n, 3]`` with an interval."""
        rows = matrix(features, slice(None))
        rows = np.where(np.isnan(rows), self.fill, rows)
        margins = np.zeros((len(rows), len(self.shift)))
        for column, booster in self.boosters:
            given = self._margins(booster, rows)
            margins[:, column : column + given.shape[1]] += given
        out = (margins * self.scale + self.shift).astype(np.float32)
        if self._two_columns:
            return np.concatenate([np.zeros_like(out), out], axis=1)
        if self._interval:
            return np.stack([out[:, 0], out.min(axis=1), out.max(axis=1)], axis=1)
        return out

    def _margins(self, booster: lightgbm.Booster, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.zeros((0, booster.num_model_per_iteration()))
        raw = booster.predict(rows, raw_score=True, num_threads=self.threads)
        return np.asarray(raw, np.float64).reshape(len(rows), -1)

    @property
    def _two_columns(self) -> bool:
        return self.kind == "classification" and self.classes == 2

    @property
    def _interval(self) -> bool:
        return self.kind == "regression" and len(self.shift) == 3

    def export(self) -> Export:
        """The ensembles as one node that reads ``x`` and ``codes``."""
        graph = Graph()
        parts = ["x"] if "x" in self.info else []
        if "codes" in self.info:
            parts.append(graph.cast("codes", TensorProto.FLOAT))
        rows = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
        if not np.isnan(self.fill).all():
            rows = graph.add("Where", graph.add("IsNaN", rows), graph.constant(self.fill), rows)
        graph.nodes.append(ensemble(self.boosters, len(self.shift), rows, out := "margins"))
        if (self.scale != 1).any():
            out = graph.add("Mul", out, graph.constant(self.scale.astype(np.float32)[None]))
        if self.shift.any():
            out = graph.add("Add", out, graph.constant(self.shift.astype(np.float32)[None]))
        width = len(self.shift)
        if self._two_columns:
            # one tensor for both columns: 0 · margin and 1 · margin
            out, width = graph.add("Mul", out, graph.constant(np.array([[0, 1]], np.float32))), 2
        if self._interval:
            value = graph.add("Gather", out, graph.constant(np.array([0], np.int64)), axis=1)
            ends = [graph.add(op, out, axes=[1], keepdims=1) for op in ("ReduceMin", "ReduceMax")]
            out = graph.add("Concat", value, *ends, axis=1)
        model = graph.model(self.info, out, width, {"ai.onnx.ml": 1})
        return Export(onnx=model.SerializeToString())


def matrix(features: Features, rows: slice) -> npt.NDArray[np.float32]:
    """``x`` and ``codes`` side by side, float32 ``[m, d + k]``: float32 holds every code below 16 million."""
    parts = [np.asarray(features[name][rows], np.float32) for name in ("x", "codes") if name in features]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def float32_thresholds(booster: lightgbm.Booster, best: int) -> lightgbm.Booster:
    """The first *best* rounds, with every threshold rounded down to float32.

    The features are float32, so no decision changes; but the graph's thresholds are float32 too, and rounded to the
    nearest they may pass the value that they were to separate.
    """

    def rounded(match: re.Match[str]) -> str:
        wide = np.array(match[1].split(), np.float64)
        near = wide.astype(np.float32)
        down = np.where(near > wide, np.nextafter(near, np.float32(-np.inf)), near)
        return "threshold=" + " ".join(repr(float(value)) for value in down)

    text = booster.model_to_string(num_iteration=best)
    text = re.sub(r"^threshold=(.*)$", rounded, text, flags=re.MULTILINE)
    # the sizes in bytes that let LightGBM parse trees in parallel are wrong now; without them it reads in order
    return lightgbm.Booster(model_str=re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE))
