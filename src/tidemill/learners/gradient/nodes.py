"""A builder for ONNX graphs of networks: nodes and weights gathered under fresh names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn

from tidemill.features._base import FeatureInfo
from tidemill.learners._graph import graph_inputs


class Nodes:
    """Nodes and weights gathered so far; inputs as *info* says, see :func:`tidemill.learners._graph.graph_inputs`."""

    def __init__(self, info: Mapping[str, FeatureInfo]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = graph_inputs(info)

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
