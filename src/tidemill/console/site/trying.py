"""Try it: an input made for the task, the champion's answer to it, and the buttons an application would show.

What is tried goes the way of every request: it is a prediction like any other, journaled, perhaps drawn for the audit,
and feedback on it counts.
"""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import orjson
from starlette.responses import Response

from tidemill.console.site.visit import Place, Visit
from tidemill.data.schema import Field, Signature
from tidemill.data.storage import is_complete
from tidemill.errors import InputError, NotReadyError
from tidemill.records import JSON, Dataset
from tidemill.runtime.statements import parse_feedback
from tidemill.serving.feedback import conflict
from tidemill.serving.requests import PredictRequest, require_short

DRAWN = 64
"""Images of up to so many pixels a side, and of one channel, can be drawn."""
CHOICES = 200
_MIME = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp"))


def form(visit: Visit) -> Response:
    """The empty form."""
    return visit.page("try.html", **_content(visit), result=None, values={})


async def ask(visit: Visit) -> Response:
    """Answer what was filled in."""
    service = visit.service
    signature, _ = service.follower.contract()
    inputs = _inputs(visit, signature)
    require_short([inputs], signature, service.max_text)
    began = time.perf_counter()
    body = await service.batcher.predict(PredictRequest([inputs], None, "console"))
    milliseconds = (time.perf_counter() - began) * 1000
    told = orjson.loads(body)
    result = {"model": told["model"], "milliseconds": milliseconds, **told["predictions"][0]}
    values = {f.name: visit.given(f"in.{i}") for i, f in enumerate(signature.inputs) if f.type != "image"}
    pictures = [value for f in signature.inputs if f.type == "image" and (value := inputs.get(f.name))]
    content = await asyncio.to_thread(_content, visit)
    shown = {**content, "result": result, "values": values, "pictures": pictures, "said": None}
    return visit.page("try_answer.html" if visit.request.headers.get("x-part") else "try.html", **shown)


async def state(visit: Visit) -> Response:
    """Take a statement about the answer."""
    service = visit.service
    spec = service.follower.feedback_spec()
    prediction, kind = visit.given("prediction"), visit.given("kind") or ""
    statement: JSON = {"prediction": prediction, "kind": kind, "author": visit.author}
    if visit.given("asked"):
        statement["asked"] = True
    if kind == "correction":
        statement["value"] = visit.fields.get("value", []) if spec["kind"] == "multilabel" else _number(visit, spec)
    elif kind == "rating":
        statement["value"] = _float(visit.given("value"), "value")
    elif kind == "comment":
        statement["value"] = visit.given("value")
    token = visit.visitor.token
    item = parse_feedback(statement, "form", spec, service.knows, via=None if token is None else token.name)
    outcome = await service.deadlines.keep(service.lone.submit(item))
    if outcome.status == "conflict":
        raise conflict(outcome, "form")
    if visit.request.headers.get("x-part"):
        return visit.page("try_said.html", said=kind, feedback=outcome.feedback.id)
    return visit.go("/try", said=kind)


def _inputs(visit: Visit, signature: Signature) -> JSON:
    """What was filled in, as a request would give it; what is left empty is left out."""
    inputs: JSON = {}
    for i, field in enumerate(signature.inputs):
        name = f"in.{i}"
        if field.type == "image":
            upload = visit.files.get(name)
            drawn = visit.given(f"{name}.drawn")
            if upload is not None:
                inputs[field.name] = _data_url(upload.content)
            elif drawn is not None:
                inputs[field.name] = drawn
            continue
        text = visit.fields.get(name, [""])[0]
        if text == "" or (field.type != "text" and not text.strip()):
            continue
        inputs[field.name] = _float(text, field.name) if field.type == "number" else text
    return inputs


def _data_url(content: bytes) -> str:
    kind = next((name for start, name in _MIME if content.startswith(start)), "png")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _number(visit: Visit, spec: JSON) -> Any:
    text = visit.given("value")
    return _float(text, "value") if spec["kind"] not in ("classification", "multilabel") else text


def _float(text: str | None, where: str) -> float:
    """A number that was typed, with a point or a comma.

    Raises:
        InputError: it is none.
    """
    try:
        return float((text or "").strip().replace(",", "."))
    except ValueError:
        raise InputError(f"{text!r:.60} is no number", where=where, mend="Give a number.") from None


def _content(visit: Visit) -> dict[str, Any]:
    """What the form is made of: fields, with the values that are seen most often."""
    follower = visit.service.follower
    try:
        signature, _ = follower.contract()
        served = follower.served()
    except NotReadyError:
        return {"fields": None, "spec": {}, "model": None, "target": "", "may_state": False}
    spec = follower.feedback_spec()
    return {
        "fields": _fields(visit, signature),
        "spec": {**spec, "labels": list(spec.get("labels", []))[:CHOICES]},
        "model": served.deployment.model_id,
        "target": signature.target,
        "may_state": visit.visitor.may("feedback"),
    }


def _fields(visit: Visit, signature: Signature) -> list[JSON]:
    usual = visit.site.tally.kept("usual", 60.0, lambda: _usual(visit))
    found = []
    for i, f in enumerate(signature.inputs):
        found.append(
            {"name": f.name, "id": f"in.{i}", "type": f.type, "optional": f.optional, "shape": f.shape,
             "draw": _can_be_drawn(f), "usual": usual.get(f.name, [])}
        )  # fmt: skip
    return found


def _can_be_drawn(field: Field) -> bool:
    shape = field.shape
    return field.type == "image" and shape is not None and max(shape[:2]) <= DRAWN and shape[2] == 1


def _usual(visit: Visit) -> dict[str, list[str]]:
    """Of categories the values that are seen most often, as far as the data were described already."""
    dataset: Dataset | None = visit.project.dataset
    if dataset is None or not is_complete(visit.store.root / dataset.path):
        return {}
    path = visit.store.root / dataset.path / "profile.json"
    if not path.is_file():
        return {}
    columns = orjson.loads(path.read_bytes()).get("columns", [])
    return {
        column["name"]: [value for value, _ in side["top"][:50]]
        for column in columns
        if column["type"] == "category" and (side := column["splits"].get("train")) and "top" in side
    }


PLACES = (
    Place("/try", form, "predict"),
    Place("/try", ask, "predict", "POST"),
    Place("/try/say", state, "feedback", "POST"),
)
