"""``tidemill token``: new, list, revoke."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units

NAME = "token"
PANEL = "Use"


class ScopeName(StrEnum):
    """What a token may open."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    LABEL = "label"
    ADMIN = "admin"


def new(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: a program's name, or a person's.")],
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it opens: predict, feedback, label or admin; may be given several times. Unless given: predict "
            "and feedback.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="How long it is good, such as 12h or 90d.")
    ] = None,
) -> None:
    """Make a token, and show it this once.

    From the first token on, every request to the service needs one, and the service may listen beyond this machine. The
    scopes: predict, feedback, label, and admin, which opens everything. A running service knows the token at once.
    """
    scopes = [one.value for one in scope or (ScopeName.PREDICT, ScopeName.FEEDBACK)]
    made = session.project.new_token(name, scopes, lifetime=expires)
    session.answer(made, _made)
    session.note("keep it like a password: it is not shown again; `tidemill token revoke` takes it back")


def list_(session: Session) -> None:
    """List the tokens, the newest first.

    A token that was revoked, or has expired, stays in the list: its id stands in logs.
    """
    session.answer(session.project.tokens(), _listed)


def revoke(
    session: Session,
    which: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, or its id (tok_…).")],
) -> None:
    """Take a token back.

    Every process of a running service refuses it within a second. When the last one is gone nobody gets in, also not
    from this machine, until there is a new one.
    """
    session.answer(session.project.revoke_token(which), _revoked)


def _made(data: dict[str, Any]) -> Any:
    rows = [("token", data["token"]), ("opens", ", ".join(data["scopes"])), ("id", data["id"])]
    if data["expires"] is not None:
        rows.append(("expires", _until(data["expires"])))
    return layout.pairs([*rows, ("send it as", "Authorization: Bearer TOKEN")])


def _listed(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return layout.line("no tokens yet, so only this machine is served; `tidemill token new NAME` makes one")
    return layout.table(
        ["", "name", "opens", "state", "made", "expires", "id"],
        [
            (
                layout.mark(token["state"] == "valid"),
                token["name"],
                ", ".join(token["scopes"]),
                token["state"],
                units.ago(token["created"]),
                _until(token["expires"]),
                token["id"],
            )
            for token in rows
        ],
    )


def _revoked(data: dict[str, Any]) -> Any:
    return layout.pairs([("revoked", data["name"]), ("id", data["id"])])


def _until(moment: float | None) -> str:
    return "never" if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


COMMANDS = (
    Command(
        run=new,
        panel=PANEL,
        examples=("token new shop", "token new grafana --scope predict --expires 90d", "token new me --scope admin"),
    ),
    Command(run=list_, panel=PANEL, examples=("token list",)),
    Command(run=revoke, panel=PANEL, examples=("token revoke shop", "token revoke tok_01k…")),
)


def build() -> typer.Typer:
    """The group with its three commands."""
    app = typer.Typer(name=NAME, no_args_is_help=True, help="Make, list or revoke the tokens that open the service.")
    for command in COMMANDS:
        register(app, command)
    return app
