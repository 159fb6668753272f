"""Several processes of this machine that do one job together, under the launcher that ``torchrun`` stands on.

The launcher is a process of its own (:mod:`tidemill.engines.launcher`): it starts the others, each with its own threads
and the variables that ``torch.distributed`` reads, ends all when one dies, and says which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tidemill.engines.local import THREAD_VARIABLES, LocalJob
from tidemill.errors import StoreError, TrainingError

_LOOPBACK = Path("/sys/class/net/lo")


class ParallelEngine:
    """Runs each job in several fresh interpreters at once; they find one another on this machine alone.

    Args:
        processes: how many at most.
        threads: CPU threads of all of them together; each gets its share, one at least.
        nice: how far their priority is lowered, 0 to 19.
        log: file that holds what a job's processes write to standard error; ``None`` inherits this process's.
    """

    def __init__(self, *, processes: int, threads: int, nice: int = 0, log: Path | None = None) -> None:
        self.processes = processes
        self.threads = threads
        self.nice = nice
        self.log = log

    def submit(self, target: str, arguments: dict[str, Any], *, processes: int | None = None) -> ParallelJob:
        """Start ``module:function`` with keyword *arguments* (JSON) in each process.

        Args:
            target: called in every process; ``RANK`` and ``WORLD_SIZE`` in its environment say in which.
            arguments: the same for all.
            processes: how many; all unless given.
        """
        count = processes or self.processes
        share = str(max(1, self.threads // count))
        environment = {"GOMP_SPINCOUNT": "2000"} | os.environ | dict.fromkeys(THREAD_VARIABLES, share)
        environment |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # files bring them together, no open port
        if _LOOPBACK.exists():
            environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        command = [sys.executable, "-m", "tidemill.engines.launcher", str(count), target, json.dumps(arguments)]
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        stderr = self.log.open("wb") if self.log else None
        try:
            process = subprocess.Popen(
                [*command, str(self.nice), str(os.getpid())],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches whoever waits, who passes it on once
            )
        finally:
            if stderr:
                stderr.close()
        return ParallelJob(process)


class ParallelJob(LocalJob):
    """The launcher's process; its standard output carries the result of the first of those that it started."""

    def result(self) -> Any:
        """What the function returned in the first process.

        Raises:
            TidemillError: the same that the function raised in any of them.
            TrainingError: one of them died, or the launcher did.
        """
        try:
            return super().result()
        except StoreError as error:
            if not error.what.startswith("the job's process ended"):
                raise
            raise TrainingError(
                error.what, mend="Run it again; if it has a checkpoint, it goes on from there."
            ) from error
