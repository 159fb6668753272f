"""An hour at half of full load with cycles running beside: errors, tail and memory.

    python benchmarks/soak.py                               # an hour and some minutes, about 15 GB of disk
    python benchmarks/soak.py --seconds 60 --budget 5s      # a quick look
    python benchmarks/soak.py --json FILE                   # the curve for other programs, too

A project that has learnt the digits is served by `tidemill serve`, its log on. First full load is measured in a closed
loop of 32 connections. From then on an open loop asks at half that rate, in slices with fresh connections, a caller
gives feedback on its own answers, and `tidemill cycle` runs again and again, so the model is swapped whenever a better
one is found. Told is the curve of the service's anonymous memory (what no file stands behind), by slice, and how much
higher the median of the last third lies than that of the first third after the warm-up. The server has the first core,
the load the last one, and cycles, with a lower priority, what is left of both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from sklearn.datasets import load_digits

import tidemill
from _common import ROOT, machine, table
from serving import free_port, load, wait

CONNECTIONS = 32
PAUSE = 0.05
"""Seconds between two statements of the caller that gives feedback."""
VARIABLES = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--slice", type=float, default=30.0, help="seconds of each point of the curve")
    parser.add_argument("--warm-up", type=float, default=None, help="seconds that do not count; a tenth unless given")
    parser.add_argument("--budget", default="60s", help="of each cycle; 0 for the simplest models only")
    parser.add_argument("--rate", type=float, help="requests a second; half of full load unless given")
    parser.add_argument("--folder", type=Path, help="where the project lies; a temporary one unless given")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        told = soak(Path(place), arguments)
    print(shown(told), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1))
    faults = told["failed"] + told["feedback_failed"] + told["cycles_failed"]
    if faults:
        sys.exit(f"{faults} errors: {told['errors'][:5]}")


class Beside:
    """Work that goes on in a thread until the end; what it raises is kept as an error."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done = self.failed = 0
        self.errors: list[str] = []
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
                self.done += 1
            except (RuntimeError, httpx.HTTPError) as error:
                self.failed += 1
                self.errors.append(f"{type(error).__name__}: {error}"[:500])


