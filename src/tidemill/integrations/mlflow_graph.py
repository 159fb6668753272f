"""An ONNX graph that others made, put between features and scores as packages have them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from tidemill.data.schema import Field, Kind, Signature
from tidemill.errors import PackageError
from tidemill.features._base import FeatureInfo
from tidemill.records import JSON

Gives = Literal["probabilities", "logits", "values"]
_FLOATS = {TensorProto.FLOAT: "float", TensorProto.DOUBLE: "double", TensorProto.FLOAT16: "float16"}
_TINY = np.float32(1e-30)  # the logarithm of nothing
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """How the inputs of a project become a graph's only input.

    Attributes:
        steps: the feature steps, see :class:`tidemill.features.pipeline.Pipeline`.
        feature: ``image`` or ``x``.
        channels_first: the graph wants ``[n, c, h, w]``.
        divide: what pixels are divided by.
    """

    steps: tuple[JSON, ...]
    feature: str
    channels_first: bool = False
    divide: float = 1.0


def open_model(data: bytes, where: str) -> Any:
    """The graph, checked; its weights must be inside of it.

    Raises:
        PackageError: it is none.
    """
    try:
        model = onnx.load_from_string(data)
        outside = [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
        if not outside:
            onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError, _decode_error()) as error:
        said = (str(error).splitlines() or [""])[0][:200]
        raise PackageError(f"it is no ONNX graph ({said})", where=where, mend="Log the model again.") from error
    if outside:
        raise PackageError(
            f"its weights lie in another file ({outside[0]}, …)", where=where, mend="Save them in the graph itself."
        )
    return model


def _decode_error() -> type[Exception]:
    kind: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    return kind


def reading_of(model: Any, signature: Signature, where: str) -> Reading:
    """How the project's inputs get into the graph.

    One image becomes the only input with three axes beside the rows; numbers, in the order of the project's columns,
    become the only input with one.

    Raises:
        PackageError: it asks for something else.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [node for node in model.graph.input if node.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs[:_SHOWN]) or "none"
        raise PackageError(
            f"the graph has {len(inputs)} inputs ({names})", where=where, mend="Log a graph with one input."
        )
    kind, shape = _shape(inputs[0])
    images = [f for f in signature.inputs if f.type == "image"]
    if len(images) == 1 and len(shape) == 4:
        return _image(images[0], kind, shape, where)
    others = [f for f in signature.inputs if f.type != "number"]
    if len(shape) == 2 and not others and kind in _FLOATS:
        wide = len(signature.inputs)
        if shape[1] not in (None, wide):
            raise PackageError(
                f"the graph reads {shape[1]} numbers, and the project has {wide}",
                where=where,
                mend="Train it on the project's columns, in their order (`tidemill data`).",
            )
        step: JSON = {"step": "numbers", "columns": [f.name for f in signature.inputs], "raw": True}
        return Reading((step,), "x")
    types = ", ".join(dict.fromkeys(f.type for f in signature.inputs))
    said = f"{TensorProto.DataType.Name(kind).lower()} {_axes(shape)}"
    raise PackageError(
        f"the graph reads {inputs[0].name} as {said}, and the project's inputs are of type {types}",
        where=where,
        mend="A graph may read one image, or numbers alone. Export it with what comes before it inside.",
    )


def _image(field: Field, kind: int, shape: Sequence[int | None], where: str) -> Reading:
    assert field.shape is not None
    height, width, channels = field.shape
    step: JSON = {"step": "pixels", "columns": [field.name]}
    scale = 255.0 if kind in _FLOATS else 1.0

    def fits(wanted: Sequence[int]) -> bool:
        return all(has in (None, want) for has, want in zip(shape[1:], wanted, strict=True))

    if fits((channels, height, width)):
        return Reading((step,), "image", channels_first=True, divide=scale)
    if fits((height, width, channels)):
        return Reading((step,), "image", divide=scale)
    raise PackageError(
        f"the graph reads images {_axes(shape)}, and the project's are {height} x {width} x {channels}",
        where=where,
        mend="Train it on images of that size, or let the project import its images in another size.",
    )


def _shape(node: Any) -> tuple[int, list[int | None]]:
    kind = node.type.tensor_type
    return int(kind.elem_type), [d.dim_value or None for d in kind.shape.dim]


