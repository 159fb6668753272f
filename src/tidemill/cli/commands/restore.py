"""``tidemill restore``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.backup import counted
from tidemill.cli.session import Session
from tidemill.cli.show import layout
from tidemill.cli.show.progress import progress
from tidemill.errors import InputError


def restore(
    session: Session,
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A file that `tidemill backup` wrote.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="Where the project goes; must not hold one. Unless given: ./ and its old folder's name."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="The empty database that the tables go to, or `sqlite` for a file in the folder; unless given, what "
            "its tidemill.yaml says.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", metavar="", help="Only check every byte of the archive; change nothing.")
    ] = False,
) -> None:
    """Make a project of a backup, or move it to another database.

    Everything is checked before anything is put in place. A backup from SQLite can go to PostgreSQL, and the other way
    round.
    """
    if verify:
        if folder is not None or store is not None:
            raise InputError("--verify restores nothing", where="--verify", mend="Leave DIR and --store out.")
        from tidemill.project.backup import verify as check

        session.answer(check(archive), _checked)
        return
    from tidemill.project.restoring import restore as restored

    with progress(session) as listener:
        done = restored(archive, folder, store=store, on_event=listener)
    session.answer({**done, "next": [f"tidemill doctor -C {shlex.quote(done['folder'])}"]}, _view)
    session.note("what was erased after the backup was made is here again: erase it anew with `tidemill forget`")


def _checked(data: dict[str, Any]) -> Any:
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(data["created"]))
    return layout.pairs(
        [("backup", data["path"]), ("of", f"{data['project']}, {made}"), ("whole", counted(data))],
    )


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("project", data["folder"]),
                ("tables", data["store"]),
                ("restored", counted(data)),
                ("champion", data["champion"] or "none yet"),
                *(("note", note) for note in data["notes"]),
            ]
        ),
        layout.following(data["next"]),
    )


COMMAND = Command(
    run=restore,
    panel="Keep",
    in_project=False,
    examples=(
        "restore parcels.tar.zst --verify",
        "restore parcels.tar.zst /srv/parcels",
        "restore parcels.tar.zst /srv/parcels --store postgresql://tidemill@db.example/parcels",
    ),
)
