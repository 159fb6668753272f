"""From the last piece of feedback to the first answer of a better champion, on scikit-learn's digits, over HTTP.

    python benchmarks/correction.py            # five runs, about two minutes
    python benchmarks/correction.py --imports  # what importing costs the cycle's process, the dearest modules first

Each run makes a project that has learnt from 145 labelled images, starts `tidemill up` in a process of its own, asks it
about 600 more, and says of every answer whether it was right. The clock starts when the last of these statements is
acknowledged and stops when `/v1/predict` answers with another model. In between: the trigger notices, a cycle starts in
a process of its own at low priority, prepares, trains all four recipes, judges, promotes; the service takes the new
model up. The shares come from the records that the cycle leaves and from the clock of the process.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from sklearn.datasets import load_digits

import tidemill
from _common import machine, table
from tidemill.records import Cycle, Decision, Deployment

START, JUDGE, SAID, AT_ONCE = 145, 350, 600, 50
MOST_SECONDS = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--imports", action="store_true", help="list the dearest imports of the cycle's process instead"
    )
    arguments = parser.parse_args()
    if arguments.imports:
        print(imports())
        return
    print(machine(), flush=True)
    runs: list[dict[str, float]] = []
    for number in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            made = run(Path(folder) / "project", number)
        if isinstance(made, str):
            print(f"run {number}, not counted: {made}", flush=True)
            continue
        runs.append(made)
        print(f"run {number}: {made['all']:.2f} s", file=sys.stderr, flush=True)
    if not runs:
        sys.exit("no challenger was promoted")
    names = list(dict.fromkeys(name for one in runs for name in one))
    total = statistics.median(one["all"] for one in runs)
    rows = []
    for name in names:
        values = [one.get(name, 0.0) for one in runs]
        middle = statistics.median(values)
        rows.append([name, f"{middle:.2f}", f"{100 * middle / total:.0f} %", " ".join(f"{v:.2f}" for v in values)])
    print(table(["stage", "seconds (median)", "share", "each run"], rows))


def run(folder: Path, seed: int) -> dict[str, float] | str:
    """One revolution; seconds by stage, in the order of time, and ``all``; or why the gate refused the challenger."""
    rng = np.random.default_rng(seed)
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    start, judge, use = np.split(rng.permutation(len(images)), [START, START + JUDGE])
    folder.mkdir()
    arrays = {"x_train": images[start], "y_train": digits.target[start]}
    np.savez(folder / "digits.npz", **arrays, x_test=images[judge], y_test=digits.target[judge])
    project = tidemill.init(folder, data=folder / "digits.npz", target="label", splits={"validation": 0.3})
    project.cycle()
    with up(folder) as (service, client):
        statements = []
        for first in range(0, SAID, AT_ONCE):
            rows = use[first : first + AT_ONCE]
            inputs = [{"image": image.tolist()} for image in images[rows]]
            answered = client.post("/v1/predict", json={"inputs": inputs}).raise_for_status().json()
            pairs = zip(answered["predictions"], digits.target[rows], strict=True)
            statements += [statement(answer, str(digit)) for answer, digit in pairs]
        old = answered["model"]
        for first in range(0, SAID - 1, AT_ONCE):
            said = statements[first : min(first + AT_ONCE, SAID - 1)]
            client.post("/v1/feedback", json={"feedback": said}).raise_for_status()
        client.post("/v1/feedback", json=statements[-1]).raise_for_status()
        begun, clock = time.time(), time.perf_counter()
        job: float | None = None
        body = {"inputs": {"image": images[use[-1]].tolist()}}
        while client.post("/v1/predict", json=body).raise_for_status().json()["model"] == old:
            if time.perf_counter() - clock > MOST_SECONDS:
                sys.exit(f"no decision after {MOST_SECONDS:.0f} s")
            decided = project.store.find(Decision, newest_first=True, limit=1)[0]
            if decided.created > begun and decided.outcome == "refused":
                return decided.reason
            job = job or started(service)
            time.sleep(0.02)
        whole = time.perf_counter() - clock
    assert job is not None
    return {**stages(project, begun, job), "all": whole} | {"follow": begun + whole - promoted(project)}


def statement(answer: dict[str, Any], truth: str) -> dict[str, Any]:
    """What a user says who knows the true digit."""
    said = {"prediction": answer["id"], "author": "user", "asked": answer["audit"]}
    if answer["label"] == truth:
        return said | {"kind": "confirmation"}
    return said | {"kind": "correction", "value": truth}


@contextmanager
def up(folder: Path) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """``tidemill up`` on a free port, and a client for it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("tidemill"), "-C", folder, "up", "--after-labels", str(SAID)]
    service = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
            while not ready(client):
                if service.poll() is not None:
                    sys.exit(f"`tidemill up` ended with status {service.returncode}")
                time.sleep(0.05)
            yield psutil.Process(service.pid), client
    finally:
        service.send_signal(signal.SIGINT)
        service.wait()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def started(service: psutil.Process) -> float | None:
    """When the cycle's process began, or ``None`` while there is none."""
    for child in service.children():
        try:
            if any("cycle_job" in word for word in child.cmdline()):
                return child.create_time()
        except psutil.NoSuchProcess:
            continue
    return None


def promoted(project: tidemill.Project) -> float:
    """When the new champion's deployment was committed."""
    return project.store.find(Deployment, newest_first=True, limit=1)[0].created


def stages(project: tidemill.Project, begun: float, job: float) -> dict[str, float]:
    """Seconds by stage until the promotion."""
    cycle = project.store.find(Cycle, newest_first=True, limit=1)[0]
    took, candidates = cycle.summary["stages"], cycle.summary["candidates"]
    training = {f"train {c['recipe']}": c["seconds"] for c in candidates}
    found = {
        "trigger": job - begun,
        "process and imports": cycle.created - job,
        "feedback": took["feedback"],
        "prepare": took["prepare"],
        **training,
        "evaluate on validation": took["evaluate"],
        "judge and deploy": took["deploy"],
    }
    found["between the stages"] = promoted(project) - begun - sum(found.values())
    return found


def imports() -> str:
    """Self time of each module that the cycle's process imports, summed by package."""
    code = "import tidemill.api.running, tidemill.learners.gradient, tidemill.runtime.onnx, tidemill.stages.train"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True, env=os.environ)
    packages: dict[str, float] = {}
    for line in done.stderr.splitlines()[1:]:
        own, _, name = line.removeprefix("import time:").split("|")
        package = name.strip().split(".")[0]
        packages[package] = packages.get(package, 0.0) + int(own) / 1e6
    dearest = sorted(packages.items(), key=lambda pair: -pair[1])[:20]
    rows = [["all", f"{sum(packages.values()):.2f}"], *([name, f"{seconds:.2f}"] for name, seconds in dearest)]
    return table(["package", "seconds of its own"], rows)


if __name__ == "__main__":
    main()
