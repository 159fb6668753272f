"""The Open Inference Protocol (version 2 of KServe's): the same model and the same journal, by another door.

A model is called ``default``, as its deployment, or as the project's folder; its version is the id of the model that
answers. Errors have the protocol's own shape, ``{"error": "…"}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI

from tidemill.errors import NotFoundError, TidemillError
from tidemill.runtime.statements import MAX_NAME, nearest
from tidemill.serving._base import Served, ServedProject
from tidemill.serving.answering import Answer, RequestError, error_answer
from tidemill.serving.describing import MOST_BYTES, protocol_errors
from tidemill.serving.forms import JSON, declared
from tidemill.serving.guard import RequestHead
from tidemill.serving.inference import datatype_of, outputs_of
from tidemill.serving.schemas import LiveServer, ModelMetadata, ReadyModel, ReadyServer, ServerMetadata
from tidemill.serving.service import Service

ROOT = "/v2"
MODELS = f"{ROOT}/models/"
INFER = "/infer"
EXTENSIONS = ["binary_tensor_data"]


@dataclass(frozen=True, slots=True)
class Place:
    """The model that a path names, and its version where the path names one."""

    model: str
    version: str | None = None


def place_of(path: str) -> Place | None:
    """What a path of inference names; ``None`` for any other path.

    >>> place_of("/v2/models/default/infer"), place_of("/v2/models/default/versions/m/infer")
    (Place(model='default', version=None), Place(model='default', version='m'))
    >>> place_of("/v2/models/default"), place_of("/v2/models/a/b/infer")
    (None, None)
    """
    if not path.startswith(MODELS) or not path.endswith(INFER):
        return None
    parts = path[len(MODELS) : -len(INFER)].split("/")
    if len(parts) == 1 and parts[0]:
        return Place(parts[0])
    return Place(parts[0], parts[2]) if len(parts) == 3 and parts[1] == "versions" else None


def is_protocol(path: str) -> bool:
    """Whether a path is one of the protocol.

    >>> is_protocol("/v2"), is_protocol("/v2/health/live"), is_protocol("/v20")
    (True, True, False)
    """
    return path == ROOT or path.startswith(f"{ROOT}/")


def shaped(path: str, answer: Answer) -> Answer:
    """An error's *answer* in the shape that whoever asked for *path* expects."""
    if not is_protocol(path):
        return answer
    error = orjson.loads(answer.body)["error"]
    what = str(TidemillError(error["what"], where=error["where"], mend=error["mend"]))
    return Answer(answer.status, orjson.dumps({"error": what}), answer.headers)


def told(path: str, error: TidemillError) -> Answer:
    """The answer that tells of *error* to whoever asked for *path*."""
    return shaped(path, error_answer(error))


def require_served(project: ServedProject, served: Served, place: Place) -> None:
    """Refuse a name or a version that nobody answers to.

    Raises:
        NotFoundError: the message names those that are answered to.
    """
    require_name(project, served, place)
    require_version(served.deployment.model_id, place)


def require_name(project: ServedProject, served: Served, place: Place) -> None:
    """Refuse a name that nobody answers to.

    Raises:
        NotFoundError: the message names those that are answered to.
    """
    names = (served.deployment.name, project.dir.name)
    if place.model not in names:
        raise NotFoundError(
            f"there is no model {place.model[:MAX_NAME]!r}.{nearest(place.model[:MAX_NAME], names)}",
            mend=f"Call it {names[0]!r}; which version answers is decided by what is promoted.",
        )


def require_version(answers: str, place: Place) -> None:
    """Refuse another version than the one that *answers*.

    Raises:
        NotFoundError: the message names the one that does.
    """
    if place.version not in (None, answers):
        raise NotFoundError(
            f"the version {str(place.version)[:MAX_NAME]!r} does not answer",
            mend=f"Leave the version out, or ask for {answers}, the one in force; /v1/models lists the others.",
        )


def json_length(head: RequestHead) -> int | None:
    """How many bytes of a request for an inference are JSON; ``None`` for all of them.

    Clients of the protocol often do not declare a type. A page of another site could send such a request without asking
    first, but browsers name that page in ``Origin``, and the guard has refused it.

    Raises:
        RequestError: 415, the body is declared as something else; 400, the length is no number.
    """
    kind = declared(head.content_type)
    if kind not in ("", JSON, "application/octet-stream"):
        raise RequestError(
            415,
            f"the body is declared as {kind!r}",
            where="Content-Type header",
            mend="Send JSON, or application/octet-stream where tensors follow it.",
        )
    length = head.json_length
    if length is None:
        return None
    if not length.isdigit() or len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
        raise RequestError(
            400, "it is not a number", where="Inference-Header-Content-Length header", mend="Send the JSON's length."
        )
    return int(length)


def describe_model(project: ServedProject, served: Served, place: Place) -> dict[str, Any]:
    """The model's metadata: what it takes and what it gives.

    Raises:
        NotFoundError: nobody answers to that name or version.
    """
    require_served(project, served, place)
    predictor = served.predictor
    inputs = [
        {
            "name": f.name,
            "datatype": datatype_of(f),
            "shape": [-1, *(f.shape or ())],
            "parameters": {"type": f.type, "optional": f.optional},
        }
        for f in predictor.signature.asked
    ]
    return {
        "name": place.model,
        "versions": [served.deployment.model_id],
        "platform": f"tidemill_{predictor.manifest.runtime}",
        "inputs": inputs,
        "outputs": [output.describe() for output in outputs_of(predictor.manifest.answer)],
    }


def add_protocol(api: FastAPI, service: Callable[[], Service]) -> None:
    """Add the protocol's routes but for inference, which is hot.

    Args:
        api: gets the routes.
        service: gives the living parts, or raises NotReadyError.
    """
    tags: list[Any] = ["open inference protocol"]
    few, some = protocol_errors(429), protocol_errors(401, 404, 429, 503)

    @api.get(ROOT, response_model=ServerMetadata, responses=protocol_errors(401, 429), summary="The server", tags=tags)
    def server() -> dict[str, Any]:
        """Name, version and extensions."""
        return {"name": "tidemill", "version": version("tidemill"), "extensions": EXTENSIONS}

    @api.get(f"{ROOT}/health/live", response_model=LiveServer, responses=few, summary="Is it alive", tags=tags)
    def live() -> dict[str, Any]:
        """Answers as long as the process can answer at all."""
        return {"live": True}

    ready_errors = protocol_errors(429, 503)

    @api.get(
        f"{ROOT}/health/ready", response_model=ReadyServer, responses=ready_errors, summary="Is it ready", tags=tags
    )
    def ready() -> dict[str, Any]:
        """200 as soon as a model is loaded, as at `/readyz`."""
        running = service()
        running.follower.served()
        running.batcher.check()
        return {"ready": True}

    def metadata(name: str, version: str | None = None) -> dict[str, Any]:
        """What the model takes and gives; a side of -1 is the number of rows."""
        running = service()
        return describe_model(running.project, running.follower.served(), Place(name, version))

    def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        """Whether the model of that name, and of that version, answers."""
        running = service()
        require_served(running.project, running.follower.served(), Place(name, version))
        return {"name": name, "ready": True}

    for path in (MODELS + "{name}", MODELS + "{name}/versions/{version}"):
        api.get(path, response_model=ModelMetadata, responses=some, summary="The model", tags=tags)(metadata)
        api.get(f"{path}/ready", response_model=ReadyModel, responses=some, summary="Is it ready", tags=tags)(
            model_ready
        )
