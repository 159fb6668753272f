"""What a graph sees of a row just before its last linear layer: where new classes are told apart."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

INNER = "inner"
"""The name of the output that :func:`with_inner` adds."""
_PASSING = {"Identity", "Cast", "Clip", "Softmax", "LogSoftmax", "Flatten", "Reshape"}
_SHIFTING = {"Add", "Sub", "Mul", "Div"}


def with_inner(graph: bytes) -> bytes | None:
    """The graph with one output more, ``inner`` float32 ``[n, d]``: what its last linear layer reads.

    ``None`` where the scores are no linear layer's, as those of trees.
    """
    model = onnx.load_from_string(graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant" and node.output
    }
    read = _read_by_last(makers, constants, "scores")
    if read is None:
        return None
    model.graph.node.append(helper.make_node("Cast", [read], [INNER], to=TensorProto.FLOAT))
    model.graph.output.append(helper.make_tensor_value_info(INNER, TensorProto.FLOAT, ["n", None]))
    data: bytes = model.SerializeToString()
    return data


def _read_by_last(makers: dict[str, Any], constants: dict[str, Any], value: str) -> str | None:
    """The input of the last matrix product before *value*, through what only moves and scales it."""
    for _ in range(64):
        node = makers.get(value)
        if node is None:
            return None
        given = list(node.input)
        if node.op_type in ("Gemm", "MatMul"):
            weights = constants.get(given[1])
            flat = weights is not None and numpy_helper.to_array(weights).ndim == 2
            return str(given[0]) if flat else None
        if node.op_type in _PASSING:
            value = given[0]
        elif node.op_type in _SHIFTING:
            moving = [name for name in given if name not in constants]
            if len(moving) != 1:
                return None
            value = moving[0]
        else:
            return None
    return None
