"""ONNX graphs of pretrained encoders: BERT and RoBERTa node by node, other architectures as torch traces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tidemill.checkpoints.backbones import Backbone, TextBackbone
from tidemill.features._base import FeatureInfo
from tidemill.learners.gradient.nodes import Nodes, weights
from tidemill.learners.gradient.traced import Unknown, trace
from tidemill.networks.pretrained import Pretrained

_BERT = ("BertModel", "CamembertModel", "RobertaModel", "XLMRobertaModel")
"""The models of transformers that are built as BERT is (Devlin et al., 2018, https://arxiv.org/abs/1810.04805)."""


@torch.no_grad()
def write_pretrained(graph: Nodes, network: Pretrained) -> str:
    """Nodes of encoder and head, without dropout.

    Raises:
        Unknown: its architecture has no nodes here.
    """
    return graph.add("Gemm", write_backbone(graph, network.backbone), *weights(graph, network.head), transB=1)


@torch.no_grad()
def write_backbone(graph: Nodes, backbone: Backbone) -> str:
    """Nodes from ``tokens`` to vectors ``[n, width]``. They cut the padding that all rows of a batch share.

    Raises:
        Unknown: its architecture has no nodes here.
    """
    model: Any = backbone.model
    if not isinstance(backbone, TextBackbone) or type(model).__name__ not in _BERT:
        raise Unknown
    if model.config.hidden_act != "gelu" or not isinstance(model.embeddings.position_embeddings, nn.Embedding):
        raise Unknown
    tokens, filled, seen = _cut(graph)
    value = _embedded(graph, backbone, tokens, filled)
    hidden = graph.add("Where", seen, graph.constant(np.float32(0)), graph.constant(np.float32(-1e9)))
    hidden = graph.add("Unsqueeze", hidden, graph.constant(np.array([1, 2])))
    for layer in model.encoder.layer:
        value = _layer(graph, layer, value, hidden)
    if backbone.first:
        return graph.add("Gather", value, graph.constant(np.array(0)), axis=1)
    weight = graph.add("Unsqueeze", graph.add("Cast", seen, to=TensorProto.FLOAT), graph.constant(np.array([2])))
    one = graph.constant(np.array([1]))
    total = graph.add("ReduceSum", graph.add("Mul", value, weight), one, keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", weight, one, keepdims=0))


def _cut(graph: Nodes) -> tuple[str, str, str]:
    """The tokens as far as the longest row goes, where there are any, and where something may be looked at."""
    zero, one = graph.constant(np.array([0])), graph.constant(np.array([1]))
    filled = graph.add("Cast", "tokens", to=TensorProto.BOOL)
    column = graph.add("ReduceSum", graph.add("Cast", filled, to=TensorProto.INT64), zero, keepdims=0)
    reached = graph.add("ReduceSum", graph.add("Cast", _positive(graph, column), to=TensorProto.INT64), zero)
    longest = graph.add("Max", reached, one)
    tokens = graph.add("Slice", "tokens", zero, longest, one)
    filled = graph.add("Slice", filled, zero, longest, one)
    places = graph.add("Range", graph.constant(np.array(0)), graph.add("Squeeze", longest), graph.constant(np.array(1)))
    return tokens, filled, graph.add("Or", filled, graph.add("Equal", places, zero))


def _positive(graph: Nodes, value: str) -> str:
    return graph.add("Greater", value, graph.constant(np.array(0)))


def _embedded(graph: Nodes, backbone: TextBackbone, tokens: str, filled: str) -> str:
    model: Any = backbone.model
    table = model.embeddings
    ids = graph.add("Sub", graph.add("Cast", tokens, to=TensorProto.INT64), graph.constant(np.array(1)))
    ids = graph.add("Where", filled, ids, graph.constant(np.array(backbone.pad)))
    places = table.position_embeddings.weight
    if hasattr(table, "token_type_embeddings"):
        places = places + table.token_type_embeddings.weight[0]  # every text is of the first type
    axis = graph.constant(np.array([1]))
    length = graph.add("Slice", graph.add("Shape", tokens), axis, graph.constant(np.array([2])))
    begin, step = graph.constant(np.array(0)), graph.constant(np.array(1))
    at = graph.add("Range", begin, graph.add("Squeeze", length), step)
    if type(model).__name__ != "BertModel":  # there places are counted from behind padding's own
        at = graph.add("Add", at, graph.constant(np.array(backbone.pad + 1)))
        at = graph.add("Where", filled, at, graph.constant(np.array(backbone.pad)))
    placed = graph.add("Gather", graph.constant(places), at, axis=0)
    value = graph.add("Gather", graph.constant(table.word_embeddings.weight), ids, axis=0)
    return _norm(graph, table.LayerNorm, graph.add("Add", value, placed))


def _norm(graph: Nodes, layer: nn.LayerNorm, value: str) -> str:
    state = (graph.constant(layer.weight), graph.constant(layer.bias))
    return graph.add("LayerNormalization", value, *state, axis=-1, epsilon=layer.eps)


def _layer(graph: Nodes, layer: Any, value: str, hidden: str) -> str:
    found = graph.linear(_attention(graph, layer.attention.self, value, hidden), layer.attention.output.dense)
    value = _norm(graph, layer.attention.output.LayerNorm, graph.add("Add", found, value))
    inner = graph.linear(value, layer.intermediate.dense)
    bent = graph.add("Erf", graph.add("Mul", inner, graph.constant(np.float32(0.5**0.5))))
    inner = graph.add("Mul", inner, graph.add("Add", bent, graph.constant(np.float32(1))))
    inner = graph.add("Mul", inner, graph.constant(np.float32(0.5)))
    return _norm(graph, layer.output.LayerNorm, graph.add("Add", graph.linear(inner, layer.output.dense), value))


def _attention(graph: Nodes, layer: Any, value: str, hidden: str) -> str:
    heads, each = layer.num_attention_heads, layer.attention_head_size
    three = (layer.query, layer.key, layer.value)
    together = nn.Linear(layer.query.in_features, 3 * heads * each)
    together.weight.copy_(torch.cat([part.weight for part in three]))
    together.bias.copy_(torch.cat([part.bias for part in three]))
    parts = graph.add("Reshape", graph.linear(value, together), graph.constant(np.array([0, 0, 3, heads, each])))
    parts = graph.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
    query, key, content = (graph.add("Gather", parts, graph.constant(np.array(i)), axis=0) for i in range(3))
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.add("Add", graph.add("Mul", scores, graph.constant(np.float32(each**-0.5))), hidden)
    seen = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), content)
    seen = graph.add("Transpose", seen, perm=[0, 2, 1, 3])
    return graph.add("Reshape", seen, graph.constant(np.array([0, 0, heads * each])))


