"""The application: guards at the door, the hot routes as plain ASGI, FastAPI for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from tidemill.config import Serve
from tidemill.errors import NotReadyError, TidemillError
from tidemill.serving._base import Pages, ServedProject
from tidemill.serving.access import Door
from tidemill.serving.answering import log_fault, secured
from tidemill.serving.asgi import ASGIApp, Message, Receive, Scope, Send
from tidemill.serving.describing import BULK
from tidemill.serving.following import OnSwap
from tidemill.serving.guard import EVERYWHERE, Guard, RequestHead, is_loopback, skip_small_body
from tidemill.serving.hot import HotRoutes
from tidemill.serving.logs import RequestLog
from tidemill.serving.metrics import Meter
from tidemill.serving.protocol import shaped, told
from tidemill.serving.routes import create_api
from tidemill.serving.service import Service
from tidemill.serving.tracing import Traced

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class Application:
    """The ASGI application over one project.

    Its living parts start with the server (ASGI lifespan, or :meth:`start`) and end with it.

    Args:
        on_swap: told of each deployment that is taken up.
        settings: what the project's configuration says under ``serve`` unless given.
        host: the address that the service listens on. Unless it is known, requests from other machines are told from
            those of this one by the address that they came to.
        pages: pages for people, beside the API.
    """

    def __init__(
        self,
        project: ServedProject,
        on_swap: OnSwap | None = None,
        settings: Serve | None = None,
        *,
        host: str | None = None,
        pages: Pages | None = None,
    ) -> None:
        settings = settings or project.config.serve
        exposed = host is not None and not is_loopback(host)
        self._project = project
        self._on_swap = on_swap
        self._service: Service | None = None
        self._meter = Meter()
        self._guard = Guard(
            hosts=(*settings.hosts, host) if exposed and host else settings.hosts,
            origins=settings.origins,
            max_body=int(settings.max_body_mb * 1_000_000),
            addresses=host in EVERYWHERE,
        )
        self._door = Door(project.store, settings, exposed=exposed)
        self._hot = HotRoutes(self._guard, settings.max_rows)
        self._api: ASGIApp = create_api(self.service, self._door.needs_token)
        self._pages = pages
        if pages is not None:
            pages.mount(self.service, self._door)

    def service(self) -> Service:
        """The living parts.

        Raises:
            NotReadyError: the server is not up, or going down.
        """
        if self._service is None:
            raise NotReadyError("the server is starting or stopping", mend="Try again in a second.")
        return self._service

    def start(self) -> None:
        """Open what serving needs, and load the champion if there is one."""
        self._door.tokens.start()
        self._service = Service(self._project, self._meter, self._on_swap)

    def stop(self) -> None:
        """Answer what waits, flush, fold, and close."""
        if self._pages is not None:
            self._pages.close()
        service, self._service = self._service, None
        if service is not None:
            service.close()
        self._door.tokens.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's lifespan."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, at_the_door = time.perf_counter(), True
        try:
            head = RequestHead.of(scope)
            self._guard.check(head, streams=scope["path"] == BULK)
            if self._pages is not None and self._pages.serves(scope["path"]):
                at_the_door = False
                await self._others(self._pages, scope, receive, send, began)
                return
            token = self._door.enter(scope, head)
            if token is not None:
                scope["tidemill.token"] = token.id  # for the log
                scope["tidemill.via"] = token.name  # under which answers of annotators are kept
                head = head._replace(via=token.name)
            at_the_door = False
            handler = self._hot.find(scope["path"]) if scope["method"] == "POST" else None
            if handler is None:
                await self._others(self._api, scope, receive, send, began)
                return
            answer = await handler(self.service(), head, receive)
        except TidemillError as error:
            answer = told(scope["path"], error)
            if at_the_door:
                await skip_small_body(scope, receive)
        except Exception as error:  # the last line of defence: no caller ever sees a traceback
            answer = shaped(scope["path"], log_fault(scope, error))
        self._meter.request(scope["path"], answer.status, time.perf_counter() - began)
        await answer.send(send)

    async def _others(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            if not started:
                self._meter.request(scope["path"], message["status"], time.perf_counter() - began)
                message = secured(message)
            started = True
            await send(message)

        try:
            await app(scope, self._guard.limited(receive), noting)
        except Exception:
            if not started:  # otherwise it has been answered and logged before it was raised again
                raise

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        work: dict[str, Callable[[], None]] = {"startup": self.start, "shutdown": self.stop}
        while True:
            phase = (await receive())["type"].removeprefix("lifespan.")
            try:
                await asyncio.to_thread(work[phase])
            except TidemillError as error:
                await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
                return
            await send({"type": f"lifespan.{phase}.complete"})
            if phase == "shutdown":
                return


def create_app(project: ServedProject) -> ASGIApp:
    """The ASGI application that serves *project*, for any ASGI server."""
    return wrapped(Application(project), project.config.serve)


def wrapped(application: Application, settings: Serve, tracer: Tracer | None = None) -> ASGIApp:
    """*application* with what only some projects ask for: answers that other pages may read, traces, and a log."""
    app: ASGIApp = application
    if settings.origins:
        app = _Secured(
            CORSMiddleware(
                app,
                allow_origins=list(settings.origins),
                allow_methods=["GET", "POST"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "Inference-Header-Content-Length",
                    "Traceparent",
                    "Tracestate",
                ],
                expose_headers=[
                    "Idempotent-Replayed",
                    "Inference-Header-Content-Length",
                    "Retry-After",
                    "X-Request-Id",
                ],
            )
        )
    if tracer is not None:
        app = Traced(app, tracer)
    return RequestLog(app) if settings.log else app


class _Secured:
    """*app*, whose every answer has the headers of security; for what answers before the application does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def completing(message: Message) -> None:
            await send(secured(message) if message["type"] == "http.response.start" else message)

        await self._app(scope, receive, completing)
