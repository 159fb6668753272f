"""ONNX graphs of our own networks, written node by node: milliseconds, where tracing takes seconds.

Networks with layers that this file does not know are traced by ``torch.onnx.export``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from tidemill.features._base import FeatureInfo
from tidemill.learners.gradient.graph_pretrained import trace_pretrained, write_pretrained
from tidemill.learners.gradient.graph_text import write_ngram, write_transformer
from tidemill.learners.gradient.nodes import Nodes, weights
from tidemill.learners.gradient.traced import OPSET, Unknown, trace
from tidemill.networks._base import Pixels, Scaled
from tidemill.networks.cnn import Cnn, Rows, looks_at
from tidemill.networks.cnn_small import CnnSmall
from tidemill.networks.mlp import Mlp, Piecewise
from tidemill.networks.ngram import Ngram
from tidemill.networks.pretrained import Pretrained, is_pretrained
from tidemill.networks.transformer import Transformer


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
        if is_pretrained(network):
            return trace_pretrained(network, info), None
        return trace_graph(network, info), None
    except Unknown:
        return None, "a user's own network over sparse features is not converted"
    except torch.onnx.OnnxExporterError as error:
        return None, f"torch.onnx.export could not convert the network: {str(error).splitlines()[0]}"


def write_graph(network: nn.Module, info: Mapping[str, FeatureInfo]) -> bytes:
    """The graph of one of our own networks.

    Raises:
        Unknown: it is not one, or holds a layer without a node here.
    """
    graph = Nodes(info)
    body = network.network if isinstance(network, Scaled) else network
    if isinstance(body, Cnn) and body.looks:
        out = _looks(graph, body, info["image"].shape)
    elif isinstance(body, Cnn | CnnSmall):
        out = _sequence(graph, body.layers, "image")
    elif isinstance(body, Ngram):
        out = write_ngram(graph, body)
    elif isinstance(body, Transformer):
        out = write_transformer(graph, body)
    elif isinstance(body, Pretrained):
        out = write_pretrained(graph, body)
    elif isinstance(body, Mlp):
        parts = ["x"] if "x" in info else []
        if body.piecewise is not None:
            parts.append(_piecewise(graph, body.piecewise, "x"))
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
        out = _scaled(graph, network, out)
    graph.nodes[-1].output[0] = "scores"
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", None])
    proto = helper.make_graph(graph.nodes, "network", graph.inputs, [scores], graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def _scaled(graph: Nodes, layer: Scaled, value: str) -> str:
    if layer.interval:
        middle, below, above = graph.split(value, [1, 1, 1], axis=1)
        low = graph.add("Sub", middle, graph.add("Softplus", below))
        high = graph.add("Add", middle, graph.add("Softplus", above))
        value = graph.add("Concat", middle, low, high, axis=1)
    return graph.add("Add", graph.add("Mul", value, graph.constant(layer.std)), graph.constant(layer.mean))


def _piecewise(graph: Nodes, layer: Piecewise, value: str) -> str:
    value = graph.add("Unsqueeze", value, graph.constant(np.array([2])))
    value = graph.add("Mul", graph.add("Sub", value, graph.constant(layer.low)), graph.constant(layer.scale))
    value = graph.add("Clip", value, graph.constant(np.float32(0)), graph.constant(np.float32(1)))
    return graph.add("Flatten", value, axis=1)


def _sequence(graph: Nodes, layers: nn.Sequential, value: str) -> str:
    for layer in layers:
        match layer:
            case Pixels():
                value = _pixels(graph, layer, value)
            case nn.Conv2d():
                value = graph.add(
                    "Conv",
                    value,
                    *weights(graph, layer),
                    kernel_shape=list(layer.kernel_size),
                    strides=list(layer.stride),
                    pads=[int(side) for side in layer.padding] * 2,
                )
            case nn.Linear():
                value = graph.add("Gemm", value, *weights(graph, layer), transB=1)
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


def _looks(graph: Nodes, network: Cnn, shape: tuple[int, ...]) -> str:
    """The mean of what is seen of an image and of what lies a pixel aside, then the last layer."""
    last = cast("nn.Linear", network.layers[-1])
    several = []
    for rows, columns in looks_at(shape[0], shape[1]):
        moved = graph.add("Gather", "image", graph.constant(rows), axis=1)
        several.append(graph.add("Gather", moved, graph.constant(columns), axis=2))
    before = cast("nn.Sequential", network.layers[:-1])
    seen = _sequence(graph, before, graph.add("Concat", *several, axis=0))
    split = graph.constant(np.array([len(several), -1, last.in_features]))
    mean = graph.add("ReduceMean", graph.add("Reshape", seen, split), graph.constant(np.array([0])), keepdims=0)
    return graph.add("Gemm", mean, *weights(graph, last), transB=1)


def _pixels(graph: Nodes, layer: Pixels, value: str) -> str:
    value = graph.add("Cast", value, to=TensorProto.FLOAT)
    value = graph.add("Sub", value, graph.constant(layer.mean))
    value = graph.add("Mul", value, graph.constant(layer.scale))
    return graph.add("Transpose", value, perm=[0, 3, 1, 2])


def trace_graph(network: nn.Module, info: Mapping[str, FeatureInfo]) -> bytes:
    """The graph as ``torch.onnx.export`` traces it; about two seconds.

    Raises:
        Unknown: it takes sparse features, whose rows are not the batch.
    """
    if any(f.dtype == "sparse" for f in info.values()):
        raise Unknown
    example = {name: torch.zeros((2, *f.shape), dtype=getattr(torch, f.dtype)) for name, f in info.items()}
    rows = torch.export.Dim("n")
    named = _Named(network) if isinstance(network, Scaled) else network
    data: bytes = trace(named, example, {name: {0: rows} for name in example}, "scores").SerializeToString()
    return data


class _Named(nn.Module):
    """A network that takes whatever it is given by name; the exporter wants to read the names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        x: Tensor | None = None,
        codes: Tensor | None = None,
        tokens: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """What the network gives for the features that there are."""
        given = {"x": x, "codes": codes, "tokens": tokens, "image": image}
        out: Tensor = self.network(**{name: value for name, value in given.items() if value is not None})
        return out