def _axes(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def output_of(model: Any, classes: int, where: str) -> str:
    """The name of the output that holds a number for each class (or one, of a regression).

    Raises:
        PackageError: there is none, or several.
    """
    fitting = []
    for node in model.graph.output:
        kind, shape = _shape(node)
        if kind in _FLOATS and len(shape) == 2 and shape[1] in (None, classes):
            fitting.append(node.name)
    if len(fitting) == 1:
        return str(fitting[0])
    named = [name for name in fitting if "prob" in name.lower()]
    if len(named) == 1:
        return str(named[0])
    given = ", ".join(f"{n.name} {_axes(_shape(n)[1])}" for n in model.graph.output[:_SHOWN])
    raise PackageError(
        f"the graph gives {given or 'nothing'}, and one output of {classes} numbers a row is wanted",
        where=where,
        mend="Export it with plain tensors (of scikit-learn: zipmap=False), and train it on the project's labels.",
    )


def gives(kind: str, found: npt.NDArray[Any]) -> Gives:
    """What a graph's output is, seen from some rows ``[n, k]`` of it.

    >>> gives("classification", np.array([[0.25, 0.75]])), gives("classification", np.array([[-1.0, 3.0]]))
    ('probabilities', 'logits')
    """
    if kind == "regression":
        return "values"
    between = bool(((found >= -1e-6) & (found <= 1 + 1e-6)).all())
    if kind == "multilabel":
        return "probabilities" if between else "logits"
    return "probabilities" if between and np.allclose(found.sum(axis=1), 1.0, atol=1e-3) else "logits"


def wrapped(
    model: Any,
    reading: Reading,
    output: str,
    what: Gives,
    *,
    info: Mapping[str, FeatureInfo],
    kind: Kind,
    order: Sequence[int],
) -> bytes:
    """The graph as a package has it: inputs as the features are, one output ``scores`` float32 ``[n, k]``.

    Args:
        output: the name of its output that is read.
        what: what that holds; probabilities become their logarithms.
        info: the features.
        kind: of the project's target.
        order: which of its columns is each label's.
    """
    inner = compose.add_prefix(model, "of_")
    constants = {tensor.name for tensor in inner.graph.initializer}
    given = next(node for node in inner.graph.input if node.name not in constants)
    feature = reading.feature
    nodes: list[Any] = []
    fixed: list[Any] = []

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        name = f"tide_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(array: Any) -> str:
        name = f"tide_c{len(fixed)}"
        fixed.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    value = add("Cast", feature, to=TensorProto.FLOAT)
    if reading.divide != 1.0:
        value = add("Div", value, constant(np.float32(reading.divide)))
    if reading.channels_first:
        value = add("Transpose", value, perm=[0, 3, 1, 2])
    nodes.append(helper.make_node("Cast", [value], [given.name], to=_shape(given)[0]))
    nodes.extend(inner.graph.node)
    value = add("Cast", f"of_{output}", to=TensorProto.FLOAT)
    if list(order) != sorted(order):
        value = add("Gather", value, constant(np.array(order, np.int64)), axis=1)
    if what == "probabilities":
        value = add("Max", value, constant(_TINY))
        if kind == "multilabel":
            rest = add("Max", add("Sub", constant(np.float32(1)), value), constant(_TINY))
            value = add("Sub", add("Log", value), add("Log", rest))
        else:
            value = add("Log", value)
    nodes.append(helper.make_node("Identity", [value], ["scores"]))
    item = info[feature]
    entry = helper.make_tensor_value_info(feature, _TYPES[item.dtype], ["n", *item.shape])
    exit_ = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", None])
    graph = helper.make_graph(nodes, "imported", [entry], [exit_], [*inner.graph.initializer, *fixed])
    made = helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version, functions=list(inner.functions)
    )
    data: bytes = made.SerializeToString()
    return data


_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def order_of(labels: Sequence[str], given: Sequence[str] | None, where: str) -> list[int]:
    """Which column of the graph's output is each label's.

    Args:
        labels: the project's.
        given: the labels in the order of the columns; ``None``: as the project has them.

    Raises:
        PackageError: they are not the same labels.

    >>> order_of(["cat", "dog"], ["dog", "cat"], "m")
    [1, 0]
    """
    if given is None:
        return list(range(max(1, len(labels))))
    if sorted(given) != sorted(labels):
        raise PackageError(
            f"the labels given are {', '.join(given[:_SHOWN])}, and the project's are {', '.join(labels[:_SHOWN])}",
            where=where,
            mend="Give the project's labels, in the order of the model's columns.",
        )
    return [list(given).index(label) for label in labels]


def finite(scores: npt.NDArray[Any], where: str) -> None:
    """Refuse a graph whose answers are no numbers.

    Raises:
        PackageError: they are not.
    """
    if not all(math.isfinite(v) for v in (float(scores.min(initial=0)), float(scores.max(initial=0)))):
        raise PackageError(
            "the graph gives answers that are no numbers",
            where=where,
            mend="Fill missing values inside of it: the project's numbers come to it as they are.",
        )