def trace_pretrained(network: nn.Module, info: Mapping[str, FeatureInfo], output: str = "scores") -> bytes:
    """The graph of an encoder, or of a network over it, as torch traces it; some seconds.

    Raises:
        Unknown: there is none.
        torch.onnx.OnnxExporterError: it cannot be converted.
    """
    rows = torch.export.Dim("n")
    if "tokens" not in info:
        image = torch.zeros((2, *info["image"].shape), dtype=torch.uint8)
        data: bytes = trace(_OfImages(network), {"image": image}, {"image": {0: rows}}, output).SerializeToString()
        return data
    most = info["tokens"].shape[0]
    tokens = torch.ones((2, min(7, most)), dtype=torch.int32)
    tokens[1, -2:] = 0
    length = torch.export.Dim("length", min=2, max=most)
    model = trace(_OfTokens(network), {"tokens": tokens}, {"tokens": {0: rows, 1: length}}, output)
    cut: bytes = _cut_first(model, most).SerializeToString()
    return cut


def _cut_first(model: onnx.ModelProto, length: int) -> onnx.ModelProto:
    """The same graph behind nodes that cut the padding which all rows of a batch share; two places always stay."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["tokens_cut" if name == "tokens" else name for name in node.input]

    constants = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "none": np.array(0)}
    graph.initializer.extend(numpy_helper.from_array(value, f"cut_{name}") for name, value in constants.items())
    made = helper.make_node
    first = [
        made("Cast", ["tokens"], ["cut_wide"], to=TensorProto.INT64),
        made("ReduceSum", ["cut_wide", "cut_zero"], ["cut_sums"], keepdims=0),
        made("Greater", ["cut_sums", "cut_none"], ["cut_held"]),
        made("Cast", ["cut_held"], ["cut_ones"], to=TensorProto.INT64),
        made("ReduceSum", ["cut_ones", "cut_zero"], ["cut_reached"]),
        made("Max", ["cut_reached", "cut_two"], ["cut_longest"]),
        made("Slice", ["tokens", "cut_zero", "cut_longest", "cut_one"], ["tokens_cut"]),
    ]
    whole = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(whole)
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[1].Clear()
    shape.dim[1].dim_value = length
    return model


class _OfTokens(nn.Module):
    """The exporter wants to read the input's name; an encoder takes it by place, a network by name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.bare = isinstance(network, TextBackbone)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """What the network gives."""
        out: torch.Tensor = self.network(tokens) if self.bare else self.network(tokens=tokens)
        return out


class _OfImages(nn.Module):
    """As :class:`_OfTokens`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.bare = hasattr(network, "side")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """What the network gives."""
        out: torch.Tensor = self.network(image) if self.bare else self.network(image=image)
        return out
