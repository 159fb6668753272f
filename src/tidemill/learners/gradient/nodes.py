"""A builder for ONNX graphs of networks: nodes and weights gathered under fresh names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tidemill.features._base import FeatureInfo

TYPES = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


class Nodes:
    """Nodes and weights gathered so far; inputs as *info* says.

    A sparse feature NAME is four inputs: ``NAME`` int64 ``[nnz]``, ``NAME_values`` float32 ``[nnz]``, ``NAME_rows``
    int64 ``[nnz]``, and ``NAME_offsets`` int64 ``[n]``.
    """

    def __init__(self, info: Mapping[str, FeatureInfo]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        for name, feature in info.items():
            if feature.dtype != "sparse":
                self._input(name, TYPES[feature.dtype], ["n", *feature.shape])
                continue
            for suffix, kind in (("", "int64"), ("_values", "float32"), ("_rows", "int64")):
                self._input(name + suffix, TYPES[kind], [f"{name}_nnz"])
            self._input(f"{name}_offsets", TYPES["int64"], ["n"])

    def _input(self, name: str, kind: int, shape: list[str | int]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Parts of *value* along an axis."""
        names = [f"v{len(self.nodes)}_{part}" for part in range(len(sizes))]
        given = [value, self.constant(np.array(sizes, np.int64))]
        self.nodes.append(helper.make_node("Split", given, names, axis=axis))
        return names

    def constant(self, value: Tensor | np.ndarray | np.generic) -> str:
        """Store a tensor; its name."""
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, Tensor) else value
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def linear(self, value: str, layer: nn.Linear) -> str:
        """A dense layer over the last axis of a value of any rank."""
        value = self.add("MatMul", value, self.constant(layer.weight.T))
        return value if layer.bias is None else self.add("Add", value, self.constant(layer.bias))


def weights(graph: Nodes, layer: nn.Conv2d | nn.Linear) -> list[str]:
    """The names of a layer's weight and, where it has one, bias."""
    return [graph.constant(tensor) for tensor in (layer.weight, layer.bias) if tensor is not None]
