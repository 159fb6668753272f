"""ONNX nodes of the networks for texts."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from tidemill.learners._graph import sparse_sums
from tidemill.learners.gradient.nodes import Nodes, weights
from tidemill.networks.ngram import Ngram
from tidemill.networks.transformer import Attention, Block, Transformer


@torch.no_grad()
def write_ngram(graph: Nodes, network: Ngram) -> str:
    """Gather, weigh, add up row by row. Without a hidden layer the table is multiplied by the last layer beforehand,
    which leaves one number a label for each n-gram.
    """
    table, bias = network.table.weight, network.bias
    last = cast("nn.Linear", network.layers[-1])
    folded = len(network.layers) == 1
    if folded:
        table, bias = table @ last.weight.T, last(bias)
    out = sparse_sums(graph, "ngrams", table.cpu().numpy())
    out = graph.add("Add", out, graph.constant(bias))
    for layer in () if folded else network.layers:
        match layer:
            case nn.Linear():
                out = graph.add("Gemm", out, *weights(graph, layer), transB=1)
            case _:
                out = graph.add("Relu", out)
    return out


@torch.no_grad()
def write_transformer(graph: Nodes, network: Transformer) -> str:
    """The encoder. It cuts the padding that all rows of a batch share, so an answer takes as long as its texts are."""
    length = network.cosine.shape[0]
    places = graph.constant(np.arange(1, length + 1))
    zero = graph.constant(np.array([0]))
    one = graph.constant(np.array([1]))
    axis_two = graph.constant(np.array([2]))
    filled = graph.add("Not", graph.add("Equal", "tokens", graph.constant(np.int32(0))))
    reached = graph.add("Mul", graph.add("Cast", filled, to=TensorProto.INT64), places)
    longest = graph.add("Max", graph.add("Unsqueeze", graph.add("ReduceMax", reached, keepdims=0), zero), one)
    tokens = graph.add("Slice", "tokens", zero, longest, one)
    counted = graph.add("Slice", filled, zero, longest, one)
    cosine, sine = (
        graph.add("Slice", graph.constant(table), zero, longest, zero) for table in (network.cosine, network.sine)
    )
    first = graph.add("Equal", graph.add("Slice", places, zero, longest, zero), one)
    seen = graph.add("Or", counted, first)
    hidden = graph.add("Where", seen, graph.constant(np.float32(0)), graph.constant(np.float32(-1e9)))
    hidden = graph.add("Unsqueeze", hidden, graph.constant(np.array([1, 2])))
    bag = value = graph.add("Gather", graph.constant(network.embedding.weight), tokens, axis=0)
    for block in network.blocks:
        value = _block(graph, cast("Block", block), value, hidden, cosine, sine)
    both = graph.add("Concat", _norm(graph, network.norm, value), bag, axis=2)
    weight = graph.add("Unsqueeze", graph.add("Cast", counted, to=TensorProto.FLOAT), axis_two)
    total = graph.add("ReduceSum", graph.add("Mul", both, weight), one, keepdims=0)
    count = graph.add("Max", graph.add("ReduceSum", weight, one, keepdims=0), graph.constant(np.float32(1)))
    return graph.add("Gemm", graph.add("Div", total, count), *weights(graph, network.head), transB=1)


def _norm(graph: Nodes, layer: nn.LayerNorm, value: str) -> str:
    state = (graph.constant(layer.weight), graph.constant(layer.bias))
    return graph.add("LayerNormalization", value, *state, axis=-1, epsilon=layer.eps)


def _block(graph: Nodes, block: Block, value: str, hidden: str, cosine: str, sine: str) -> str:
    found = _attention(graph, block.attention, _norm(graph, block.before, value), hidden, cosine, sine)
    value = graph.add("Add", value, found)
    inner = graph.linear(_norm(graph, block.between, value), block.wide)
    bent = graph.add("Erf", graph.add("Mul", inner, graph.constant(np.float32(0.5**0.5))))
    inner = graph.add("Mul", inner, graph.add("Add", bent, graph.constant(np.float32(1))))
    inner = graph.add("Mul", inner, graph.constant(np.float32(0.5)))
    return graph.add("Add", value, graph.linear(inner, block.narrow))


def _attention(graph: Nodes, layer: Attention, value: str, hidden: str, cosine: str, sine: str) -> str:
    width = layer.out.in_features
    each = width // layer.heads
    parts = graph.linear(value, layer.project)
    parts = graph.add("Reshape", parts, graph.constant(np.array([0, 0, 3, layer.heads, each])))
    parts = graph.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
    query, key, content = (graph.add("Gather", parts, graph.constant(np.array(i)), axis=0) for i in range(3))
    query, key = (_rotate(graph, part, each // 2, cosine, sine) for part in (query, key))
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.add("Add", graph.add("Mul", scores, graph.constant(np.float32(each**-0.5))), hidden)
    seen = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), content)
    seen = graph.add("Transpose", seen, perm=[0, 2, 1, 3])
    return graph.linear(graph.add("Reshape", seen, graph.constant(np.array([0, 0, width]))), layer.out)


def _rotate(graph: Nodes, value: str, half: int, cosine: str, sine: str) -> str:
    one, other = graph.split(value, [half, half], axis=3)
    left = graph.add("Sub", graph.add("Mul", one, cosine), graph.add("Mul", other, sine))
    right = graph.add("Add", graph.add("Mul", one, sine), graph.add("Mul", other, cosine))
    return graph.add("Concat", left, right, axis=3)
