"""Traces: where the time of requests and cycles went, by OpenTelemetry, for whoever asks for it.

What is configured by ``OTEL_…`` variables (where spans go, which share of them, the service's name) is left to them. A
request with a W3C ``traceparent`` goes on with its caller's trace. Its parts are known only afterwards, from what was
noted along the way (:mod:`tidemill.serving.marks`), so tracing adds nothing to the work of a batch but these notes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tidemill.errors import ExtraMissingError
from tidemill.serving.asgi import ASGIApp, Message, Receive, Scope, Send
from tidemill.serving.marks import MARKS, Marks
from tidemill.serving.metrics import route_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger("tidemill.serving")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_UNTRACED = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
"""What machines ask all day, and nobody wants to read."""
_CARRIED = (b"traceparent", b"tracestate")

SpanOf = Callable[[str], AbstractContextManager[None]]
"""Makes a span of what is done inside, by its name."""


@contextlib.contextmanager
def tracing(asked: bool | None, environ: Mapping[str, str] | None = None) -> Iterator[Tracer | None]:
    """While inside, a tracer whose spans are sent, to the last one; or ``None``, where nobody asks for any.

    Args:
        asked: ``serve.tracing``; ``None``: when the environment says where spans go.
        environ: ``os.environ`` unless given.

    Raises:
        ExtraMissingError: it is asked for, and OpenTelemetry is not installed.
    """
    environ = os.environ if environ is None else environ
    named = any(environ.get(name) for name in _ENDPOINTS)
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not (named if asked is None else asked):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        missing = ExtraMissingError(
            "OpenTelemetry is not installed",
            where="serve.tracing",
            mend="Install it with `pip install 'tidemill[tracing]'`.",
        )
        if asked:
            raise missing from error
        logger.warning("requests are not traced: %s", missing)
        yield None
        return
    named_service = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named_service else {"service.name": "tidemill"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    with _among_our_lines():
        try:
            yield provider.get_tracer("tidemill")
        finally:
            provider.shutdown()


@contextlib.contextmanager
def _among_our_lines() -> Iterator[None]:
    """While inside, what OpenTelemetry says of its sending stands in our log, in its form."""
    theirs, forward = logging.getLogger("opentelemetry"), logging.Handler()
    forward.emit = lambda record: logger.log(record.levelno, "traces: %s", record.getMessage())  # type: ignore[method-assign]
    before, theirs.propagate = theirs.propagate, False
    theirs.addHandler(forward)
    try:
        yield
    finally:
        theirs.removeHandler(forward)
        theirs.propagate = before


class Traced:
    """*app*, with a span for each request and one for each part of its work; its trace's id stands in the log, too."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = tracer
        self._carried = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        span = self._begun(scope)
        if not span.is_recording():  # another share of the traces was asked for
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["tidemill.trace"] = f"{span.get_span_context().trace_id:032x}"
        zero = time.time_ns() - int(time.perf_counter() * 1e9)
        marks: Marks = []
        token = MARKS.set(marks)
        try:
            await self._app(scope, receive, noting)
        finally:
            MARKS.reset(token)
            self._ended(span, marks, zero, status)

    def _begun(self, scope: Scope) -> Span:
        from opentelemetry.trace import SpanKind

        carried = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
        route = route_of(scope["path"])
        return self._tracer.start_span(
            f"{scope['method']} {route}",
            self._carried.extract(carried),
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "http.route": route},
        )

    def _ended(self, span: Span, marks: Marks, zero: int, status: int) -> None:
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        parent = set_span_in_context(span)
        for name, began, ended in marks:
            part = self._tracer.start_span(name, parent, start_time=zero + int(began * 1e9))
            part.end(zero + int(ended * 1e9))
        span.set_attribute("http.response.status_code", status)
        if status >= 500 or status == 0:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


@contextlib.contextmanager
def traced_cycle(asked: bool | None, trigger: str) -> Iterator[SpanOf]:
    """While inside, a span of a cycle; what is yielded makes one for each of its stages.

    Raises:
        ExtraMissingError: it is asked for, and OpenTelemetry is not installed.
    """
    with tracing(asked) as tracer:
        if tracer is None:
            yield lambda _stage: contextlib.nullcontext()
            return

        @contextlib.contextmanager
        def span_of(stage: str) -> Iterator[None]:
            with tracer.start_as_current_span(stage):
                yield

        with tracer.start_as_current_span("cycle", attributes={"tidemill.trigger": trigger}):
            yield span_of
