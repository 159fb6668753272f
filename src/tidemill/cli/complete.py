"""What the shell completes besides commands and options: tasks, models and fields.

A shell asks while somebody types, so whatever goes wrong here just completes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.project import OpenProject


def tasks(incomplete: str) -> list[str]:
    """The names of the tasks."""
    from tidemill.tasks import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def models(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the project's models, the newest first, each with its recipe."""
    project = _project(ctx)
    if project is None:
        return []
    from tidemill.project.overview import models as listed

    found = [("champion", "the model that serves"), *((m["id"], m["recipe"]) for m in listed(project))]
    return [(name, said) for name, said in found if name.startswith(incomplete)]


def fields(ctx: Any, incomplete: str) -> list[str]:
    """``NAME=`` for each input of the project."""
    project = _project(ctx)
    if project is None or project.dataset is None:
        return []
    return [f"{field.name}=" for field in project.signature.inputs if field.name.startswith(incomplete)]


def _project(ctx: Any) -> OpenProject | None:
    from tidemill.cli.session import Session
    from tidemill.errors import TidemillError

    try:
        folder = ctx.params.get("project") or ctx.find_root().params.get("project")
        where = Session(folder=None if folder is None else Path(folder)).project_folder()
        from tidemill.project import OpenProject

        return OpenProject(where)
    except (TidemillError, OSError):
        return None
