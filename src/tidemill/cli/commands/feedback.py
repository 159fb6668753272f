"""``tidemill feedback``: add, list, authors, import, export."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.session import Session
from tidemill.cli.show import answers, layout, units
from tidemill.cli.show.progress import progress
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.api import Project

NAME = "feedback"
PANEL = "Feed back"
_WIDE = 40  # columns of a value

Author = Annotated[str | None, typer.Option("--author", help="Who says it; your login name unless given.")]


def add(
    session: Session,
    about: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREDICTION] [VALUE…]",
            help="The prediction's id, then the right label, labels or number, a rating, a comment, or the prediction "
            "that was worse; none: it was right.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["confirmation", "correction", "rating", "comment", "reward", "preference"] | None,
        typer.Option("--kind", help="What it is; a correction with a VALUE, a confirmation without."),
    ] = None,
    episode: Annotated[
        str | None, typer.Option("--episode", metavar="NAME", help="It is about this episode, not a prediction.")
    ] = None,
    nothing: Annotated[
        bool, typer.Option("--none", metavar="", help="No label is right, where any number of them can be.")
    ] = False,
    author: Author = None,
    asked: Annotated[bool, typer.Option("--asked", metavar="", help="It answers an audit request.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key: the same statement twice counts once.")
    ] = None,
) -> None:
    """Say what was right or wrong about a prediction, which of two was better, or how an episode went.

    Where any number of labels is right, give all of them, or one text with commas between; what is not named is wrong.
    """
    given = list(about or ())
    prediction = None if episode is not None else given.pop(0) if given else None
    if prediction is None and episode is None:
        raise InputError("nothing is named to speak of", mend="Give a prediction's id, or --episode.")
    if nothing and (given or kind not in (None, "correction")):
        raise InputError("values and --none exclude each other", where="--none", mend="Give the labels, or --none.")
    chosen = kind or ("correction" if given or nothing else "confirmation")
    project = session.project
    outcome = project.feedback(
        prediction,
        value=_value(project, chosen, given, nothing=nothing),
        kind=chosen,
        author=author or default_author(),
        asked=asked,
        key=key,
        episode=episode,
    )
    session.answer(outcome, _said)


def list_(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N statements.")] = 20,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="Only by this author.")] = None,
    about: Annotated[
        str | None, typer.Option("--about", metavar="ID", help="Only of this prediction, pair:… or episode:….")
    ] = None,
) -> None:
    """Show what people said, the newest first, and how much of each kind is in force.

    Of a prediction also what was said of pairs and episodes that it belongs to.
    """
    found = session.project.feedback_list(limit, kind=kind, author=author, about=about)
    session.answer(found, _listed)


def authors(session: Session) -> None:
    """Show whose word counts for how much, and what is held back.

    An author becomes trusted as labels prove right: by what annotators and trusted authors say of the same inputs, and
    by how well they fit what the model said. Labels that hardly can be right are held back until somebody answers for
    them in `tidemill label`.
    """
    session.answer(session.project.authors(), _authors)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, CSV or Parquet, a statement a row.")],
    author: Annotated[
        str | None, typer.Option("--author", help="Who says it where a row names nobody; anonymous unless given.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", metavar="", help="Leave faulty rows out, and list them.")] = False,
) -> None:
    """Add every statement of a file of any length.

    A line is {"prediction": ID, "kind": …, "value": …, "author": …, "key": …}; a CSV file has these as its header, and
    several labels in one cell, with commas between. All of it is checked before anything is written. When it is
    interrupted, run it again: what was committed is not added twice. What `feedback export` wrote can be imported, too.
    """
    with progress(session) as listener:
        done = session.project.feedback_import(file, author=author, skip=skip, on_event=listener)
    session.answer(done, _imported)


def export(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
) -> None:
    """Write all feedback as JSON lines, or as CSV where the file is named so."""
    session.answer(session.project.feedback_export(file), layout.pairs)


def _said(outcome: dict[str, Any]) -> Any:
    feedback = outcome["feedback"]
    rows = [("feedback", feedback["id"]), ("status", outcome["status"]), ("supersedes", outcome["superseded"])]
    return layout.pairs([row for row in rows if row[1] is not None])


def _listed(found: dict[str, Any]) -> Any:
    kinds = ", ".join(f"{units.count(n)} {kind}" for kind, n in found["kinds"].items())
    if not kinds:
        return layout.line("nobody has said anything yet")
    rows = [
        (
            units.ago(item["created"]),
            item["kind"],
            item["subject"],
            units.NONE if item["value"] is None else _short(item["value"]),
            item["author"],
            "replaced" if item["superseded_by"] else "",
        )
        for item in found["statements"]
    ]
    return layout.stack(layout.table(["when", "kind", "about", "value", "author", ""], rows), layout.line(kinds))


def _short(value: Any) -> str:
    text = (
        answers.label(value)
        if isinstance(value, list)
        else str(value.get("over") if isinstance(value, dict) else value)
    )
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"


def _authors(found: dict[str, Any]) -> Any:
    if not found["authors"]:
        return layout.line("nobody has stated a label yet")
    rows = [
        (
            item["author"] if item["via"] is None else f"{item['author']} (by {item['via']})",
            item["standing"],
            units.percent(item["trust"]),
            units.count(item["statements"]),
            units.NONE if not item["settled"] else f"{units.count(item['agreed'])} of {units.count(item['settled'])}",
            units.count(item["held"]) if item["held"] else units.NONE,
        )
        for item in found["authors"]
    ]
    held = [(units.count(n), reason) for reason, n in found["held"].items()]
    return layout.stack(
        layout.table(["author", "standing", ">trust", ">labels", ">agreed", ">held back"], rows),
        layout.table([">held back", "why"], held) if held else None,
        layout.following(
            ["tidemill label        answers for some of them, which decides on the others"] if held else []
        ),
    )


def _imported(done: dict[str, Any]) -> Any:
    numbers = {name: n for name, n in done.items() if name != "faults" and (n or name == "accepted")}
    faults = [(f["where"] or "", f["what"], f["mend"] or "") for f in done["faults"]]
    return layout.stack(layout.pairs(numbers), layout.table(["where", "what", "mend"], faults) if faults else None)


def default_author() -> str:
    """The login name, or ``anonymous`` where the system knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "anonymous"


