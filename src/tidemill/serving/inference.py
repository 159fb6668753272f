"""An inference of the Open Inference Protocol: tensors become rows to predict, and the answers become tensors.

Each row is a logged prediction like any other: its id stands in the output ``prediction`` and, whatever outputs were
asked for, in the answer's parameter ``predictions``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson

from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError
from tidemill.records import Prediction
from tidemill.runtime import Predictor
from tidemill.runtime.statements import MAX_NAME, kind_of, name, nearest
from tidemill.serving._base import Served
from tidemill.serving.answering import SECURE, Answer, Headers
from tidemill.serving.requests import PredictRequest, parse_json
from tidemill.serving.tensors import TEXT, Output, Tensor, read_tensors, write_tensor

BESIDE = (Output("prediction", TEXT), Output("audit", "BOOL"))
"""The outputs of every model: the ids to give feedback on, and which rows were drawn for the audit."""


@dataclass(slots=True)
class Written:
    """How one request wants its answer to be written; a :data:`~tidemill.serving.requests.Writer`.

    Attributes:
        model: the name that it was asked by.
        identifier: the request's own id, given back.
        wanted: the outputs asked for, each in JSON or as bytes; ``None`` for all of them.
        binary: whether those of which nothing is said go as bytes.
        version: the model that answered, once it has.
        head: bytes of the answer that are JSON, where others follow it; 0 where none do.
    """

    model: str
    identifier: str | None
    wanted: dict[str, bool] | None
    binary: bool
    version: str = field(default="", init=False)
    head: int = field(default=0, init=False)

    def __call__(self, served: Served, predictions: Sequence[Prediction]) -> bytes:
        """The answer's body."""
        self.version = served.deployment.model_id
        outputs, behind = [], []
        for output in _outputs(served.predictor):
            binary = self.binary if self.wanted is None else self.wanted.get(output.name)
            if binary is not None:
                said, content = write_tensor(output, _values(output, predictions), len(predictions), binary=binary)
                outputs.append(said)
                behind.append(content)
        if self.wanted is not None:
            order = list(self.wanted)
            pairs = sorted(zip(outputs, behind, strict=True), key=lambda pair: order.index(pair[0]["name"]))
            outputs, behind = [said for said, _ in pairs], [content for _, content in pairs]
        answer: dict[str, Any] = {"model_name": self.model, "model_version": self.version}
        if self.identifier is not None:
            answer["id"] = self.identifier
        answer["parameters"] = {
            "deployment": served.deployment.id,
            "predictions": ",".join(prediction.id for prediction in predictions),
        }
        answer["outputs"] = outputs
        body = orjson.dumps(answer)
        content = b"".join(behind)
        self.head = len(body) if content else 0
        return body + content

    def answer(self, body: bytes) -> Answer:
        """The whole answer."""
        if not self.head:
            return Answer(200, body)
        return BytesAnswer(200, body, ((b"inference-header-content-length", str(self.head).encode()),))


class BytesAnswer(Answer):
    """An answer whose JSON is followed by bytes."""

    def all_headers(self) -> Headers:
        """Every header, with the content's type and length."""
        kind = (b"content-type", b"application/octet-stream")
        return (kind, *SECURE, (b"content-length", str(len(self.body)).encode()), *self.headers)


