"""A serving process in small, to be killed at any moment: ``crash_writer.py ROOT [URL]``.

For each line on standard input it forks a child that opens the store, writes predictions and feedback from two threads
each, folds the journal all the while, and notes every acknowledgement in the file that the line names, one ``write`` a
note. It prints the child's pid. Forking spares each round the imports.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from pathlib import Path

from tidemill.records import Feedback, Prediction, new_id
from tidemill.store import FeedbackWriter, JournalWriter, fold, new_prediction_id, open_store


def work(root: Path, url: str | None, log: str) -> None:
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = open_store(root, url)
    journal, writer = JournalWriter(root), FeedbackWriter(store)

    def predict() -> None:
        for number in itertools.count():
            made = [
                Prediction(
                    id=new_prediction_id(store.secret),
                    deployment="deploy_1",
                    model_id="model_1",
                    key=f"{number % 50:016x}",
                    inputs={"text": "x" * (number * 37 % 900)},
                    answer={"label": "a"},
                )
                for _ in range(1 + number % 3)
            ]
            journal.submit(*made).result()
            os.write(notes, "".join(f"prediction {p.id}\n" for p in made).encode())

    def respond() -> None:
        for number in itertools.count():
            key = new_id("key")
            item = Feedback(id=new_id("fb"), subject=f"pred_{number % 20}", kind="correction", value=number, key=key)
            outcome = writer.submit(item).result()
            assert outcome.status == "accepted"
            os.write(notes, f"feedback {key} {number}\n".encode())

    for target in (predict, predict, respond, respond):
        threading.Thread(target=target, daemon=True).start()
    while True:
        fold(store)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            work(Path(sys.argv[1]), sys.argv[2] or None, line.strip())
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
