"""Choices a second beside classifications of the same table, and how soon a reward changes the policy that serves.

    python benchmarks/choosing.py                 # about 10 minutes on 2 cores
    python benchmarks/choosing.py --rounds 1 --seconds 2 --rewards 50     # a quick look
    python benchmarks/choosing.py --json FILE     # the figures for other programs, too

Two projects of one made-up table: ten numbers and two categories, five classes or five actions. Both serve a linear
model, then both a network of the same size. The server has the first core, the load (serving_load.py) the second; one
row a request, JSON, kept-alive connections, the log on for both. A choice is logged with the probability and the
expectation of every action, and Thompson sampling draws it.

Then, with a load of 200 choices a second beside, rewards one after the other: from when a reward is sent until the
first answer that expects something else of its action.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from _common import HERE, machine, table
from serving import free_port, load, on_first_core, wait

ROWS = 4000
ACTIONS = ("none", "letter", "coupon", "call", "visit")
PLACES = ("north", "south", "east", "west")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RECIPES = {"linear": {"classes": "ridge", "choices": "linear"}, "network": {"classes": "mlp", "choices": "network"}}
BESIDE = 200
"""Choices a second while rewards are sent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rewards", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for model in arguments.models:
            for task in ("classes", "choices"):
                prepared(folder / f"{model}-{task}", task, RECIPES[model][task])
            runs: dict[str, list[dict[str, Any]]] = {"classes": [], "choices": []}
            for number in range(arguments.rounds):
                for task, made in runs.items():
                    made.append(measure(folder / f"{model}-{task}", arguments.seconds))
                    told = {"model": model, "round": number, "task": task, **made[-1]}
                    print(json.dumps(told), file=sys.stderr, flush=True)
            found[model] = runs
        print("\n" + shown(found), flush=True)
        if arguments.rewards:
            model = arguments.models[0]
            taken = rewarded(folder / f"{model}-choices", arguments.rewards)
            found["rewards"] = taken
            median, late = np.quantile(taken, [0.5, 0.99])
            print(f"\nfrom a reward to the changed policy, {len(taken)} times: median {median:.2f} s, p99 {late:.2f} s")
            print(f"the longest took {max(taken):.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def contexts(rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the table without what is to be told."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 10)).round(4)
    where, when = rng.integers(0, len(PLACES), rows), rng.integers(0, len(DAYS), rows)
    return [
        {**{f"x{i}": float(v) for i, v in enumerate(numbers[row])}, "place": PLACES[where[row]], "day": DAYS[when[row]]}
        for row in range(rows)
    ]


def prepared(folder: Path, task: str, recipe: str) -> None:
    """A project with a champion of that recipe in *folder*."""
    import tidemill

    rng = np.random.default_rng(1)
    rows = contexts(ROWS, 0)
    x = np.array([[row[f"x{i}"] for i in range(10)] for row in rows])
    liked = x @ rng.normal(size=(10, len(ACTIONS))) + rng.gumbel(size=(ROWS, len(ACTIONS)))
    best = liked.argmax(axis=1)
    folder.mkdir()
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        more = ["answer"] if task == "classes" else ["action", "propensity", "reward"]
        writer = csv.writer(file)
        writer.writerow([*rows[0], *more])
        for row, right in zip(rows, best.tolist(), strict=True):
            chosen = int(rng.integers(0, len(ACTIONS)))
            said = [ACTIONS[right]] if task == "classes" else [ACTIONS[chosen], 1 / len(ACTIONS), int(chosen == right)]
            writer.writerow([*row.values(), *said])
    project = tidemill.init(
        folder / "project",
        data=path,
        target="answer" if task == "classes" else "reward",
        serve={"address_rate": None, "rate": {"predict": None, "feedback": None}},
        recipes={"include": [recipe]},
    )
    project.cycle(max_trials=0, max_epochs=3)
    champion = project.store.champion()
    assert champion is not None
    project.store.close()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """The project's service on the first core: its port, its process, and a file of bodies to send."""
    rows = contexts(256, 1)
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps([json.dumps({"inputs": row}) for row in rows]))
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-m", "tidemill", "serve", "-C", str(folder / "project"), "--port", str(port)]
    with on_first_core(command, log) as process:
        wait(process, port, "/v1/predict", json.dumps({"inputs": rows[0]}), log)
        yield port, process.pid, bodies


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """A service with one connection, and with 32."""
    with running(folder) as (port, pid, bodies):

        def loaded(connections: int, duration: float) -> dict[str, Any]:
            return load(port, "/v1/predict", bodies, connections, duration, 0, str(pid))

        loaded(32, 2)
        return {"one": loaded(1, seconds), "many": loaded(32, seconds)}


def rewarded(folder: Path, rewards: int) -> list[float]:
    """Seconds from each of so many rewards to the first answer by a policy that knows it."""
    taken: list[float] = []
    with running(folder) as (port, _, bodies), loaded_beside(port, bodies):
        rng, rows = np.random.default_rng(2), contexts(rewards, 3)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for row in rows:
                time.sleep(float(rng.random()) * 0.3)  # at any moment between two looks
                taken.append(one_reward(client, row))
    return taken


@contextlib.contextmanager
def loaded_beside(port: int, bodies: Path) -> Iterator[None]:
    """Choices at a steady rate, from a process of its own on the last core."""
    last = str(max(os.sched_getaffinity(0)))
    command = ["taskset", "-c", last, sys.executable, str(HERE / "serving_load.py"), f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "/v1/predict", str(bodies), "8", "3600", str(BESIDE)], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(2)
        yield
    finally:
        process.terminate()
        process.wait()


def one_reward(client: httpx.Client, row: dict[str, Any]) -> float:
    """Seconds until what is expected of the action of a new choice has changed."""

    def ask() -> dict[str, Any]:
        answer = client.post("/v1/predict", json={"inputs": row})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()["predictions"][0]
        return found

    choice = ask()
    action, before = choice["action"], choice["expected"][choice["action"]]
    began = time.perf_counter()
    said = {"prediction": choice["id"], "kind": "reward", "value": 0 if before > 0.5 else 1}
    client.post("/v1/feedback", json=said).raise_for_status()
    while ask()["expected"][action] == before:
        if time.perf_counter() - began > 30:
            sys.exit("a reward has not changed the policy after 30 seconds")
        time.sleep(0.005)
    return time.perf_counter() - began


def shown(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Medians, and choices as a share of classifications."""

    def median(runs: Sequence[dict[str, Any]], part: str, key: str) -> float:
        return float(np.median([run[part][key] for run in runs]))

    rows = []
    for model, runs in found.items():
        for task, made in runs.items():
            row = [f"{model}, {task}"]
            for part in ("one", "many"):
                rate = median(made, part, "rate")
                share = f" ({rate / median(runs['classes'], part, 'rate'):.0%})" if task == "choices" else ""
                row.append(f"{rate:,.0f}{share}, p99 {median(made, part, 'p99_ms'):.1f} ms")
            rows.append(row)
    return table(["a second (of the classifications)", "1 connection", "32 connections"], rows)


if __name__ == "__main__":
    main()
