"""A hundred hot swaps under full load: nobody is refused, nobody is answered by the old model late, and what it costs.

    python benchmarks/swap.py                 # about two minutes on 2 cores
    python benchmarks/swap.py --swaps 20      # a quick look
    python benchmarks/swap.py --json FILE     # the figures for other programs, too

The server has the first core; 32 connections on the second keep it busy without a pause, first quietly, then while two
models of MNIST take each other's place three times a second. A late answer is one by another model whose request was
sent more than a second after the newer deployment had been committed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from _common import machine
from serving import body, inputs_of, load, prepared, running

EVERY = 0.33
LATE = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        found = swapped(Path(place), arguments.swaps)
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def swapped(folder: Path, swaps: int) -> dict[str, Any]:
    """Quiet and busy times, failures, and late answers."""
    import tidemill
    from tidemill.records import Deployment, Model, new_id

    package = prepared(folder, "mnist")
    rows = inputs_of("mnist")
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps([body("tidemill", row) for row in rows]))
    store = tidemill.open(folder / "project").store
    champion = store.champion()
    assert champion is not None
    models = [model.id for model in store.find(Model) if model.recipe == "cnn"][-2:]  # before and after its refit
    committed: list[tuple[float, str]] = [(0.0, champion.id)]
    seconds = swaps * EVERY + 2

    def swap() -> None:
        time.sleep(1.5)  # the load's first second is not counted
        for number in range(swaps):
            deployment = Deployment(
                id=new_id("deploy"), name="default", model_id=models[number % 2], action="promote", reason="-"
            )
            store.deploy(deployment)
            committed.append((time.perf_counter(), deployment.id))
            time.sleep(EVERY)

    with running(folder, "tidemill", sys.executable, package, body("tidemill", rows[0])) as (port, pid):
        load(port, "/v1/predict", bodies, 32, 3, 0)
        quiet = load(port, "/v1/predict", bodies, 32, min(seconds, 15), 0, str(pid))
        swapping = threading.Thread(target=swap)
        swapping.start()
        busy = load(port, "/v1/predict", bodies, 32, seconds, 0, str(pid), str(folder / "answers"))
        swapping.join()
    store.close()
    late, lags, seen = 0, [], set()
    times, ids = [at for at, _ in committed], [name for _, name in committed]
    place = {name: number for number, name in enumerate(ids)}
    for line in (folder / "answers").read_text().splitlines():
        sent, taken, name = line.split(" ")
        if name:
            late += place[name] < bisect_right(times, float(sent) - LATE) - 1
            if name not in seen:
                seen.add(name)
                lags.append(float(sent) + float(taken) - times[place[name]])
    return {
        "swaps": swaps,
        "taken_up": len(seen) - 1,
        "failed": busy["failed"],
        "late": late,
        "answers": busy["rate"] * seconds,
        "median_seconds_to_first_answer": float(np.median(lags[1:])),
        "quiet": quiet,
        "busy": busy,
        "p99_times": busy["p99_ms"] / quiet["p99_ms"],
    }


if __name__ == "__main__":
    main()
