"""Style sheets and scripts: files of ours, the same for everybody."""

from __future__ import annotations

import mimetypes

from starlette.responses import Response

from tidemill.console.site.rendering import STATIC, static_file
from tidemill.console.site.visit import Place, Visit
from tidemill.errors import NotFoundError

_KEPT = "public, max-age=31536000, immutable"


def file(visit: Visit) -> Response:
    """One of them; its address changes with its content."""
    name = visit.path("name")
    known = {path.name for path in STATIC.iterdir() if path.is_file()} | {"report.css"}
    if name not in known:
        raise NotFoundError(f"there is no file {name!r:.60}", mend="Load the page anew.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(static_file(name), media_type=kind, headers={"cache-control": _KEPT})


def icon(_visit: Visit) -> Response:
    """What browsers ask for by themselves."""
    return Response(static_file("icon.svg"), media_type="image/svg+xml", headers={"cache-control": _KEPT})


PLACES = (Place("/static/{name}", file, "open"), Place("/favicon.ico", icon, "open"))
