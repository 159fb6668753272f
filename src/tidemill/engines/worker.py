"""The other end of :mod:`tidemill.engines.local`: ``python -m tidemill.engines.worker TARGET ARGUMENTS NICE``."""

from __future__ import annotations

import json
import os
import signal
import sys

from tidemill.engines._base import resolve
from tidemill.errors import TidemillError


def main(target: str, arguments: str, nice: str) -> int:
    """Run the target and print its result, or its error, as one JSON document."""
    os.nice(int(nice))
    # What a script starts in the background ignores SIGINT, and so would its jobs, which are stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The result alone goes to standard output, whatever a library prints.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        document = {"result": resolve(target)(**json.loads(arguments))}
        status = 0
    except TidemillError as error:
        document = {"error": error.to_process()}
        status = error.exit_code
    except KeyboardInterrupt:
        return 130
    with out:
        json.dump(document, out)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
