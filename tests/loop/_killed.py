"""Run one cycle and die by SIGKILL in the middle of a stage: ``python _killed.py FOLDER STAGE DELAY``.

``STAGE@N`` waits until N parts of it are done.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import tidemill


def main(folder: str, stage: str, delay: str) -> None:
    armed = threading.Event()
    stage, _, done = stage.partition("@")

    def on_event(event: dict[str, Any]) -> None:
        if event["stage"] == stage and (event.get("done") or 0) >= int(done or 0) and not armed.is_set():
            armed.set()
            if float(delay) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(float(delay), os.kill, (os.getpid(), signal.SIGKILL)).start()

    tidemill.open(folder).cycle(max_trials=3, max_epochs=20, seed=1, on_event=on_event)


if __name__ == "__main__":
    main(*sys.argv[1:])
