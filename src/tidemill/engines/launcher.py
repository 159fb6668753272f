"""Starts the processes of :mod:`tidemill.engines.parallel` and watches them:
``python -m tidemill.engines.launcher COUNT TARGET ARGUMENTS NICE PARENT``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tidemill.engines.member import end_with_parent

INTERRUPTED = 130
GRACE = 60
"""Seconds in which processes that were asked to end may write what they have; then they are killed."""


def main(count: str, target: str, arguments: str, nice: str, parent: str) -> int:
    """Run the target in *count* processes; print the first one's result, or what went wrong, as one JSON document."""
    end_with_parent(int(parent), signal.SIGTERM)
    # The result alone goes to standard output, whatever a process prints: they inherit what stands there.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE)  # older torch gives them 30 s
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        folder = Path(name)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=int(count),
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=str(folder / "rendezvous"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",  # a name that nobody resolves would hold it up
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
        )
        try:
            elastic_launch(config, sys.executable)(
                "-m", "tidemill.engines.member", str(folder), target, arguments, nice, str(os.getpid())
            )
        except ChildFailedError as error:
            document, status = _failed(folder, int(count), error.failures)
        except (SignalException, KeyboardInterrupt):
            return INTERRUPTED
        else:
            document, status = json.loads((folder / "0.json").read_text(encoding="utf-8")), 0
    if status != INTERRUPTED:
        with out:
            json.dump(document, out)
    return status


def _failed(folder: Path, count: int, failures: dict[int, ProcessFailure]) -> tuple[dict[str, Any], int]:
    """The error that a process wrote, or which of them died of what; who died of another's death does not count."""
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if "error" in document:
            return document, 1
    if any(failure.exitcode == INTERRUPTED for failure in failures.values()):
        return {}, INTERRUPTED
    rank, failure = min(failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp))
    died = f"ended with status {failure.exitcode}"
    if failure.exitcode < 0:
        died = f"was killed by signal {-failure.exitcode} ({signal.Signals(-failure.exitcode).name})"
    error = {
        "type": "TrainingError",
        "what": f"process {rank + 1} of {count} {died}; the others were ended",
        "where": None,
        "mend": "The machine may be short of memory: use fewer processes or a smaller batch. A cycle that runs again "
        "goes on from the last checkpoint.",
    }
    return {"error": error}, 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
