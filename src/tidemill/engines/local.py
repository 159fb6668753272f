"""Processes of this machine: each with its own thread count and a lower priority than what serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidemill import errors

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",  # tokenizers
)


class LocalEngine:
    """Runs each job in a fresh interpreter.

    Args:
        threads: CPU threads of each job.
        nice: how far its priority is lowered, 0 to 19.
        log: file to which the job's standard error is appended; ``None`` inherits this process's.
    """

    def __init__(self, *, threads: int, nice: int = 10, log: Path | None = None) -> None:
        self.threads = threads
        self.nice = nice
        self.log = log

    def submit(self, target: str, arguments: dict[str, Any], *, keep: Sequence[int] = ()) -> LocalJob:
        """Start ``module:function`` with keyword *arguments* (JSON); it inherits the file descriptors in *keep*."""
        command = [sys.executable, "-m", "tidemill.engines.worker", target, json.dumps(arguments), str(self.nice)]
        stderr = self.log.open("ab") if self.log else None
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=self.environment(), pass_fds=tuple(keep)
            )
        finally:
            if stderr:
                stderr.close()
        return LocalJob(process)

    def environment(self) -> dict[str, str]:
        """The variables of a job's process."""
        # Threads that wait give up their core soon: what serves needs it (see "Busy neighbours" in docs/benchmarks.md).
        patient = {"GOMP_SPINCOUNT": "2000"}
        return patient | os.environ | dict.fromkeys(THREAD_VARIABLES, str(self.threads))


class LocalJob:
    """One process; its standard output carries one JSON document, the result or the error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._output: bytes | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or ``None`` while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self._output is None:
            self._output, _ = self._process.communicate(timeout=timeout)
        return self._process.returncode

    def stop(self) -> None:
        """Ask it to end cleanly, as Ctrl-C does; it then resumes where it stood."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def result(self) -> Any:
        """What the function returned.

        Raises:
            TidemillError: the same that the function raised.
            StoreError: the process died without a word.
        """
        if self._output is None:
            self.wait()
        try:
            document = json.loads(self._output or b"")
        except json.JSONDecodeError:
            raise errors.StoreError(
                f"the job's process ended with status {self._process.returncode} and no result",
                mend="See its log; a cycle that was killed resumes with `tidemill cycle`.",
            ) from None
        if "error" in document:
            raise errors.from_process(document["error"])
        return document["result"]
