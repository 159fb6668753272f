"""The routes of FastAPI: health, models, traces, and the description of the whole API."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from tidemill.data.schema import Signature
from tidemill.errors import InputError, NotFoundError, NotReadyError, TidemillError
from tidemill.runtime.statements import MAX_NAME, nearest
from tidemill.serving.access import require_needs
from tidemill.serving.answering import Answer, RequestError, log_fault
from tidemill.serving.describing import INFER_PATHS, describe, errors
from tidemill.serving.exposition import add_metrics
from tidemill.serving.hot import HOT_PATHS
from tidemill.serving.label_studio import add_label_studio
from tidemill.serving.page import api_page
from tidemill.serving.protocol import add_protocol, place_of, shaped, told
from tidemill.serving.questions import add_questions
from tidemill.serving.schemas import Health, ModelList, Readiness
from tidemill.serving.service import Service

Running = Callable[[], Service]


def create_api(service: Running, needs_token: Callable[[], bool]) -> FastAPI:
    """FastAPI with every route but the hot ones, which its OpenAPI document describes all the same.

    Args:
        service: gives the living parts, or raises NotReadyError.
        needs_token: whether callers have to show a token now, which the document then says.

    Raises:
        LookupError: nobody has said what a route needs.
    """
    api = FastAPI(
        title="Tidemill",
        version=version("tidemill"),
        description="Predictions, feedback on them, and where they came from.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_health(api, service)
    _add_records(api, service)
    add_questions(api, service)
    add_label_studio(api, service)
    add_protocol(api, service)
    add_metrics(api, service)
    _add_description(api, service, needs_token)
    _add_errors(api)
    require_needs([*HOT_PATHS, *INFER_PATHS, *(route.path for route in api.routes if isinstance(route, APIRoute))])
    return api


def _add_health(api: FastAPI, service: Running) -> None:
    @api.get("/healthz", response_model=Health, responses=errors(429), summary="Is the process alive", tags=["health"])
    def healthz() -> dict[str, Any]:
        """Answers as long as the process can answer at all."""
        return {"status": "ok"}

    @api.get("/readyz", response_model=Readiness, responses=errors(429, 503), summary="Can it predict", tags=["health"])
    def readyz() -> dict[str, Any]:
        """200 as soon as a model is loaded; `detail` tells when a newer one could not be taken up."""
        running = service()
        served = running.follower.served()
        running.batcher.check()
        return {
            "status": "ready",
            "model": served.deployment.model_id,
            "deployment": served.deployment.id,
            "detail": running.follower.fault,
        }


def _add_records(api: FastAPI, service: Running) -> None:
    few = errors(401, 429, 503)

    @api.get("/v1/models", response_model=ModelList, responses=few, summary="The models", tags=["records"])
    def models() -> dict[str, Any]:
        """The project's models, newest first, in the shape of OpenAI's list; `champion` marks the one that answers."""
        running = service()
        champion = running.project.store.champion()
        data = []
        for model in running.project.models():
            fields = {**model, "object": "model", "created": int(model["created"]), "owned_by": "tidemill"}
            data.append({**fields, "champion": champion is not None and champion.model_id == model["id"]})
        return {"object": "list", "data": data}

    @api.get("/v1/trace/{identifier}", responses=errors(404) | few, summary="Where it came from", tags=["records"])
    def trace(identifier: str) -> dict[str, Any]:
        """From any id the whole line: prediction, model, run, dataset version, feedback, and the cycle behind it."""
        return service().trace(identifier)


class _Description:
    """The OpenAPI document, made anew only when what it says has changed: that takes some milliseconds."""

    def __init__(self, api: FastAPI, service: Running, needs_token: Callable[[], bool]) -> None:
        self._api = api
        self._service = service
        self._needs_token = needs_token
        self._said: tuple[Any, ...] | None = None
        self._document: dict[str, Any] = {}
        self._body = b""

    def document(self) -> dict[str, Any]:
        """The document, as it must be now."""
        running = self._service()
        config, follower = running.project.config, running.follower
        said: tuple[Signature | None, dict[str, Any] | None, tuple[str, ...], bool]
        try:
            said = (*follower.contract(), tuple(follower.feedback_spec().get("labels", ())), self._needs_token())
        except NotReadyError:
            said = (None, None, (), self._needs_token())
        if said != self._said:
            signature, answer, labels, closed = said
            limits: Any = {"max_rows": config.serve.max_rows, "text_mb": config.limits.text_mb, "closed": closed}
            self._document = describe(self._api, signature, answer, labels, **limits)
            self._body = orjson.dumps(self._document)
            self._said = said
        return self._document

    def body(self) -> bytes:
        """The same as JSON."""
        self.document()
        return self._body


def _add_description(api: FastAPI, service: Running, needs_token: Callable[[], bool]) -> None:
    description = _Description(api, service, needs_token)

    @api.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return Response(description.body(), media_type="application/json")

    @api.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        page = api_page(description.document(), str(request.base_url).rstrip("/"))
        return HTMLResponse(page, headers={"content-security-policy": policy})


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(TidemillError)
    async def refused(request: Request, error: TidemillError) -> Response:
        return _response(told(request.url.path, error))

    @api.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _response(told(request.url.path, _explain(request, error)))

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _response(
            told(request.url.path, InputError(first["msg"], where=where, mend="See /docs for what it takes."))
        )

    @api.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _response(shaped(request.url.path, log_fault(request.scope, error)))


def _explain(request: Request, error: HTTPException) -> TidemillError:
    path, status = request.url.path, error.status_code
    headers = tuple((k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items())
    if path in HOT_PATHS or place_of(path) is not None:  # whose POST never comes here
        status, headers = 405, ((b"allow", b"POST"),)
    if status == 405:
        what = f"{path[:MAX_NAME]} does not take {request.method}"
        return RequestError(405, what, where="method", mend="See /docs for the methods it takes.", headers=headers)
    if status == 404:
        known = [*HOT_PATHS, "/docs", "/openapi.json", "/healthz", "/readyz", "/v1/models", "/v2", "/v2/health/ready"]
        return NotFoundError(f"there is nothing at {path[:MAX_NAME]!r}.{nearest(path, known)}", mend="See /docs.")
    if status == 400:  # FastAPI's, of bytes that are no text; what is text and no JSON gets 422 from it
        return InputError("the body is not JSON", where="body", mend="See /docs for what it takes.")
    return RequestError(status, str(error.detail), mend="See /docs.", headers=headers)


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")
