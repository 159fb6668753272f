"""The service as a machine-learning backend of Label Studio: its pre-annotations are the champion's answers.

Label Studio asks ``/health``, tells of its project at ``/setup``, and sends tasks to ``/predict``. What it tells of
annotations at ``/webhook`` is not needed: they come by import, whole. These paths are Label Studio's protocol and no
part of our own API, so its document does not name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from tidemill.annotation.studio import guess_of, results_of, variable
from tidemill.annotation.studio_config import read_config
from tidemill.annotation.widgets import Widget, widget_of
from tidemill.data.schema import Signature
from tidemill.errors import InputError
from tidemill.records import JSON
from tidemill.serving.requests import require_few_pixels, require_rows, require_short
from tidemill.serving.service import Service

ROOT = "/v1/label-studio"


class SetupBody(BaseModel):
    """What Label Studio tells of its project."""

    model_config = ConfigDict(extra="allow")

    project: str | int | None = None
    schema_: Any = None


class TasksBody(BaseModel):
    """Tasks that want a pre-annotation."""

    model_config = ConfigDict(extra="allow")

    tasks: list[dict[str, Any]]
    label_config: str | None = None
    params: dict[str, Any] | None = None


def add_label_studio(api: FastAPI, service: Callable[[], Service]) -> None:
    """Add the routes."""

    @api.get(f"{ROOT}/health", include_in_schema=False)
    def health() -> dict[str, Any]:
        """As Label Studio asks before it takes up a backend."""
        running = service()
        return {"status": "UP", "model_class": running.follower.served().deployment.model_id}

    @api.post(f"{ROOT}/setup", include_in_schema=False)
    def setup(body: SetupBody) -> dict[str, Any]:
        """The version of the model that answers; a labelling configuration that is not supported is refused by name."""
        given = (body.model_extra or {}).get("schema")
        if isinstance(given, str) and given.strip():
            read_config(given, "schema")
        return {"model_version": service().follower.served().deployment.model_id}

    @api.post(f"{ROOT}/webhook", include_in_schema=False)
    def webhook(body: dict[str, Any]) -> dict[str, Any]:
        """Taken note of; annotations come by `tidemill label-studio import`."""
        del body
        return {"status": "ok"}

    @api.post(f"{ROOT}/predict", include_in_schema=False)
    async def predict(body: TasksBody) -> dict[str, Any]:
        """The champion's answer to each task, as Label Studio's results; not journaled, since nobody is given it."""
        running = service()
        return await running.aside.do(partial(suggestions, running, body), len(body.tasks))


def suggestions(service: Service, body: TasksBody) -> dict[str, Any]:
    """The answer to tasks, within the limits that hold at the other doors.

    Raises:
        InputError: the project asks for something else, or a task lacks what the model takes.
        TooLargeError: more rows, longer texts or larger images than a request may have.
    """
    served, config = service.follower.served(), service.project.config
    signature = served.predictor.signature
    require_rows(len(body.tasks), config.serve.max_rows, "tasks")
    widget, control, to = asked_for(body, signature)
    rows = [inputs_of(task, signature, f"tasks[{i}].data") for i, task in enumerate(body.tasks)]
    require_short(rows, signature, service.max_text)
    each = config.limits.image_pixels
    require_few_pixels(rows, signature, each, service.most_pixels)
    answers = served.predictor.predict(rows, max_pixels=each)
    model = served.deployment.model_id
    results = [prediction(widget, answer, model, control, to) for answer in answers]
    return {"results": results, "model_version": model}


def asked_for(body: TasksBody, signature: Signature) -> tuple[Widget, str, str | None]:
    """The widget that the project asks with, the name of its control, and of what it labels.

    Raises:
        InputError: it asks for something else than the model answers, or for what is not supported.
    """
    widget = widget_of(signature.kind)
    config = body.label_config
    if not config:
        return widget, "label", None
    wanted, control, _ = read_config(config, "label_config")
    if wanted != widget:
        raise InputError(
            f"the project asks for {wanted!r}, and the model answers with {widget!r}",
            where="label_config",
            mend="Use the configuration that `tidemill label-studio config` writes.",
        )
    return widget, control, object_of(config, control)


def object_of(config: str, control: str) -> str | None:
    """What a control labels."""
    from xml.etree import ElementTree as ET

    for tag in ET.fromstring(config).iter():  # noqa: S314 - read_config has refused document types
        if tag.get("name") == control and tag.get("toName"):
            return tag.get("toName")
    return None


def inputs_of(task: Mapping[str, Any], signature: Signature, where: str) -> JSON:
    """The inputs of a task, under our names; a single field is taken under any name.

    Raises:
        InputError: a field is missing, or an image is only named by an address.
    """
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise InputError("the task has no data", where=where, mend="Send tasks as Label Studio does.")
    inputs: JSON = {}
    for field in signature.inputs:
        key = next((k for k in (field.name, variable(field.name)) if k in data), None)
        others = [k for k in data if not k.startswith("tidemill_")]
        if key is None and len(signature.inputs) == 1 and len(others) == 1:
            key = others[0]
        if key is None:
            if field.optional:
                continue
            raise InputError(f"{field.name} is missing", where=where, mend="Import tasks with the project's fields.")
        value = data[key]
        if field.type == "image" and isinstance(value, str) and not value.startswith("data:image/"):
            raise InputError(
                "the image is an address, and nothing is fetched from elsewhere",
                where=f"{where}.{key}",
                mend="Import tasks whose images are data URLs, as `tidemill label-studio export` writes them.",
            )
        inputs[field.name] = value
    return inputs


def prediction(widget: Widget, answer: Mapping[str, Any], model: str, control: str, to: str | None) -> JSON:
    """An answer as a pre-annotation."""
    guess = guess_of(widget, answer)
    results = [] if guess is None else results_of(widget, guess, control, to)
    score = answer.get("score")
    return {"model_version": model, "result": results, "score": 0.0 if score is None else float(score)}
