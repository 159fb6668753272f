"""The application: guards at the door, the hot routes as plain ASGI, FastAPI for everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.middleware.cors import CORSMiddleware

from tidemill.errors import NotReadyError, TidemillError
from tidemill.serving._base import ServedProject
from tidemill.serving.answering import error_answer, log_fault
from tidemill.serving.asgi import ASGIApp, Message, Receive, Scope, Send
from tidemill.serving.following import OnSwap
from tidemill.serving.guard import Guard, RequestHead
from tidemill.serving.hot import HotRoutes
from tidemill.serving.routes import create_api
from tidemill.serving.service import Service


class Application:
    """The ASGI application over one project.

    Its living parts start with the server (ASGI lifespan, or :meth:`start`) and end with it.

    Args:
        on_swap: told of each deployment that is taken up.
    """

    def __init__(self, project: ServedProject, on_swap: OnSwap | None = None) -> None:
        settings = project.config.serve
        self._project = project
        self._on_swap = on_swap
        self._service: Service | None = None
        self._guard = Guard(
            hosts=settings.hosts, origins=settings.origins, max_body=int(settings.max_body_mb * 1_000_000)
        )
        self._hot = HotRoutes(self._guard, settings.max_rows).handlers
        self._api: ASGIApp = create_api(self.service)

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
        self._service = Service(self._project, self._on_swap)

    def stop(self) -> None:
        """Answer what waits, flush, fold, and close."""
        service, self._service = self._service, None
        if service is not None:
            service.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's lifespan."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = RequestHead.of(scope)
            self._guard.check(head)
            handler = self._hot.get(scope["path"]) if scope["method"] == "POST" else None
            if handler is None:
                await self._others(scope, receive, send)
                return
            answer = await handler(self.service(), head, receive)
        except TidemillError as error:
            answer = error_answer(error)
        except Exception as error:  # the last line of defence: no caller ever sees a traceback
            answer = log_fault(scope, error)
        await answer.send(send)

    async def _others(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._api(scope, self._guard.limited(receive), noting)
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
    return with_cors(Application(project), project.config.serve.origins)


def with_cors(application: Application, origins: Sequence[str]) -> ASGIApp:
    """*application*, whose answers pages of *origins* may read (CORS); all other pages may not even ask."""
    if not origins:
        return application
    return CORSMiddleware(
        application,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type", "Idempotency-Key"],
    )
