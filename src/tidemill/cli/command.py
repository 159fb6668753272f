"""How a function becomes a command: the options that all commands share, and how each of them ends."""

from __future__ import annotations

import contextlib
import errno
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli.failures import EXIT_CRASH, EXIT_STOPPED, say_crash, say_error, say_stopped
from tidemill.cli.session import Session

if TYPE_CHECKING:
    from tidemill.errors import TidemillError

AS_JSON = typer.Option("--json", metavar="", help="Print one JSON document on stdout and nothing else there.")
WHERE = typer.Option(
    "--project", "-C", help="The project's folder; unless given, the nearest one upwards with tidemill.yaml.",
    metavar="DIR",
)  # fmt: skip
JsonOption = Annotated[bool, AS_JSON]
ProjectOption = Annotated[Path | None, WHERE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: its function takes a :class:`Session`, then typer parameters; its docstring is its help.

    Attributes:
        run: the function; the command's name is its name.
        panel: the heading under which ``tidemill --help`` lists it.
        examples: lines to try, without the leading ``tidemill``.
        in_project: it works on a project, so it takes ``-C``.
        stopped: what Ctrl-C says.
        stopped_code: the exit code after Ctrl-C; a server that is stopped has not failed.
    """

    run: Callable[..., None]
    panel: str
    examples: tuple[str, ...] = ()
    in_project: bool = True
    stopped: str = "stopped"
    stopped_code: int = EXIT_STOPPED

    @property
    def help(self) -> str:
        """The docstring, each paragraph on one line: terminals wrap by themselves."""
        paragraphs = (inspect.getdoc(self.run) or "").split("\n\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.run.__name__.rstrip("_").replace("_", "-")


def register(app: typer.Typer, command: Command) -> None:
    """Add *command* to *app*, with ``--json`` and ``-C``."""
    parameters = list(inspect.signature(command.run, eval_str=True).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [inspect.Parameter("json", kind, default=False, annotation=JsonOption)]
    if command.in_project:
        shared.append(inspect.Parameter("project", kind, default=None, annotation=ProjectOption))

    def call(*, ctx: typer.Context, **values: Any) -> None:
        root = ctx.find_root().params
        session = Session(
            json=bool(values.pop("json") or root.get("json")),
            folder=values.pop("project", None) or root.get("project"),
        )
        code = execute(session, command, values)
        if code:
            raise typer.Exit(code)

    context = inspect.Parameter("ctx", kind, annotation=typer.Context)
    everything = [context, *(p.replace(kind=kind) for p in parameters), *shared]
    call.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    call.__annotations__ = {}
    epilog = "\b\nExamples:\n" + "\n".join(f"  tidemill {line}" for line in command.examples)
    app.command(
        command.name,
        help=command.help,
        epilog=epilog if command.examples else None,
        rich_help_panel=command.panel,
    )(call)


def execute(session: Session, command: Command, values: dict[str, Any]) -> int:
    """Run the command; errors are said in words. Returns the exit code."""
    from tidemill.errors import StoreError, TidemillError

    with contextlib.closing(session), session.quiet_stdout():
        try:
            command.run(session, **values)
        except TidemillError as error:
            say_error(session, error)
            return error.exit_code
        except KeyboardInterrupt:
            say_stopped(session, command.stopped, failed=command.stopped_code != 0)
            return command.stopped_code
        except (BrokenPipeError, typer.Exit):
            raise
        except OSError as error:
            say_error(session, _explained(error))
            return StoreError.exit_code
        except Exception as error:
            say_crash(session, error)
            return EXIT_CRASH
    return session.exit_code


def _explained(error: OSError) -> TidemillError:
    """What the system refused: a full disk, a folder that may not be written, a file that is none."""
    from tidemill.errors import StoreError

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "Free some space (`tidemill gc` removes what nothing needs) and try again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        mend = "Check that you may read and write there."
    else:
        mend = "Check the path."
    what = f"the system refused: {error.strerror or error}"
    return StoreError(what, where=None if error.filename is None else str(error.filename), mend=mend)