def soak(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, measured."""
    simple = arguments.budget == "0"
    project = tidemill.init(
        folder / "project",
        data="sklearn:digits",
        target="label",
        recipes={"include": []} if simple else {},
        serve={"address_rate": None, "rate": {"predict": None, "feedback": None}},
    )
    project.cycle(max_trials=0, max_epochs=1)
    project.store.close()
    known = load_digits()
    digits = [image.tolist() for image in known.images[:256].clip(0, 15).astype(int) * 17]
    labels = known.target.tolist()
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps([json.dumps({"inputs": {"image": digit}}) for digit in digits]))
    port = free_port()
    with served(folder, port, json.loads(bodies.read_text())[0]) as server:
        full = load(port, "/v1/predict", bodies, CONNECTIONS, min(5.0, arguments.slice), 0, str(server.pid))["rate"]
        rate = arguments.rate or full / 2
        print(f"full load {full:,.0f} requests a second; from now on {rate:,.0f}", flush=True)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        beside = {
            "feedback": Beside(lambda: statement(client, digits, labels)),
            "cycles": Beside(lambda: cycle(folder, "--max-trials 0" if simple else f"--budget {arguments.budget}")),
        }
        curve: list[dict[str, float]] = []
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < arguments.seconds:
            one = load(port, "/v1/predict", bodies, CONNECTIONS, arguments.slice, rate, str(server.pid))
            curve.append({"at": round(elapsed), **memory(server.pid), **one, "cycles": beside["cycles"].done})
            print(json.dumps(curve[-1]), file=sys.stderr, flush=True)
        for work in beside.values():
            work.end()
        client.close()
        disk = sum(f.stat().st_size for f in (folder / "project").rglob("*") if f.is_file())
    warm = arguments.warm_up if arguments.warm_up is not None else arguments.seconds / 10
    return {
        "full": full,
        "rate": rate,
        "seconds": time.monotonic() - began,
        "failed": sum(point["failed"] for point in curve),
        "feedback": beside["feedback"].done,
        "feedback_failed": beside["feedback"].failed,
        "cycles": beside["cycles"].done,
        "cycles_failed": beside["cycles"].failed,
        "errors": [error for work in beside.values() for error in work.errors],
        "p99_ms": statistics.median(point["p99_ms"] for point in curve),
        "worst_p99_ms": max(point["p99_ms"] for point in curve),
        "growth": growth([point["anonymous_mb"] for point in curve if point["at"] >= warm]),
        "disk_mb": disk / MB,
        "curve": curve,
    }


@contextlib.contextmanager
def served(folder: Path, port: int, first: str) -> Any:
    """The project, served by a process of its own on the first core; its end has to be in order."""
    command = [sys.executable, "-m", "tidemill", "serve", "-C", str(folder / "project"), "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        command = ["taskset", "-c", "0", *command]
        process = subprocess.Popen(command, env=os.environ | VARIABLES, stdout=log, stderr=log)
        try:
            wait(process, port, "/v1/predict", first, folder / "serve.log")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(timeout=120)
    if ended:
        sys.exit(f"the service ended with {ended}: {(folder / 'serve.log').read_text()[-3000:]}")


def statement(client: httpx.Client, digits: list[Any], labels: list[int]) -> None:
    """One answer, and what would have been right."""
    row = int(time.time() * 1000) % len(digits)
    answer = client.post("/v1/predict", json={"inputs": {"image": digits[row]}})
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    (given,) = answer.json()["predictions"]
    said = {"prediction": given["id"], "kind": "correction", "value": str(labels[row]), "author": "ann"}
    answer = client.post("/v1/feedback", json={**said, "asked": given["audit"]})
    if answer.status_code != 201:
        raise RuntimeError(answer.text)
    time.sleep(PAUSE)


def cycle(folder: Path, limit: str) -> None:
    """One cycle, with the lower priority that `tidemill up` gives it."""
    command = [
        "nice",
        "-n",
        "10",
        sys.executable,
        "-m",
        "tidemill",
        "cycle",
        "-C",
        str(folder / "project"),
        *limit.split(),
        "--json",
    ]
    done = subprocess.run(command, env=os.environ | VARIABLES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a cycle ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")


def memory(pid: int) -> dict[str, float]:
    """Megabytes of the service itself: anonymous ones, all that are resident; and those of all its processes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / MB for line in rollup}
    family = 0.0
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            family += child.memory_full_info().uss / MB
    return {"anonymous_mb": found["Anonymous"], "rss_mb": found["Rss"], "helpers_mb": family}


def growth(points: list[float]) -> float:
    """How much higher the last third lies than the first, as a share of it; 0 where there are too few points."""
    third = len(points) // 3
    if third == 0:
        return 0.0
    return statistics.median(points[-third:]) / statistics.median(points[:third]) - 1


def shown(told: dict[str, Any]) -> str:
    """The figures, and twenty points of the curve."""
    curve = told["curve"][:: max(1, len(told["curve"]) // 20)]
    rows = [
        [
            f"{point['at']:,.0f} s",
            f"{point['anonymous_mb']:.1f}",
            f"{point['rss_mb']:.1f}",
            f"{point['rate']:,.0f}",
            f"{point['p99_ms']:.1f}",
            f"{point['cycles']}",
        ]
        for point in curve
    ]
    header = ["at", "anonymous MB", "resident MB", "answers a second", "p99 ms", "cycles so far"]
    answers = sum(point["rate"] for point in told["curve"]) * told["seconds"] / max(1, len(told["curve"]))
    lines = [
        f"{told['seconds']:,.0f} seconds at {told['rate']:,.0f} requests a second, half of {told['full']:,.0f}",
        f"about {answers:,.0f} answers, {told['feedback']:,} statements, {told['cycles']} cycles; "
        f"failed: {told['failed']}, {told['feedback_failed']}, {told['cycles_failed']}",
        f"p99 {told['p99_ms']:.1f} ms in the median slice, {told['worst_p99_ms']:.1f} ms in the worst",
        f"anonymous memory {told['growth']:+.1%} from the first third after the warm-up to the last; "
        f"the project takes {told['disk_mb']:,.0f} MB of disk",
    ]
    return "\n".join([*lines, "", table(header, rows)])


if __name__ == "__main__":
    main()
