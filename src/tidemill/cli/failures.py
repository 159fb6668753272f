"""How a command that did not work says so: one panel for an error, one line for a crash, one for Ctrl-C."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.cli.session import Session
    from tidemill.errors import TidemillError

EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_STOPPED = 130
PANEL = 100  # columns: longer lines are hard to read


def say_error(session: Session, error: TidemillError) -> None:
    """What, where and how to mend it: a panel on stderr, or the JSON document."""
    if session.json:
        _json(session, error.to_json())
        return
    from rich.panel import Panel
    from rich.text import Text

    text = Text(error.what)
    if error.where is not None:
        text.append("\n\nwhere  ", style="dim").append(error.where)
    if error.mend is not None:
        text.append("\n\n" if error.where is None else "\n").append("mend   ", style="dim").append(error.mend, "bold")
    title = error.code.replace("_", " ")
    session.err.print(
        Panel(
            text,
            title=f"[bold]{title} error[/]",
            title_align="left",
            border_style="red",
            width=min(session.err.width, PANEL),
        )
    )


def say_usage(session: Session, what: str, *, where: str | None, mend: str | None) -> None:
    """A command line that cannot be understood."""
    if session.json:
        _json(session, {"error": {"code": "usage", "what": what, "where": where, "mend": mend}})
        return
    session.err.print(what, style="red", markup=False)
    if mend is not None:
        session.err.print(mend, style="dim", markup=False)


def say_stopped(session: Session, text: str, *, failed: bool) -> None:
    """Ctrl-C: one line. A server that is stopped has given its one document when it was ready."""
    if session.json and failed:
        _json(session, {"error": {"code": "stopped", "what": text, "where": None, "mend": None}})
        return
    session.err.print(text, style="yellow", markup=False)


def say_crash(session: Session, error: Exception) -> None:
    """A fault of Tidemill itself: one line, and the path of a file that holds the rest."""
    path = write_crash(error, session.folder)
    what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    mend = f"This is a fault in Tidemill. Please report it with {path}."
    if session.json:
        _json(session, {"error": {"code": "crash", "what": what, "where": str(path), "mend": mend}})
        return
    session.err.print(f"{what}  {mend}", style="red", markup=False, soft_wrap=True)


def write_crash(error: Exception, folder: Path | None = None) -> Path:
    """The traceback in a file: in the project's ``.tidemill`` when the command ran in one, else a temporary one."""
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    text = "".join(
        [
            f"command: {sys.argv[1:]}\n",
            f"python: {platform.python_version()} on {platform.platform()}\n\n",
            *traceback.format_exception(error),
        ]
    )
    above = (parent / ".tidemill" for parent in ((folder or Path.cwd()).absolute(), *Path.cwd().parents))
    for place in (next((state for state in above if state.is_dir()), None), Path(tempfile.gettempdir())):
        if place is None:
            continue
        path = place / name
        try:
            if place.is_dir():
                path.write_text(text, encoding="utf-8")
                return path
        except OSError:  # full or read-only: the next one
            continue
    sys.stderr.write(text)
    return Path("the text above")


def _json(session: Session, data: dict[str, Any]) -> None:
    from tidemill.cli.session import write_json

    write_json(session.stdout, data)
