"""One visit: a request for a page, with who asks and how they like it, and what the pages are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tidemill.console.site.session import Look, Session
from tidemill.errors import InputError
from tidemill.project import OpenProject
from tidemill.serving.access import Need, Visitor
from tidemill.serving.service import Service
from tidemill.store import Store

if TYPE_CHECKING:
    from tidemill.console.site.app import Site

MAX_REASON = 1000


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a form."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request for one of the pages.

    Attributes:
        site: what is looked at.
        request: as it came.
        place: the page that it is for.
        session: of the visitor.
        visitor: who that is, and what is open to them.
        look: language and colours.
        fields: of a form, by name.
        files: of a form.
    """

    site: Site
    request: Request
    place: Place
    session: Session
    visitor: Visitor
    look: Look
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, Upload] = field(default_factory=dict)

    @property
    def project(self) -> OpenProject:
        """The project that is served."""
        return self.site.project

    @property
    def store(self) -> Store:
        """Its store."""
        return self.site.project.store

    @property
    def service(self) -> Service:
        """The living parts of the service."""
        return self.site.service()

    @property
    def author(self) -> str:
        """Under which name something is done: that of the token; without tokens, that it was here."""
        return "console" if self.visitor.token is None else self.visitor.token.name

    def path(self, name: str) -> str:
        """A part of the address."""
        return str(self.request.path_params[name])

    def asked(self, name: str) -> str | None:
        """A value of the address's query; ``None`` where it is not given, or empty."""
        value = self.request.query_params.get(name, "").strip()
        return value[:500] or None

    def number(self, name: str) -> int | None:
        """The same as a whole number that is not negative.

        Raises:
            InputError: it is none.
        """
        value = self.asked(name)
        if value is None:
            return None
        if not value.isdecimal() or len(value) > 18:
            raise InputError(f"{value!r:.40} is no whole number", where=name, mend="Follow the links of the page.")
        return int(value)

    def given(self, name: str) -> str | None:
        """A field of the form; ``None`` where it is not given, or empty."""
        values = self.fields.get(name)
        return (values[0].strip() or None) if values else None

    def reason(self) -> str:
        """Why something is done: whoever does it has to say.

        Raises:
            InputError: the field is empty, or too long.
        """
        text = self.given("reason")
        if text is None or len(text) > MAX_REASON:
            what = "a reason is needed" if text is None else f"the reason has {len(text)} letters"
            raise InputError(what, where="reason", mend="Say in a sentence why; it stays in the history.")
        return text

    @property
    def seen(self) -> str | None:
        """What served, and what was on its way to, when the page of this form was made."""
        return self.given("seen")

    def page(self, template: str, *, status: int = 200, **content: Any) -> Response:
        """The page that a template of ``templates/site`` makes of *content*."""
        return HTMLResponse(self.site.render(self, template, content), status)

    @staticmethod
    def go(path: str, **query: str | None) -> Response:
        """On to another page, after something was done."""
        return RedirectResponse(address(path, **query), 303)


def address(path: str, **query: Any) -> str:
    """A path with a query of what is not ``None``.

    >>> address("/data", split="train", after=None, q="a b")
    '/data?split=train&q=a%20b'
    """
    said = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value is not None)
    return f"{path}?{said}" if said else path


Handler = Callable[[Visit], Response] | Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Place:
    """One page, or one thing that can be done.

    Attributes:
        path: with ``{name}`` for a part that varies.
        handler: answers; what it does may take its time, unless it is a coroutine.
        need: what visitors must be allowed.
        method: ``POST`` for what changes something: then the form's code is checked before.
    """

    path: str
    handler: Handler
    need: Need
    method: Literal["GET", "POST"] = "GET"
