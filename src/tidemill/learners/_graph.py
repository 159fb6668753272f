"""ONNX graphs by hand: a small builder, the dense row that most learners start from, and sums over sparse rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tidemill.features._base import FeatureInfo
from tidemill.features.pixel_vector import block

OPSET = 17
"""Old enough for every supported onnxruntime, new enough for torch and scikit-learn converters."""
IR_VERSION = 10
_TYPES = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


class Builder(Protocol):
    """Gathers nodes and constants under fresh names."""

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its output."""

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Store a tensor; its name."""


class Graph:
    """Nodes and constants under fresh names.

    >>> graph = Graph()
    >>> doubled = graph.add("Mul", "x", graph.constant(np.float32(2)))
    >>> model = graph.model({"x": FeatureInfo("float32", (3,))}, doubled, width=3)
    >>> [o.name for o in model.graph.output]
    ['scores']
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def fresh(self) -> str:
        """A name that nothing bears yet."""
        return f"t{len(self.nodes) + len(self.constants)}"

    def constant(self, value: npt.ArrayLike) -> str:
        """A constant tensor's name."""
        name = self.fresh()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One node; its output's name."""
        name = self.fresh()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def cast(self, name: str, dtype: int) -> str:
        """*name* as another type, for example ``TensorProto.DOUBLE``."""
        return self.add("Cast", name, to=dtype)

    def model(self, info: Mapping[str, FeatureInfo], scores: str, width: int, domains: Mapping[str, int] = {}) -> Any:
        """The checked model: inputs as *info* says, output ``scores`` float32 ``[n, width]``."""
        self.nodes.append(helper.make_node("Identity", [scores], ["scores"]))
        inputs = graph_inputs(info)
        output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", width])
        graph = helper.make_graph(self.nodes, "scores", inputs, [output], self.constants)
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(*domain) for domain in domains.items())]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tidemill")
        onnx.checker.check_model(model)
        return model


def dense_row(graph: Graph, info: Mapping[str, FeatureInfo], max_side: int | None) -> str | None:
    """Nodes for what :func:`tidemill.learners._dense.dense` computes, float32 ``[n, d]``; ``None`` without input."""
    parts = []
    if "image" in info:
        height, width, _ = info["image"].shape
        pixels = graph.cast("image", TensorProto.FLOAT)
        side = block(height, width, max_side)
        if side > 1:
            pads = graph.constant(np.array([0, 0, 0, 0, 0, -height % side, -width % side, 0], np.int64))
            pixels = graph.add("Transpose", graph.add("Pad", pixels, pads, mode="edge"), perm=[0, 3, 1, 2])
            pixels = graph.add("AveragePool", pixels, kernel_shape=[side, side], strides=[side, side])
            pixels = graph.add("Transpose", pixels, perm=[0, 2, 3, 1])
        flat = graph.add("Reshape", pixels, graph.constant(np.array([0, -1], np.int64)))
        parts.append(graph.add("Div", flat, graph.constant(np.float32(255))))
    if "x" in info:
        parts.append("x")
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def graph_inputs(info: Mapping[str, FeatureInfo]) -> list[onnx.ValueInfoProto]:
    """The inputs of a graph over these features.

    A sparse feature NAME is three: ``NAME`` int64 ``[nnz]``, ``NAME_values`` float32 ``[nnz]``, and ``NAME_offsets``
    int64 ``[n]``, where each row begins.

    >>> [item.name for item in graph_inputs({"ngrams": FeatureInfo("sparse", (9,))})]
    ['ngrams', 'ngrams_values', 'ngrams_offsets']
    """
    inputs = []
    for name, item in info.items():
        if item.dtype != "sparse":
            inputs.append(helper.make_tensor_value_info(name, _TYPES[item.dtype], ["n", *item.shape]))
            continue
        for suffix, kind in (("", "int64"), ("_values", "float32")):
            inputs.append(helper.make_tensor_value_info(name + suffix, _TYPES[kind], [f"{name}_nnz"]))
        inputs.append(helper.make_tensor_value_info(f"{name}_offsets", TensorProto.INT64, ["n"]))
    return inputs


def sparse_sums(graph: Builder, name: str, table: npt.NDArray[np.float32]) -> str:
    """Nodes for ``rows @ table``: of each row of the sparse feature *name* the weighed sum of what its columns hold.

    The sums run on from row to row in float64, behind a first place that weighs nothing; a row's sum is what lies
    between its two ends. ``ScatterND`` with ``reduction="add"`` would be plainer, but onnxruntime's threads add to one
    place at the same time and lose some of what they add.

    Args:
        table: float32 ``[columns, width]``.

    Returns:
        A value float32 ``[n, width]``.
    """
    one = graph.constant(np.array([1]))
    columns = graph.add("Concat", graph.constant(np.array([0])), name, axis=0)
    values = graph.add("Concat", graph.constant(np.zeros(1, np.float32)), f"{name}_values", axis=0)
    held = graph.add("Gather", graph.constant(table), columns, axis=0)
    weighed = graph.add("Mul", held, graph.add("Unsqueeze", values, one))
    running = graph.add("CumSum", graph.add("Cast", weighed, to=TensorProto.DOUBLE), graph.constant(np.array(0)))
    starts = f"{name}_offsets"
    bounds = graph.add("Concat", starts, graph.add("Shape", name), axis=0)
    ends = graph.add("Slice", bounds, one, graph.constant(np.array([np.iinfo(np.int64).max])))
    sums = graph.add("Sub", graph.add("Gather", running, ends), graph.add("Gather", running, starts))
    return graph.add("Cast", sums, to=TensorProto.FLOAT)
