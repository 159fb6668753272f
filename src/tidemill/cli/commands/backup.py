"""``tidemill backup``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.progress import progress


def backup(
    session: Session,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="The file to write; in a folder it is named after the project and the time."
        ),
    ],
) -> None:
    """Write everything a project holds to one file.

    Tables, journal, models, data, secret and settings, as they stand at one moment, while the project is served and
    used. Whoever has the file has the project's secret: it is made readable for its owner only.
    """
    with progress(session) as listener:
        done = session.project.backup(path, on_event=listener)
    session.answer(done, _view)


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("backup", data["path"]),
                ("size", f"{units.size(data['bytes'])}: {counted(data)}"),
                ("took", units.seconds(data["seconds"])),
            ]
        ),
        layout.following([f"tidemill restore {data['path']} --verify"]),
    )


def counted(data: dict[str, Any]) -> str:
    """What an archive holds, in numbers."""
    return f"{units.count(data['files'], 'file')}, {units.count(sum(data['rows'].values()), 'row')}"


COMMAND = Command(run=backup, panel="Keep", examples=("backup /backups", "backup parcels.tar.zst"))
