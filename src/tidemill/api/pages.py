"""The pages for people, as the service is given them."""

from __future__ import annotations

from tidemill.config import Serve
from tidemill.project import OpenProject
from tidemill.serving._base import Pages

CYCLE = "tidemill.api.running:cycle_job"


def pages_of(project: OpenProject, settings: Serve) -> Pages | None:
    """The console of *project*; ``None`` where ``serve.console`` says that there is none."""
    if not settings.console:
        return None
    from tidemill.console.site import Site

    return Site(project, cycle_target=CYCLE)
