"""ONNX graphs of our own networks, written node by node: milliseconds, where tracing takes seconds.

Networks with layers that this file does not know are traced by ``torch.onnx.export``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, Scaled
from tidemill.networks.cnn import Cnn, Rows
from tidemill.networks.cnn_small import CnnSmall
from tidemill.networks.mlp import Mlp

OPSET = 18
TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class Unknown(Exception):  # noqa: N818 - a signal inside this file, not an error
    """A layer that has no hand-written node here."""


def export_onnx(network: nn.Module, info: Mapping[str, FeatureInfo]) -> tuple[bytes | None, str | None]:
    """The network in evaluation mode as an ONNX graph: inputs as *info* names them, output ``scores`` float32.

    Returns:
        The graph and ``None``; or, when a user's network does not convert, ``None`` and the reason.
    """
    try:
        return write_graph(network, info), None
    except Unknown:
        pass
    try:
        return trace_graph(network, info), None
    except torch.onnx.OnnxExporterError as error:
        return None, f"torch.onnx.export could not convert the network: {str(error).splitlines()[0]}"


class _Graph:
    """Nodes and weights gathered so far."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Tensor | np.ndarray) -> str:
        """Store a tensor; its name."""
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, Tensor) else value
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name


def write_graph(network: nn.Module, info: Mapping[str, FeatureInfo]) -> bytes:
    """The graph of one of our own networks.

    Raises:
        Unknown: it is not one, or holds a layer without a node here.
    """
    graph = _Graph()
    body = network.network if isinstance(network, Scaled) else network
    if isinstance(body, Cnn | CnnSmall):
        out = _sequence(graph, body.layers, "image")
    elif isinstance(body, Mlp):
        parts = ["x"] if "x" in info else []
        for i, embedding in enumerate(body.embeddings):
            column = graph.add("Gather", "codes", graph.constant(np.array(i, np.int64)), axis=1)
            parts.append(graph.add("Gather", graph.constant(cast("nn.Embedding", embedding).weight), column, axis=0))
        if body.pixels is not None:
            parts.append(graph.add("Flatten", _pixels(graph, body.pixels, "image"), axis=1))
        joined = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        out = _sequence(graph, body.layers, joined)
    else:
        raise Unknown
    if isinstance(network, Scaled):
        out = graph.add("Mul", out, graph.constant(network.std))
        out = graph.add("Add", out, graph.constant(network.mean))
    graph.nodes[-1].output[0] = "scores"
    inputs = [
        helper.make_tensor_value_info(name, TYPES[feature.dtype], ["n", *feature.shape])
        for name, feature in info.items()
    ]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", None])
    proto = helper.make_graph(graph.nodes, "network", inputs, [scores], graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def _sequence(graph: _Graph, layers: nn.Sequential, value: str) -> str:
    for layer in layers:
        match layer:
            case Pixels():
                value = _pixels(graph, layer, value)
            case nn.Conv2d():
                value = graph.add(
                    "Conv",
                    value,
                    *_weights(graph, layer),
                    kernel_shape=list(layer.kernel_size),
                    strides=list(layer.stride),
                    pads=[int(side) for side in layer.padding] * 2,
                )
            case nn.Linear():
                value = graph.add("Gemm", value, *_weights(graph, layer), transB=1)
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                if layer.running_mean is None or layer.running_var is None:
                    raise Unknown
                state = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                value = graph.add("BatchNormalization", value, *map(graph.constant, state), epsilon=layer.eps)
            case nn.Dropout():
                continue  # nothing at evaluation
            case nn.ReLU():
                value = graph.add("Relu", value)
            case nn.MaxPool2d():
                side = cast("int", layer.kernel_size)
                value = graph.add("MaxPool", value, kernel_shape=[side, side], strides=[side, side])
            case Rows():
                value = graph.add("Flatten", graph.add("Transpose", value, perm=[0, 2, 3, 1]), axis=1)
            case nn.Flatten():
                value = graph.add("Flatten", value, axis=1)
            case _:
                raise Unknown
    return value


def _weights(graph: _Graph, layer: nn.Conv2d | nn.Linear) -> list[str]:
    return [graph.constant(tensor) for tensor in (layer.weight, layer.bias) if tensor is not None]


def _pixels(graph: _Graph, layer: Pixels, value: str) -> str:
    value = graph.add("Cast", value, to=TensorProto.FLOAT)
    value = graph.add("Sub", value, graph.constant(layer.mean))
    value = graph.add("Mul", value, graph.constant(layer.scale))
    return graph.add("Transpose", value, perm=[0, 3, 1, 2])


def trace_graph(network: nn.Module, info: Mapping[str, FeatureInfo]) -> bytes:
    """The graph as ``torch.onnx.export`` traces it; about two seconds."""
    example = {name: torch.zeros((2, *f.shape), dtype=getattr(torch, f.dtype)) for name, f in info.items()}
    rows = torch.export.Dim("n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            network.eval().cpu(),
            (),
            kwargs=example,
            dynamic_shapes={name: {0: rows} for name in example},
            input_names=list(example),
            output_names=["scores"],
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise Unknown
    data: bytes = program.model_proto.SerializeToString()
    return data
