"""A process to be killed at any moment: ``rollout_ender.py ROOT`` begins and promotes roll-outs without pause.

For each line on standard input it forks a child that does, whose pid it prints. Forking spares each round the imports.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from tidemill.records import Rollout, new_id
from tidemill.stages.deploy import begin_rollout, end_rollout
from tidemill.store import Store, open_store, running_rollout


def begun(store: Store, challenger: str) -> Rollout:
    """A roll-out of *challenger* against what serves."""
    champion = store.champion()
    assert champion is not None
    made = Rollout(
        id=new_id(Rollout.prefix),
        name="default",
        champion_id=champion.model_id,
        challenger_id=challenger,
        phase="canary",
        share=0.1,
        status="running",
        reason="begun",
    )
    return begin_rollout(store, made)


def work(root: Path) -> None:
    store = open_store(root)
    for number in itertools.count():
        # What an earlier process left is ended first.
        rollout = running_rollout(store) or begun(store, f"model_{os.getpid()}_{number}")
        end_rollout(store, rollout.id, "promoted", "a test")
        print("ended", flush=True)


def main() -> None:
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            print(os.getpid(), flush=True)
            work(Path(sys.argv[1]))
        os.waitpid(pid, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
