"""The pages as one ASGI application: who may see what, what errors look like, and the headers of every answer."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, cast

import orjson
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from tidemill.console.site import places, rendering
from tidemill.console.site.figures import Figures
from tidemill.console.site.running import Cycles
from tidemill.console.site.session import LOOK, Look, Sessions
from tidemill.console.site.tally import Tally
from tidemill.console.site.visit import Place, Upload, Visit, address
from tidemill.data.dataset import DatasetArrays
from tidemill.errors import AccessError, NotFoundError, TidemillError
from tidemill.project import OpenProject
from tidemill.records import JSON
from tidemill.serving.access import Door, UnauthenticatedError, Visitor
from tidemill.serving.answering import error_answer, log_fault
from tidemill.serving.asgi import Receive, Scope, Send
from tidemill.serving.guard import skip_small_body
from tidemill.serving.service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing is loaded from elsewhere, and no code or style stands in a page: a sample can hold what it likes."""
_MOST_FIELDS = 2000


class Site:
    """The console of one project; a :class:`tidemill.serving._base.Pages`.

    Args:
        project: what is looked at.
        cycle_target: the function, ``module:function``, that runs a cycle in a process of its own.

    Attributes:
        figures: what takes long to find out, as it was last found.
        tally: how many records there are.
        cycles: starts, watches and stops them.
        facts: what reports say of quality and latency, by model and split.
        read: ids of the reports that are in there.
        described: what data pages say, of a few versions.
        arrays: of a few versions, opened.
        sessions: cookies.
    """

    def __init__(self, project: OpenProject, *, cycle_target: str) -> None:
        self.project = project
        self.figures = Figures(project)
        self.tally = Tally(project.store)
        self.cycles = Cycles(project, cycle_target)
        self.sessions = Sessions(project.store.secret)
        self.facts: dict[tuple[str, str], JSON] = {}
        self.read: set[str] = set()
        self.described: dict[Any, JSON] = {}
        self.arrays: dict[Any, DatasetArrays] = {}
        self._service: Callable[[], Service] | None = None
        self._door: Door | None = None
        self._first = {place.path.split("/")[1] for place in places.ALL}
        routes = [Route(p.path, self._endpoint(p), methods=[p.method]) for p in places.ALL]
        self._router = Router(routes, default=self._nowhere)

    @cached_property
    def labels_page(self) -> bool:
        """Whether there is a page to label on."""
        return "label" in self._first

    def serves(self, path: str) -> bool:
        """Whether *path* begins as one of the pages does."""
        return path.split("/", 2)[1] in self._first if path.startswith("/") else False

    def mount(self, service: Callable[[], Service], door: Door) -> None:
        """Take the service's parts and its door."""
        self._service, self._door = service, door

    def close(self) -> None:
        """End what was begun here: a cycle goes on from where it stood when another one is started."""
        self.cycles.close()
        self.figures.close()
        self.tally.close()

    @property
    def door(self) -> Door:
        """Where tokens are looked at."""
        assert self._door is not None
        return self._door

    def service(self) -> Service:
        """The living parts of the service.

        Raises:
            NotReadyError: it is starting or stopping.
        """
        assert self._service is not None
        return self._service()

    def render(self, visit: Visit, template: str, content: dict[str, Any]) -> str:
        """The HTML of a page."""
        return rendering.render(visit, template, content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._router(scope, receive, send)

    def _endpoint(self, place: Place) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answer(place, request)

        return answer

    async def _nowhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        def handler(visit: Visit) -> Response:
            raise NotFoundError(f"there is no page {visit.request.url.path!r:.100}", mend="Follow the navigation.")

        response = await self._answer(Place("/", handler, "page"), Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, place: Place, request: Request) -> Response:
        secure = request.url.scheme == "https"
        kept = self.sessions.read(request.cookies.get(self.sessions.cookie))
        session = kept or self.sessions.new()
        look = Look.of(request.cookies.get(LOOK), request.headers.get("accept-language", ""))
        visit = Visit(site=self, request=request, place=place, session=session, visitor=Visitor(), look=look)
        unread = place.method == "POST"
        try:
            visitor = self.door.visitor(request.scope, session.token, place.need)
            visit = dataclasses.replace(visit, visitor=visitor)
            if visitor.token is not None:
                request.scope["tidemill.token"] = visitor.token.id  # for the log
            if not visitor.may(place.need):
                response = _turned_away(visit)
            else:
                if place.method == "POST":
                    _require_own(request)
                    unread = False
                    visit = await _filled(visit)
                    self.sessions.require_form(kept, visit.given("code") or "")
                response = await _handled(place, visit)
        except TidemillError as error:
            response = _failed(visit, error)
        except Exception as error:  # the last line of defence: nobody ever sees a traceback
            response = _broken(visit, error)
        if unread:
            await skip_small_body(request.scope, request.receive)
        if kept is None and "set-cookie" not in response.headers:
            response.headers.append("set-cookie", self.sessions.written(session, secure=secure))
        return _guarded(response)


async def _handled(place: Place, visit: Visit) -> Response:
    if inspect.iscoroutinefunction(place.handler):
        return await cast("Awaitable[Response]", place.handler(visit))
    return await asyncio.to_thread(cast("Callable[[Visit], Response]", place.handler), visit)


async def _filled(visit: Visit) -> Visit:
    """The visit with what its form says."""
    most = int(visit.project.config.serve.max_body_mb * 1_000_000)
    fields: dict[str, list[str]] = {}
    files: dict[str, Upload] = {}
    async with visit.request.form(max_fields=_MOST_FIELDS, max_part_size=most) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                content = await value.read()
                if content:
                    files[name] = Upload(value.filename or "", content)
            else:
                fields.setdefault(name, []).append(value)
    return dataclasses.replace(visit, fields=fields, files=files)


def _require_own(request: Request) -> None:
    """Refuse what a page of another origin sends; browsers say where it comes from, and other programs need not."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if foreign or (origin is not None and origin.partition("://")[2] != request.headers.get("host")):
        raise AccessError("another site sent this form", where="Origin header", mend="Use the page itself.")


def _turned_away(visit: Visit) -> Response:
    """To the sign-in, or word of which scope is missing."""
    if visit.visitor.token is None:
        if visit.request.headers.get("x-part"):  # a script sent it, and keeps what was said until it can be sent
            raise UnauthenticatedError(
                401,
                "you are not signed in any more",
                where=visit.request.url.path,
                mend="Sign in, which another tab can do as well, then send it again.",
            )
        url = visit.request.url
        path = url.path if visit.place.method == "GET" else "/"
        return visit.go("/sign-in", to=None if path == "/" else address(path) + (f"?{url.query}" if url.query else ""))
    raise AccessError(
        f"the token {visit.visitor.token.name!r} does not have the scope {visit.place.need}",
        where=visit.request.url.path,
        mend=f"Sign in with one that has: `tidemill token new NAME --scope {visit.place.need}` makes it.",
    )


def _failed(visit: Visit, error: TidemillError) -> Response:
    answer = error_answer(error)
    response = visit.page("error.html", status=answer.status, error=error, title=error.code.replace("_", " "))
    for name, value in answer.headers:
        if name in (b"retry-after", b"www-authenticate"):
            response.headers[name.decode()] = value.decode()
    return response


def _broken(visit: Visit, error: Exception) -> Response:
    told = orjson.loads(log_fault(visit.request.scope, error).body)["error"]
    shown = TidemillError(told["what"], where=told["where"], mend=told["mend"])
    return visit.page("error.html", status=500, error=shown, title="fault")


def _guarded(response: Response) -> Response:
    for name, value in (
        ("content-security-policy", POLICY),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
        ("vary", "cookie"),
    ):
        response.headers.setdefault(name, value)
    return response
