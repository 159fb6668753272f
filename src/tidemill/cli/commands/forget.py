"""``tidemill forget``."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.errors import InputError

_SHOWN = 10
_COUNTED = {
    "predictions": "prediction",
    "feedback": "statement",
    "labels": "label",
    "samples": "sample",
    "signatures": "signature",
}


def forget(
    session: Session,
    author: Annotated[
        str | None,
        typer.Option(
            "--author", metavar="NAME", help="Everything that this author said, and that this caller asked for."
        ),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id", metavar="ID", help="A prediction, sample, piece of feedback or label; may be given several times."
        ),
    ] = None,
    same_content: Annotated[
        bool, typer.Option("--same-content", metavar="", help="Also whatever else has the same inputs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask: erase.")] = False,
) -> None:
    """Erase a person's inputs and words, everywhere they went.

    Ids stay, and say when something was erased. The models that learned from it are named: the next cycle makes one
    without it. What one learned from it by `learn-class` goes, too. Backups and rows of your own files are named, and
    not touched. It cannot be undone.
    """
    given: dict[str, Any] = {"author": author, "ids": ids or (), "same_content": same_content}
    if not (yes or dry_run) and not _agreed(session, session.project.forget(**given, dry_run=True)):
        session.note("nothing was erased")
        return
    done = session.project.forget(**given, dry_run=dry_run)
    session.answer({**done, "next": _next(done)}, _view)


def _agreed(session: Session, found: dict[str, Any]) -> bool:
    """Show what would go; whether that is wanted."""
    if session.json or not sys.stdin.isatty():
        raise InputError(
            "nothing was erased: it cannot be undone, and nobody can be asked",
            where="--yes",
            mend="See with --dry-run what would go, then say --yes.",
        )
    session.err.print(_view({**found, "next": []}))
    return not found["counts"] or typer.confirm("Erase this for good?", err=True)


def _next(done: dict[str, Any]) -> list[str]:
    if done["dry_run"]:
        return []
    return ["tidemill cycle"] if any(model["champion"] for model in [*done["models"], *done["states"]]) else []


def _view(data: dict[str, Any]) -> Any:
    counts = [units.count(n, noun) for what, noun in _COUNTED.items() if (n := data["counts"].get(what))]
    rows: list[tuple[str, str]] = []
    if counts:
        rows.append(("would erase" if data["dry_run"] else "erased", ", ".join(counts)))
    elif not data["already"]:
        rows.append(("erased", "nothing: there is nothing of it here"))
    rows += [("erased before", identifier) for identifier in data["already"]]
    rows += [("erasure", data["erasure"])] if data["erasure"] else []
    for model in data["models"]:
        rows.append(("learned from it", f"{model['id']} ({model['recipe']}){', the champion' * model['champion']}"))
    for one in data["states"]:
        told = f"{one['id']} ({', '.join(one['classes'])}) of {one['model']}{', in force' * one['champion']}"
        rows.append(("learned from it, goes too" if data["dry_run"] else "learned from it, gone too", told))
    for what, identifiers in data["also_there"].items():
        rows += [(f"{what} of the same inputs, not erased", _some(identifiers))] if identifiers else []
    rows += [("in your own files", _some(data["sources"]))] if data["sources"] else []
    for one in data["backups"]:
        rows.append(("in a backup", f"{one['path']}, made {time.strftime('%Y-%m-%d', time.localtime(one['created']))}"))
    rows += [("note", note) for note in data["notes"]]
    return layout.stack(layout.pairs(rows), layout.following(data["next"]))


def _some(identifiers: list[str]) -> str:
    more = len(identifiers) - _SHOWN
    return ", ".join(identifiers[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


COMMAND = Command(
    run=forget,
    panel="Keep",
    examples=("forget --author ann --dry-run", "forget --author ann --yes", "forget --id pred_01k… --id smp_00c0ffee…"),
)
