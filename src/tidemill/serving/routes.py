"""The routes of FastAPI: health, models, traces, and the description of the whole API."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from tidemill.errors import InputError, NotFoundError, NotReadyError, TidemillError
from tidemill.runtime.statements import MAX_NAME, nearest
from tidemill.serving.answering import Answer, RequestError, error_answer, log_fault
from tidemill.serving.describing import describe, errors
from tidemill.serving.hot import HOT_PATHS
from tidemill.serving.page import api_page
from tidemill.serving.schemas import Health, ModelList, Readiness
from tidemill.serving.service import Service

Running = Callable[[], Service]


def create_api(service: Running) -> FastAPI:
    """FastAPI with every route but the hot ones, which its OpenAPI document describes all the same.

    Args:
        service: gives the living parts, or raises NotReadyError.
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
    _add_description(api, service)
    _add_errors(api)
    return api


def _add_health(api: FastAPI, service: Running) -> None:
    @api.get("/healthz", response_model=Health, responses=errors(), summary="Is the process alive", tags=["health"])
    def healthz() -> dict[str, Any]:
        """Answers as long as the process can answer at all."""
        return {"status": "ok"}

    @api.get("/readyz", response_model=Readiness, responses=errors(503), summary="Can it predict", tags=["health"])
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
    @api.get("/v1/models", response_model=ModelList, responses=errors(503), summary="The models", tags=["records"])
    def models() -> dict[str, Any]:
        """The project's models, newest first, in the shape of OpenAI's list; `champion` marks the one that answers."""
        running = service()
        champion = running.project.store.champion()
        data = []
        for model in running.project.models():
            fields = {**model, "object": "model", "created": int(model["created"]), "owned_by": "tidemill"}
            data.append({**fields, "champion": champion is not None and champion.model_id == model["id"]})
        return {"object": "list", "data": data}

    @api.get("/v1/trace/{identifier}", responses=errors(404, 503), summary="Where it came from", tags=["records"])
    def trace(identifier: str) -> dict[str, Any]:
        """From any id the whole line: prediction, model, run, dataset version, feedback, and the cycle behind it."""
        return service().trace(identifier)


def _add_description(api: FastAPI, service: Running) -> None:
    @api.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        running = service()
        config, follower = running.project.config, running.follower
        max_rows, text_mb = config.serve.max_rows, config.limits.text_mb
        try:
            spec = follower.feedback_spec()
            signature, answer = follower.contract()
        except NotReadyError:
            return describe(api, None, None, (), max_rows=max_rows, text_mb=text_mb)
        return describe(api, signature, answer, spec.get("labels", ()), max_rows=max_rows, text_mb=text_mb)

    @api.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        return HTMLResponse(
            api_page(openapi(), str(request.base_url).rstrip("/")), headers={"content-security-policy": policy}
        )


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(TidemillError)
    async def refused(_request: Request, error: TidemillError) -> Response:
        return _response(error_answer(error))

    @api.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _response(error_answer(_explain(request, error)))

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _response(error_answer(InputError(first["msg"], where=where, mend="See /docs for what it takes.")))

    @api.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _response(log_fault(request.scope, error))


def _explain(request: Request, error: HTTPException) -> TidemillError:
    path, status = request.url.path, error.status_code
    headers = tuple((k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items())
    if path in HOT_PATHS:  # whose POST never comes here
        status, headers = 405, ((b"allow", b"POST"),)
    if status == 405:
        what = f"{path[:MAX_NAME]} does not take {request.method}"
        return RequestError(405, what, where="method", mend="See /docs for the methods it takes.", headers=headers)
    if status == 404:
        known = [*HOT_PATHS, "/docs", "/openapi.json", "/healthz", "/readyz", "/v1/models"]
        return NotFoundError(f"there is nothing at {path[:MAX_NAME]!r}.{nearest(path, known)}", mend="See /docs.")
    return RequestError(status, str(error.detail), mend="See /docs.", headers=headers)


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")
