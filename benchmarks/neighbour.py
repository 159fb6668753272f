"""What a cycle beside does to the latency of answers, and what answering does to the cycle.

    python benchmarks/neighbour.py                                       # about 10 minutes on 2 cores
    python benchmarks/neighbour.py --rates 200 --rounds 1 --seconds 4    # a quick look

The MNIST `cnn` is served on the first core, one image a request, our log on; serving_load.py sends from the last core
at fixed rates with 32 connections, and counts from when a request was due. Meanwhile a cycle trains and tunes as
`tidemill up` starts it, in a process of its own with one thread:

* *alone*: no cycle.
* *same core, as up does it*: the cycle has the service's core, at the priority that `up` gives it (nice 10). Nothing
  could be worse placed; with more cores it has others.
* *same core, equals*: the same at the service's own priority, to see what the priority is worth.
* *other core*: the cycle has the load's core at nice 10, so that the service shares memory and caches with it alone;
  the load then competes with the cycle, which counts against the service.

Rounds alternate between the settings; shown are medians. The share of a core that the cycle got is told, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from _common import machine, table
from serving import PATHS, body, inputs_of, load, prepared, running
from tidemill.config import CONFIG_NAME, changed, load_config, write_config
from tidemill.engines.local import LocalEngine, LocalJob

WARM_UP = 10.0
"""Seconds after which a cycle is past its imports and trains."""


@dataclass(frozen=True)
class Setting:
    """Where a cycle runs beside the service; no core: there is none."""

    name: str
    core: int | None = None
    nice: int = 10


def settings() -> list[Setting]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("Two cores are needed: one to serve and one to send.")
    return [
        Setting("alone"),
        Setting("same core, as up does it", cores[0]),
        Setting("same core, equals", cores[0], nice=0),
        Setting("other core", cores[-1]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=float, default=[100, 500, 1500], help="requests a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        package = prepared(folder, "mnist")
        lengthen(folder / "project")
        bodies = folder / "bodies.json"
        rows = [body("tidemill", row) for row in inputs_of("mnist")]
        bodies.write_text(json.dumps(rows))
        with running(folder, "tidemill", sys.executable, package, rows[0]) as (port, _):
            load(port, PATHS["tidemill"], bodies, 32, 2.0, 0)
            for number in range(arguments.rounds):
                for setting in settings():
                    with cycling(folder / "project", setting) as job:
                        for rate in arguments.rates:
                            one = beside(job, port, bodies, arguments.seconds, rate)
                            line = {"round": number, "setting": setting.name, "asked": rate, **one}
                            found.append(line)
                            print(json.dumps(line), file=sys.stderr, flush=True)
    print(shown(found, arguments.rates))
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


def lengthen(project: Path) -> None:
    """Let a cycle outlast every measurement."""
    config = load_config(project / CONFIG_NAME)
    write_config(project / CONFIG_NAME, changed(config, "cycle", {"budget": "2h"}))


def beside(job: LocalJob | None, port: int, bodies: Path, seconds: float, rate: float) -> dict[str, Any]:
    """One measurement; ``share`` is how much of a core the cycle got meanwhile."""
    process = None if job is None else psutil.Process(job.pid)
    began, used = time.perf_counter(), 0.0 if process is None else sum(process.cpu_times()[:2])
    told = load(port, PATHS["tidemill"], bodies, 32, seconds, rate)
    if process is not None:
        if job is None or job.poll() is not None:
            sys.exit("The cycle ended before the measurement did; its log is in .tidemill/cycles.log.")
        told["share"] = (sum(process.cpu_times()[:2]) - used) / (time.perf_counter() - began)
    return told


@contextlib.contextmanager
def cycling(project: Path, setting: Setting) -> Iterator[LocalJob | None]:
    """While inside, a cycle trains and tunes; it is stopped at the end, and the next one goes on from there."""
    if setting.core is None:
        yield None
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {setting.core})  # which the job inherits
    try:
        engine = LocalEngine(threads=1, nice=setting.nice, log=project / ".tidemill" / "cycles.log")
        arguments = {"folder": str(project), "trigger": "a benchmark"}
        job = engine.submit("tidemill.api.running:cycle_job", arguments)
    finally:
        os.sched_setaffinity(0, before)
    try:
        time.sleep(WARM_UP)
        yield job
    finally:
        job.stop()
        job.wait(timeout=60)


def shown(found: Sequence[dict[str, Any]], rates: Sequence[float]) -> str:
    """Median and 99th percentile by setting and rate; in brackets the worst round."""
    rows = []
    for setting in dict.fromkeys(line["setting"] for line in found):
        row = [setting]
        for rate in rates:
            lines = [line for line in found if line["setting"] == setting and line["asked"] == rate]
            p50, p99 = (float(np.median([line[key] for line in lines])) for key in ("p50_ms", "p99_ms"))
            worst = max(line["p99_ms"] for line in lines)
            failed = sum(line["failed"] for line in lines)
            text = f"{p50:.2f} / {p99:.1f} ({worst:.1f})"
            row.append(f"{text}, {failed} failed" if failed else text)
        shares = [line["share"] for line in found if line["setting"] == setting and "share" in line]
        row.append(f"{100 * np.median(shares):.0f} %" if shares else "–")
        rows.append(row)
    header = ["cycle", *(f"{rate:g}/s: p50 / p99 (worst p99), ms" for rate in rates), "of a core for the cycle"]
    return table(header, rows)


if __name__ == "__main__":
    main()