def _value(project: Project, kind: str, given: list[str], *, nothing: bool) -> Any:
    if kind == "correction":
        return project.stated(given) if given or nothing else None
    if kind == "preference" and len(given) == 1:
        return {"over": given[0]}
    if kind in ("rating", "reward") and len(given) == 1:
        try:
            return float(given[0])
        except ValueError:
            what = f"a {kind} is a number, not {given[0]!r}"
            raise InputError(what, where="VALUE", mend="Give a number.") from None
    return " ".join(given) if given else None


COMMANDS = (
    Command(
        run=add,
        panel=PANEL,
        examples=(
            "feedback add pred_01k… 7",
            "feedback add pred_01k…",
            "feedback add pred_01k… drama comedy",
            "feedback add pred_01k… 203400 --author ada",
            "feedback add pred_01k… pred_01k… --kind preference",
            'feedback add --episode "game 7" --kind reward 1',
        ),
    ),
    Command(run=list_, panel=PANEL, examples=("feedback list", "feedback list --kind comment -n 100")),
    Command(run=authors, panel=PANEL, examples=("feedback authors", "feedback authors --json")),
    Command(
        run=import_,
        panel=PANEL,
        stopped="stopped; what was committed stays, and running it again goes on",
        examples=("feedback import statements.jsonl", "feedback import statements.parquet --author ada --skip"),
    ),
    Command(run=export, panel=PANEL, examples=("feedback export statements.jsonl", "feedback export statements.csv")),
)


def build() -> typer.Typer:
    """The group with its commands."""
    app = typer.Typer(
        name=NAME, no_args_is_help=True, help="Add, show, import or export what users say of predictions."
    )
    for command in COMMANDS:
        register(app, command)
    return app
