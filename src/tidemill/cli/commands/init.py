"""``tidemill init``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def init(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new project's folder; made when it is not there.")],
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="PATH|ID", help="A file, a folder or an id such as sklearn:digits; may repeat."),
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="The column to predict; unless given, the one named like one."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="What is to be learned; inferred unless given.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="LABEL", help="A label that the data does not show yet; may repeat."),
    ] = None,
) -> None:
    """Make a project from data.

    Infers the task, says why, and writes tidemill.yaml. The data stays where it is. Another task can be
    named with --task.
    """
    from tidemill.project import start_project

    started = start_project(folder, data=data, target=target, task=task, labels=label or ())
    found = {**dataclasses.asdict(started), "folder": str(started.folder), "data": data}
    session.answer({**found, "next": [f"tidemill plan -C {folder}", f"tidemill cycle -C {folder}"]}, _view)


def _view(data: dict[str, Any]) -> Any:
    inputs = [name for name in data["columns"] if name != data["target"]]
    return layout.stack(
        layout.pairs(
            [
                ("project", data["folder"]),
                ("task", f"{data['task']}: {data['reason']}"),
                ("data", f"{', '.join(data['data'])} ({units.count(data['rows'], 'row')})"),
                ("inputs", _some(inputs)),
                ("target", data["target"]),
                *(("note", note) for note in data["notes"]),
            ]
        ),
        layout.following(data["next"]),
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


COMMAND = Command(
    run=init,
    panel="Begin",
    in_project=False,
    examples=(
        "init digits --data sklearn:digits --target label",
        "init mails --data mails.jsonl --target kind --label spam --label wanted",
        "init census --data adult-train.csv --data adult-test.csv --target income",
    ),
)
