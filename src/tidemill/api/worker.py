"""One of several serving processes: ``python -m tidemill.api.worker ARGUMENTS``, started by ``serving/workers.py``."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tidemill.api.pages import pages_of
from tidemill.api.project import Project
from tidemill.config import Serve
from tidemill.errors import TidemillError
from tidemill.records import Deployment, to_json
from tidemill.serving.server import answer


def main(arguments: dict[str, Any]) -> int:
    """Answer on the inherited socket until standard input closes; tell the parent on standard output."""
    # What is told to the parent alone goes to standard output, whatever a library prints.
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    speaking = threading.Lock()

    def tell(word: dict[str, Any]) -> None:
        with speaking:
            print(json.dumps(word), file=out)

    def swapped(deployment: Deployment) -> None:
        tell({"swap": to_json(deployment)})

    stop = threading.Event()

    def await_end() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=await_end, daemon=True).start()
    try:
        with socket.socket(fileno=arguments["descriptor"]) as listener:
            settings = Serve.model_validate(arguments["settings"])
            project = Project(Path(arguments["folder"]))
            answer(
                project,
                listener,
                settings,
                arguments["host"],
                on_ready=lambda: tell({"ready": True}),
                stop=stop,
                on_swap=swapped,
                pages=pages_of(project, settings),
            )
    except TidemillError as error:
        tell({"error": error.to_process()})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
