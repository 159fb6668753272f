"""One of several processes: ``python -m tidemill.engines.member FOLDER TARGET ARGUMENTS NICE PARENT``, as
:mod:`tidemill.engines.launcher` starts it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from tidemill.engines._base import resolve
from tidemill.errors import TidemillError

_LOOK = 0.5  # seconds between two looks at whether the parent still lives


def main(folder: str, target: str, arguments: str, nice: str, parent: str) -> int:
    """Run the target and leave its result, or its error, as ``FOLDER/RANK.json``."""
    end_with_parent(int(parent), signal.SIGKILL)
    os.nice(int(nice))
    try:
        document = {"result": resolve(target)(**json.loads(arguments))}
        status = 0
    except TidemillError as error:
        document = {"error": error.to_process()}
        status = 1
    except KeyboardInterrupt:
        return 130
    path = Path(folder) / f"{os.environ['RANK']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(path)
    return status


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Send this process a signal as soon as *parent*, which started it, has gone: nobody is left to read its result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