def parse_inference(
    body: bytes, head: int | None, model: str, predictor: Predictor, max_rows: int
) -> tuple[PredictRequest, Written]:
    """The request in *body*, and how its answer is to be written.

    Args:
        body: JSON, perhaps with tensors behind it.
        head: bytes of it that are JSON; ``None`` for all.
        model: the name that it was asked by.
        predictor: what answers now.
        max_rows: that one request may have.

    Raises:
        RequestError: 400, it is not JSON, or its JSON is not where the header says.
        InputError: an input or an output is unknown, or not what the model takes.
        TooLargeError: more than *max_rows* rows.
    """
    length = len(body) if head is None else head
    if length > len(body):
        raise InputError(
            f"the JSON is said to have {length} bytes, and the body has {len(body)}",
            where="Inference-Header-Content-Length header",
            mend="Send the length of the JSON alone.",
        )
    content = parse_json(body[:length])
    tensors = read_tensors(content.get("inputs"), memoryview(body)[length:], max_rows)
    records = _records(tensors, predictor.signature)
    parameters = _object(content.get("parameters"), "parameters")
    identifier = content.get("id")
    if identifier is not None and (not isinstance(identifier, str) or len(identifier) > MAX_NAME):
        raise InputError(f"id is no text of at most {MAX_NAME} characters", where="id", mend="Leave it out.")
    binary = _flag(parameters, "binary_data_output", "parameters") or False
    known = [output.name for output in _outputs(predictor)]
    wanted = _wanted(content.get("outputs"), known, binary=binary)
    key, caller = name(parameters, "key", "parameters"), name(parameters, "caller", "parameters")
    writer = Written(model, identifier, wanted, binary)
    return PredictRequest(records, key, caller, writer=writer), writer


def _wanted(outputs: Any, known: Sequence[str], *, binary: bool) -> dict[str, bool] | None:
    """Which outputs to give, and whether as bytes."""
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list):
        raise InputError(f"outputs are {kind_of(outputs)}", where="outputs", mend='Give [{"name": …}, …].')
    wanted: dict[str, bool] = {}
    for place, output in enumerate(outputs):
        where = f"outputs[{place}]"
        said = _object(output, where).get("name")
        if not isinstance(said, str) or said not in known:
            hint = nearest(said[:MAX_NAME], known) if isinstance(said, str) else ""
            mend = f"The outputs are {', '.join(known)}."
            raise InputError(f"there is no output {str(said)[:MAX_NAME]!r}.{hint}", where=where, mend=mend)
        flag = _flag(_object(output.get("parameters"), where), "binary_data", where)
        wanted[said] = binary if flag is None else flag
    return wanted


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InputError(f"it is {kind_of(value)}, not an object", where=where, mend='Give {"name": …}.')
    return value or {}


def _flag(parameters: Mapping[str, Any], called: str, where: str) -> bool | None:
    flag = parameters.get(called)
    if flag is not None and not isinstance(flag, bool):
        raise InputError(f"{called} is {kind_of(flag)}", where=where, mend="Give true or false.")
    return flag


def _records(tensors: Sequence[Tensor], signature: Signature) -> list[dict[str, Any]]:
    """The rows of all tensors together."""
    fields = {f.name: f for f in signature.asked}
    rows = tensors[0].shape[0]
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        where = f"input {tensor.name[:MAX_NAME]!r}"
        if tensor.name not in fields:
            hint = nearest(tensor.name[:MAX_NAME], fields)
            mend = f"The inputs are {', '.join(map(repr, list(fields)[:20]))}."
            raise InputError(f"the model takes no such input.{hint}", where=where, mend=mend)
        if tensor.shape[0] != rows:
            other = tensors[0].name[:MAX_NAME]
            mend = "The first side of every input is the number of rows."
            raise InputError(f"it has {tensor.shape[0]} rows, and {other!r} has {rows}", where=where, mend=mend)
        known = fields[tensor.name]
        columns[tensor.name] = (_images if known.type == "image" else _cells)(tensor, known, where)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _cells(tensor: Tensor, known: Field, where: str) -> list[Any]:
    """One value a row, as JSON would have it."""
    values = tensor.values
    if isinstance(values, list):
        return [value if isinstance(value, str) else _decoded(value, where) for value in values]
    if math.prod(tensor.shape) != tensor.shape[0]:
        what = f"its shape is {list(tensor.shape)}, not {[tensor.shape[0]]}"
        raise InputError(what, where=where, mend=f"A {known.type} has one value a row.")
    if tensor.datatype == "BOOL" and known.type != "category":
        datatype = datatype_of(known)
        raise InputError(f"BOOL is no {known.type}", where=where, mend=f"Send {datatype}.")
    flat = values.reshape(-1)
    if flat.dtype.kind == "f" and np.isnan(flat).any():
        return [None if value != value else value for value in flat.tolist()]  # noqa: PLR0124 - so only NaN is
    cells: list[Any] = flat.tolist()
    return cells


