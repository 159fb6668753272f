"""The program: all commands in one application, and the exit code of a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tidemill.cli.command import Command, JsonOption, ProjectOption, register
from tidemill.cli.commands import (
    backup,
    cycle,
    data,
    demo,
    doctor,
    export,
    feedback,
    forget,
    gate,
    gc,
    init,
    label,
    label_studio,
    learn_class,
    mlflow,
    models,
    pareto,
    plan,
    predict,
    pretrain,
    promote,
    report,
    restore,
    rollback,
    rollout,
    runs,
    serve,
    status,
    token,
    trace,
    up,
)
from tidemill.cli.failures import EXIT_USAGE, say_usage
from tidemill.cli.session import Session

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND, init.COMMAND, doctor.COMMAND,
    plan.COMMAND, cycle.COMMAND, label.COMMAND, learn_class.COMMAND, pretrain.COMMAND, gate.COMMAND,
    predict.COMMAND, serve.COMMAND, up.COMMAND, promote.COMMAND, rollback.COMMAND, export.COMMAND,
    status.COMMAND, runs.COMMAND, models.COMMAND, pareto.COMMAND, report.COMMAND, data.COMMAND,
    trace.COMMAND, gc.COMMAND,
    backup.COMMAND, restore.COMMAND, forget.COMMAND,
)  # fmt: skip
"""Every command but the groups, in the order of ``tidemill --help``."""
GROUPS = (rollout, token, feedback, label_studio, mlflow)
"""Modules of several commands under one name."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer carries its own copy of click since 0.26


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tidemill {version('tidemill')}")
        raise typer.Exit


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="tidemill",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A closed-loop machine-learning system: from data to a served model, and from its use to a better one.",
    )

    @app.callback()
    def root(
        project: ProjectOption = None,
        json: JsonOption = False,
        version: Annotated[
            bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
        ] = False,
    ) -> None:
        del project, json, version  # commands read them from the root of their context

    for command in COMMANDS:
        register(app, command)
    for group in GROUPS:
        app.add_typer(group.build(), name=group.NAME, rich_help_panel=group.PANEL)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code.

    0: done; 1: the gate refused, or a crash; 2: an error that its message says how to mend; 130: stopped by Ctrl-C.
    """
    try:
        code = build()(list(arguments), prog_name="tidemill", standalone_mode=False)
    except _UsageError as error:
        code = _usage(error, json="--json" in arguments)
    except BrokenPipeError:  # `tidemill runs | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code if isinstance(code, int) else 0


def _usage(error: Exception, *, json: bool) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed
        return 0
    path = context.command_path if context is not None else "tidemill"
    what = error.format_message() if hasattr(error, "format_message") else str(error)
    say_usage(Session(json=json), what, where=path, mend=f"See `{path} --help`.")
    return EXIT_USAGE
