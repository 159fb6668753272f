"""A model over the vectors of a frozen encoder, made one graph with it: what a package holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from tidemill.errors import PackageError
from tidemill.features.encoder import Encoder
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Export
from tidemill.learners._graph import graph_inputs

_PREFIX = "encoder_"
_INNER = "x_of_all"


def grafted(export: Export, pipeline: Pipeline, packed: Pipeline) -> Export:
    """The same model over the features of *packed* instead of those of *pipeline*; with an encoder only as a graph.

    Args:
        export: reads ``x``, a part of which may be an encoder's vectors.
        pipeline: what the model was trained on.
        packed: what :meth:`tidemill.features.pipeline.Pipeline.packed` makes of it.

    Raises:
        PackageError: the encoder's architecture does not convert.
    """
    if not any(isinstance(step, Encoder) for step in pipeline.steps):
        return export
    if export.onnx is None:
        return dataclasses.replace(export, tensors=None, network=None)
    model = onnx.load_from_string(export.onnx)
    graph = model.graph
    for node in graph.node:
        node.input[:] = [_INNER if name == "x" else name for name in node.input]
    steps = [step for step in pipeline.steps if "x" in step.info()]
    nodes: list[Any] = []
    initialisers: list[Any] = []
    parts: list[str] = []
    at = 0  # in what the other steps write
    several = not all(isinstance(step, Encoder) for step in steps)
    for step in steps:
        if isinstance(step, Encoder):
            body = _encoder(step)
            _raise_opset(model, body)
            nodes += body.graph.node
            initialisers += body.graph.initializer
            parts.append(body.graph.output[0].name)
            continue
        width = step.info()["x"].shape[0]
        bounds = [numpy_helper.from_array(np.array([v]), f"{_PREFIX}{at}_{k}") for k, v in _bounds(at, width).items()]
        initialisers += bounds
        parts.append(f"{_PREFIX}x_{at}")
        nodes.append(helper.make_node("Slice", ["x", *(b.name for b in bounds)], [parts[-1]]))
        at += width
    nodes.append(helper.make_node("Concat", parts, [_INNER], axis=1))
    whole = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(whole)
    graph.initializer.extend(initialisers)
    kept = [value for value in graph.input if value.name != "x" or several]
    del graph.input[:]
    for value in kept:
        if value.name == "x":
            value.type.tensor_type.shape.dim[1].dim_value = at
    there = {value.name for value in kept}
    graph.input.extend([*kept, *(v for v in graph_inputs(packed.info()) if v.name not in there and v.name in _READ)])
    return Export(onnx=model.SerializeToString(), note=export.note)


_READ = ("tokens", "image")


def _bounds(at: int, width: int) -> dict[str, int]:
    return {"from": at, "to": at + width, "axis": 1}


def _encoder(step: Encoder) -> onnx.ModelProto:
    """The encoder as a graph from ``tokens`` or ``image`` to scaled vectors, all other names with a prefix."""
    import torch

    from tidemill.learners.gradient.graph_pretrained import trace_pretrained, write_backbone
    from tidemill.learners.gradient.nodes import Nodes
    from tidemill.learners.gradient.traced import OPSET, Unknown

    info = step.packed().info()
    backbone = step.backbone
    graph = Nodes(info)
    try:
        out = write_backbone(graph, backbone)
    except Unknown:
        try:
            body = onnx.load_from_string(trace_pretrained(backbone, info, "vectors"))
        except (Unknown, torch.onnx.OnnxExporterError) as error:
            raise PackageError(
                f"the encoder did not convert to ONNX ({(str(error).splitlines() or [''])[0][:160]})",
                mend="Choose a checkpoint of another architecture.",
            ) from error
        graph.nodes, graph.weights, out = list(body.graph.node), list(body.graph.initializer), "vectors"
        opset = next(o.version for o in body.opset_import if not o.domain)
        functions = body.functions
    else:
        opset, functions = OPSET, []
    axis = numpy_helper.from_array(np.array([1]), "scale_axis")
    least = numpy_helper.from_array(np.array(1e-24, np.float32), "scale_least")
    root = numpy_helper.from_array(np.array(backbone.width**0.5, np.float32), "scale_root")
    made = helper.make_node
    graph.nodes += [
        made("Mul", [out, out], ["scale_squares"]),
        made("ReduceSum", ["scale_squares", "scale_axis"], ["scale_sums"]),
        made("Max", ["scale_sums", "scale_least"], ["scale_held"]),
        made("Sqrt", ["scale_held"], ["scale_lengths"]),
        made("Div", [out, "scale_lengths"], ["scale_units"]),
        made("Mul", ["scale_units", "scale_root"], ["scaled"]),
    ]
    weights = [*graph.weights, axis, least, root]
    result = helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["n", backbone.width])
    proto = helper.make_graph(graph.nodes, "encoder", graph.inputs, [result], weights)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(proto, opset_imports=imports, ir_version=10, functions=list(functions))
    return compose.add_prefix(model, _PREFIX, rename_inputs=False)


def _raise_opset(model: onnx.ModelProto, body: onnx.ModelProto) -> None:
    """Let the head's graph say the newer of both versions of the operators.

    What changed between 17 and 18 are reductions over axes that are given as an attribute; no head has any.
    """
    own = next(o for o in model.opset_import if o.domain in ("", "ai.onnx"))
    own.version = max(own.version, next(o.version for o in body.opset_import if not o.domain))
    model.ir_version = max(model.ir_version, body.ir_version)
