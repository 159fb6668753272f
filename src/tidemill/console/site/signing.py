"""Signing in and out, language and colours."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from tidemill.console.site.session import Look, Session
from tidemill.console.site.visit import Place, Visit
from tidemill.errors import TidemillError
from tidemill.serving.answering import error_answer


def form(visit: Visit) -> Response:
    """Where a token is typed; those who need none are sent on."""
    if visit.visitor.free or visit.visitor.token is not None:
        return visit.go(_inside(visit.asked("to")))
    return visit.page("sign_in.html", to=_inside(visit.asked("to")), fault=None)


def sign_in(visit: Visit) -> Response:
    """Take a token; from then on the cookie says whose."""
    to = _inside(visit.given("to"))
    try:
        token = visit.site.door.sign_in(visit.request.scope, visit.given("token") or "")
    except TidemillError as error:
        return visit.page("sign_in.html", status=error_answer(error).status, to=to, fault=error)
    response = visit.go(to)
    return _kept(visit, response, visit.site.sessions.new(token.id))


def form_code(visit: Visit) -> Response:
    """What forms carry, for a page that was opened before its visitor signed in anew; and who that is now."""
    token = visit.visitor.token
    told = {"code": visit.site.sessions.form_code(visit.session), "visitor": "" if token is None else token.name}
    return JSONResponse(told, headers={"cache-control": "no-store"})


def sign_out(visit: Visit) -> Response:
    """Forget whose session it was."""
    return _kept(visit, visit.go("/sign-in"), visit.site.sessions.new())


def look(visit: Visit) -> Response:
    """Keep language and colours, and go back to where they were chosen."""
    kept = visit.look
    chosen = Look.of(f"{visit.given('language') or kept.language}.{visit.given('theme') or kept.theme}", "")
    response = visit.go(_inside(visit.given("to")))
    response.headers.append("set-cookie", chosen.written(secure=_secure(visit)))
    return response


def _kept(visit: Visit, response: Response, session: Session) -> Response:
    response.headers.append("set-cookie", visit.site.sessions.written(session, secure=_secure(visit)))
    return response


def _secure(visit: Visit) -> bool:
    return visit.request.url.scheme == "https"


def _inside(path: str | None) -> str:
    """A path of ours; whatever else somebody put into a link leads home."""
    inside = path is not None and path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if inside and path is not None and path.isprintable() else "/"


PLACES = (
    Place("/sign-in", form, "open"),
    Place("/sign-in", sign_in, "open", "POST"),
    Place("/sign-in/code", form_code, "open"),
    Place("/sign-out", sign_out, "open", "POST"),
    Place("/look", look, "open", "POST"),
)
