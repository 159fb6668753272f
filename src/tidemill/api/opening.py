"""Projects made, opened and restored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidemill.api.project import Project
from tidemill.config import find_project
from tidemill.errors import NotFoundError
from tidemill.project import start_project


def init(
    folder: str | Path,
    *,
    data: str | Path | Sequence[str | Path],
    target: str | None = None,
    task: str | None = None,
    labels: Sequence[str] = (),
    **settings: Any,
) -> Project:
    """Make a project and open it; see :func:`tidemill.project.start_project`."""
    start_project(Path(folder), data=data, target=target, task=task, labels=labels, **settings)
    return Project(Path(folder))


def open_project(folder: str | Path = ".") -> Project:
    """Open the project in *folder*, or in the nearest folder above it.

    Raises:
        NotFoundError: there is none.
    """
    if not Path(folder).is_dir():
        raise NotFoundError(f"there is no folder {os.fspath(folder)!r}", mend="Check the path.")
    return Project(find_project(Path(folder)))


def restore(archive: str | Path, folder: str | Path | None = None, *, store: str | None = None) -> Project:
    """Make a project of what a backup holds, and open it; see :func:`tidemill.project.restoring.restore`."""
    from tidemill.project import restoring

    done = restoring.restore(Path(archive), None if folder is None else Path(folder), store=store)
    return Project(Path(done["folder"]))