def _decoded(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError("a text is not UTF-8", where=where, mend="Send UTF-8.") from None


def _images(tensor: Tensor, known: Field, where: str) -> list[Any]:
    """Pixels, or files: from behind the JSON as they are, within JSON as base64."""
    values = tensor.values
    if isinstance(values, list):
        return [value if isinstance(value, str) else base64.b64encode(value).decode() for value in values]
    channels = tensor.shape[3:]
    if len(tensor.shape) not in (3, 4) or channels not in ((), (1,), (3,)) or tensor.datatype == "BOOL":
        wanted = [tensor.shape[0], *(known.shape or ())]
        raise InputError(
            f"{tensor.datatype} of shape {list(tensor.shape)} is no image",
            where=where,
            mend=f"Send UINT8 of shape {wanted}, rows of pixels one after the other, or {TEXT} of image files.",
        )
    return list(values.reshape(tensor.shape[:3]) if channels == (1,) else values)


def datatype_of(known: Field) -> str:
    """The datatype that metadata names for an input."""
    return {"image": "UINT8", "number": "FP64"}.get(known.type, TEXT)


def outputs_of(answer: Mapping[str, Any]) -> list[Output]:
    """The outputs that a model gives, by its answer spec; a pure function of it.

    >>> [output.name for output in outputs_of({"kind": "regression", "interval": {"level": 0.9, "offset": 0.0}})]
    ['value', 'interval', 'prediction', 'audit']
    """
    labels = tuple(answer.get("labels", ()))
    scores = Output("scores", "FP32", len(labels), labels)
    if answer["kind"] == "regression":
        own = [Output("value", "FP32")]
        if answer.get("interval") is not None:
            own.append(Output("interval", "FP32", 2))
    elif answer["kind"] == "choice":
        own = [Output("action", TEXT), Output("propensity", "FP32")]
        own += [Output(name, "FP32", len(labels), labels) for name in ("propensities", "expected") if labels]
    elif answer["kind"] == "multilabel":
        own = [Output("labels", "BOOL", len(labels), labels), scores]
    else:
        own = [Output("label", TEXT), Output("score", "FP32"), scores]
        if any(answer.get(key) is not None for key in ("abstain_cost", "threshold")):
            own += [Output("abstained", "BOOL"), Output("guess", TEXT)]
    return [*own, *BESIDE]


_known: WeakKeyDictionary[Predictor, list[Output]] = WeakKeyDictionary()


def _outputs(predictor: Predictor) -> list[Output]:
    found = _known.get(predictor)
    if found is None:
        found = _known[predictor] = outputs_of(predictor.manifest.answer)
    return found


def _values(output: Output, predictions: Sequence[Prediction]) -> list[Any]:
    """An output's values in one flat list."""
    called = output.name
    if called == "prediction":
        return [p.id for p in predictions]
    if called == "audit":
        return [p.audited for p in predictions]
    answers = [p.answer for p in predictions]
    if called == "scores":
        return [score for answer in answers for score in answer["scores"].values()]
    if called in ("propensities", "expected"):  # 0 of what was not offered
        return [answer[called].get(label, 0.0) for answer in answers for label in output.labels]
    if called == "interval":
        return [end for answer in answers for end in answer["interval"]]
    if called == "labels":
        given = [set(answer["labels"]) for answer in answers]
        return [label in chosen for chosen in given for label in output.labels]
    if called == "abstained":
        return [answer.get("abstained", False) for answer in answers]
    if called == "guess":
        return [answer.get("guess", answer["label"]) for answer in answers]
    if called == "label":
        return [answer["label"] or "" for answer in answers]
    return [answer[called] for answer in answers]
