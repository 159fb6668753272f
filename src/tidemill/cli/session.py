"""What a running command has: where the project lies, and where its answer goes.

The answer goes to stdout, as a table for people or, with ``--json``, as exactly one JSON document; progress, notes
and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tidemill.api import Project

PIPE_WIDTH = 160  # columns when nobody looks: wide enough that no table is cut


class Session:
    """One command's run.

    Args:
        json: print one JSON document instead of text.
        folder: the project's folder as given with ``-C``; ``None`` looks upwards from here.
    """

    def __init__(self, *, json: bool = False, folder: Path | None = None) -> None:
        self.json = json
        self.folder = folder
        self.exit_code = 0
        self.stdout: IO[str] = sys.stdout

    @cached_property
    def project(self) -> Project:
        """The opened project.

        Raises:
            NotFoundError: there is none here or in the folder given.
            ConfigError: its ``tidemill.yaml`` is faulty.
        """
        folder = self.project_folder()
        from tidemill.api import Project  # a second of imports, after what can be refused at once

        return Project(folder)

    def project_folder(self) -> Path:
        """The folder given with ``-C`` or ``TIDEMILL_PROJECT``, else the nearest one upwards with ``tidemill.yaml``."""
        from tidemill.config import CONFIG_NAME, find_project, read_environment
        from tidemill.errors import NotFoundError

        folder = self.folder
        if folder is None and (named := read_environment().project) is not None:
            folder = Path(named)
        if folder is None:
            return find_project()
        if not (folder / CONFIG_NAME).is_file():
            raise NotFoundError(
                "there is no project: the folder holds no tidemill.yaml",
                where=str(folder),
                mend=f"Make one with `tidemill init {folder} --data FILE --target COLUMN`.",
            )
        return folder

    @cached_property
    def out(self) -> Console:
        """Where the answer for people goes."""
        return console(self.stdout)

    @cached_property
    def err(self) -> Console:
        """Where progress and notes go."""
        return console(sys.stderr)

    def close(self) -> None:
        """Let go of the project's database, when one was opened."""
        if "project" in vars(self):
            self.project.store.close()

    def answer(self, data: Any, view: Callable[[Any], RenderableType | None]) -> None:
        """Print the answer: *data* as JSON, or what *view* makes of it."""
        if self.json:
            write_json(self.stdout, data)
        elif (text := view(data)) is not None:
            self.out.print(text)

    def note(self, text: str) -> None:
        """One line for people that is not part of the answer."""
        from tidemill.cli.show.layout import visible

        self.err.print(visible(text), style="dim", markup=False, highlight=False)

    @contextlib.contextmanager
    def quiet_stdout(self) -> Iterator[None]:
        """Under ``--json``: whatever libraries and child processes print to stdout goes to stderr instead."""
        if not self.json:
            yield
            return
        with contextlib.ExitStack() as stack:
            sys.stdout.flush()
            with contextlib.suppress(OSError):  # a process may have been started without them
                kept = os.dup(1)
                stack.callback(os.close, kept)
                os.dup2(2, 1)
                stack.callback(os.dup2, kept, 1)
                if _number(sys.stdout) == 1:
                    self.stdout = stack.enter_context(open(kept, "w", encoding="utf-8", closefd=False))
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            yield


def _number(file: IO[str]) -> int | None:
    """The file's descriptor; ``None`` for one in memory."""
    try:
        return file.fileno()
    except (io.UnsupportedOperation, AttributeError):
        return None


def console(file: IO[str]) -> Console:
    """A console that never cuts tables when it writes into a pipe."""
    from rich.console import Console

    width = None if file.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def write_json(file: IO[str], data: Any) -> None:
    """One JSON document and a newline; NaN and infinity, which JSON has not, become ``null``."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    file.write(orjson.dumps(data, option=options, default=str).decode() + "\n")
    file.flush()
