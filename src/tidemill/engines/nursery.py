"""Processes that start within milliseconds: forked from one that has imported what they need.

The nursery is a fresh interpreter that imports, and computes nothing: no thread of it holds a lock when it forks, and
no device is in use. It begins to import when it is made, beside whatever its maker does meanwhile. It ends when its
maker does, since then the other end of its line is closed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tidemill.engines._base import resolve
from tidemill.engines.local import LocalEngine

_LONGEST = 1 << 16
_MAKER = (
    "import sys; from tidemill.engines.nursery import serve; serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])"
)


def can_fork() -> bool:
    """Whether a process that has imported much may fork: on macOS its system libraries may not."""
    return hasattr(os, "fork") and sys.platform != "darwin"


class Nursery:
    """An engine whose jobs talk over a socket that they inherit, and give no result.

    Args:
        threads: CPU threads of each job.
        modules: what is imported beforehand.
        log: file to which standard error is appended.
        nice: how far the jobs' priority is lowered, 0 to 19.
    """

    def __init__(self, *, threads: int, modules: Sequence[str], log: Path, nice: int = 0) -> None:
        self.threads = threads
        self.log = log
        self._modules = tuple(modules)
        self._nice = nice
        self._line, self._process = self._begun()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _begun(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", _MAKER, str(there.fileno()), str(self._nice), *self._modules]
        environment = LocalEngine(threads=self.threads).environment()
        with there, self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=log, env=environment, pass_fds=(there.fileno(),)
            )
        return here, process

    def submit(self, target: str, arguments: dict[str, Any], *, keep: Sequence[int]) -> Forked:
        """Start ``module:function`` with keyword *arguments* and, as ``fd``, the one file descriptor in *keep*."""
        asked = json.dumps(["start", target, arguments]).encode()
        try:
            return Forked(self, int(self._answer(asked, keep)))
        except (OSError, EOFError):  # somebody killed it: another one takes its place
            self.close()
            self._line, self._process = self._begun()
            return Forked(self, int(self._answer(asked, keep)))

    def _answer(self, asked: bytes, keep: Sequence[int] = ()) -> Any:
        socket.send_fds(self._line, [asked], list(keep))
        said = self._line.recv(_LONGEST)
        if not said:
            raise EOFError
        return json.loads(said)

    def ended(self, pid: int, *, kill: bool) -> int:
        """Wait for the end of a job, which is killed first if *kill*; its status."""
        try:
            return int(self._answer(json.dumps(["end", pid, kill]).encode()))
        except (OSError, EOFError):  # with the nursery gone nobody knows the status
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return -signal.SIGKILL

    def close(self) -> None:
        """End it; jobs that still run go on until their own line is closed."""
        self._line.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A job of a nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        """End it at once."""
        if self._status is None:
            self._status = self._nursery.ended(self.pid, kill=True)

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        if self._status is None:
            self._status = self._nursery.ended(self.pid, kill=False)
        return self._status


def serve(fd: int, nice: int, modules: Sequence[str]) -> None:
    """Import *modules*, then fork and bury processes as the socket *fd* says, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the maker decides
    line = socket.socket(fileno=fd)
    os.nice(nice)
    for module in modules:
        with contextlib.suppress(ImportError):  # whoever needs it says so
            importlib.import_module(module)
    alive: set[int] = set()
    while True:
        asked, fds, _, _ = socket.recv_fds(line, _LONGEST, 1)
        if not asked:
            for pid in alive:  # their own lines were the maker's, too
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        what, *content = json.loads(asked)
        if what == "start":
            target, arguments = content
            pid = os.fork()
            if not pid:
                line.close()
                _child(target, arguments, fds[0])
            os.close(fds[0])
            alive.add(pid)
            line.send(json.dumps(pid).encode())
            continue
        pid, kill = content
        if kill:
            os.kill(pid, signal.SIGKILL)
        alive.discard(pid)
        line.send(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _child(target: str, arguments: dict[str, Any], fd: int) -> NoReturn:
    """What the forked process does; it never goes back into the nursery's loop."""
    status = 1
    try:
        resolve(target)(**arguments | {"fd": fd})
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)
