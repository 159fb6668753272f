"""``tidemill mlflow``: sync, status, import."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units

NAME = "mlflow"
PANEL = "Use"


def sync(session: Session) -> None:
    """Deliver to MLflow what is waiting.

    Runs with their parameters, curves and packages, a registered version for each model that stood before the gate, and
    the alias `champion`. What was delivered is not delivered again. While `tidemill serve` or `tidemill up` runs, they
    do it.
    """
    session.answer(session.project.mlflow_sync(), _synced)


def status(session: Session) -> None:
    """Say what is waiting for MLflow, and what failed.

    Asks nobody: it is what the store knows.
    """
    session.answer(session.project.mlflow_status(), _status)


def import_(
    session: Session,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME/VERSION; of a name alone the newest.")
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B,…", help="Of a graph: the labels in the order of its columns."),
    ] = None,
) -> None:
    """Bring a registered model here as a challenger.

    An ONNX graph that reads one image or plain numbers, or a package of Tidemill. It stands before the gate as every
    challenger does; the exit code is 1 when that refuses it. Files that may run code when opened are refused.
    """
    given = None if labels is None else [label.strip() for label in labels.split(",")]
    done = session.project.mlflow_import(model, labels=given)
    session.answer(done, _imported)
    if done["decision"]["outcome"] != "promoted":
        session.exit_code = 1


def _synced(data: dict[str, Any]) -> Any:
    rows = [("delivered", str(data["delivered"])), ("to", data["where"]), ("model", data["model"])]
    rows += [(name.replace("_", " "), str(data[name])) for name in ("refused", "left_out", "waiting") if data[name]]
    return layout.pairs(rows)


def _status(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("mlflow", data["where"]),
                ("waiting", str(data["waiting"])),
                ("delivered", str(data["delivered"])),
                ("left out", str(data["left_out"])),
            ]
        ),
        layout.table(
            ["subject", ">tried", "why not"],
            [(f["subject"], units.count(f["attempts"], "time"), f["fault"]) for f in data["faults"]],
        )
        if data["faults"]
        else None,
    )


def _imported(data: dict[str, Any]) -> Any:
    decision = data["decision"]
    return layout.pairs([("model", data["model"]), ("from", data["from"]), (decision["outcome"], decision["reason"])])


COMMANDS = (
    Command(run=sync, panel=PANEL, examples=("mlflow sync",)),
    Command(run=status, panel=PANEL, examples=("mlflow status",)),
    Command(
        run=import_,
        panel=PANEL,
        examples=("mlflow import digits-net", "mlflow import digits-net@candidate --labels 0,1,2,3,4,5,6,7,8,9"),
    ),
)


def build() -> typer.Typer:
    """The group with its three commands."""
    app = typer.Typer(
        name=NAME, no_args_is_help=True, help="Mirror the project to MLflow, or bring a model from there."
    )
    for command in COMMANDS:
        register(app, command)
    return app
