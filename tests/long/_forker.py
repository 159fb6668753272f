"""Processes that serve a project or run its cycle, to be killed at any moment: ``python _forker.py FOLDER``.

For each line ``serve WORDS`` or ``cycle WORDS`` on standard input it forks a child with a process group of its own and
prints the child's pid. The child appends its words to the file WORDS: the port that it answers on, or the stages that
its cycle comes to and ``end``. Forking spares each of them seconds of imports. For a line ``PID`` it waits for that
child, and prints what it ended with.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tidemill
import tidemill.learners.closed_form
import tidemill.learners.gradient
import tidemill.runtime.onnx
import tidemill.serving.server


def say(words: str, word: object) -> None:
    with Path(words).open("a") as file:
        file.write(f"{word}\n")


def serve(folder: str, words: str) -> None:
    tidemill.open(folder).serve(port=0, on_ready=lambda port: say(words, port))


def cycle(folder: str, words: str) -> None:
    last: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["stage"] not in last[-1:]:
            last.append(event["stage"])
            say(words, event["stage"])

    tidemill.open(folder).cycle(max_trials=2, max_epochs=1, seed=1, on_event=on_event)
    say(words, "end")


def main(folder: str) -> None:
    for line in sys.stdin:
        what, *words = line.split()
        if not words:
            _, status = os.waitpid(int(what), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.setpgid(0, 0)
        os.nice(5 if what == "cycle" else 0)
        {"serve": serve, "cycle": cycle}[what](folder, words[0])
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
