"""Throughput and tail of the service beside LitServe, BentoML, MLflow's server, FastAPI and a bare application.

    python benchmarks/serving.py                                  # about 40 minutes on 2 cores; makes environments
    python benchmarks/serving.py --sets mnist --rounds 1          # a quick look
    python benchmarks/serving.py --servers tidemill bare          # some servers
    python benchmarks/serving.py --json FILE                      # the figures for other programs, too

One item a request, JSON, kept-alive connections. The server has the first core, the load (serving_load.py) the second.
Tidemill's log is on: each answer leaves after its prediction is on disk. Nobody else logs. Each server is measured in a
closed loop with 1 and with 32 connections, then in open loops with 32 connections for the highest rate at which the
99th percentile stays under 50 ms: times count from when a request was due. Rounds alternate between the servers; shown
are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _common import HERE, ROOT, data_folder, environment, machine, mnist, table

NEEDED = ["numpy", "onnxruntime", "orjson", "pyarrow", "pillow", "pydantic", "scipy", "safetensors", "threadpoolctl"]
NEEDED += ["psutil", "tokenizers", "pyyaml", "onnx"]
PEERS = {
    "fastapi": ["fastapi", "uvicorn[standard]"],
    "litserve": ["litserve==0.2.19"],
    "bentoml": ["bentoml==1.4.40"],
    "mlflow": ["mlflow==3.17.2"],
}
SERVERS = ("tidemill", *PEERS, "bare")
SETS = ("mnist", "ag-news")
PATHS = {"tidemill": "/v1/predict", "mlflow": "/invocations"}
TAIL = 50.0
"""Milliseconds that the 99th percentile may take."""
STEPS = (1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    pythons = {
        name: str(environment(f"serving-{name}", PEERS[name] + NEEDED)) for name in PEERS if name in arguments.servers
    }
    found: dict[str, Any] = {}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            package = prepared(folder, name)
            bodies = inputs_of(name)
            runs: dict[str, list[dict[str, Any]]] = {server: [] for server in arguments.servers}
            for number in range(arguments.rounds):
                for server in arguments.servers:
                    python = pythons.get(server, sys.executable)
                    one = measure(folder, server, python, package, bodies, arguments.seconds)
                    runs[server].append(one)
                    print(
                        json.dumps({"set": name, "round": number, "server": server, **one}), file=sys.stderr, flush=True
                    )
        found[name] = runs
        print(f"\n{name}\n\n{shown(runs)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def prepared(folder: Path, name: str) -> Path:
    """A project with a champion in *folder*/project; its package."""
    import tidemill
    from tidemill.records import Model

    data: list[Path] = []
    options: dict[str, Any] = {"budget": "35s"}
    include = None
    if name == "mnist":
        data = [data_folder("mnist")]
        options, include = {"max_epochs": 1, "max_trials": 0}, ["cnn"]
    else:
        for split in ("train", "test"):
            path = folder / f"{split}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(["label", "title", "description"])
                file.write((data_folder("ag-news") / f"{split}.csv").read_text("utf-8"))
            data.append(path)
    project = tidemill.init(
        folder / "project",
        data=data,
        target="label",
        serve={"address_rate": None, "rate": {"predict": None, "feedback": None}},
        **({"recipes": {"include": include}} if include else {}),
    )
    project.cycle(**options)
    store = project.store
    champion = store.champion()
    assert champion is not None
    path = store.root / store.get(Model, champion.model_id).path
    store.close()
    return path


def inputs_of(name: str) -> list[dict[str, Any]]:
    """256 rows that nobody trained on."""
    if name == "mnist":
        return [{"image": image[..., 0].tolist()} for image in mnist()[1][0][:256]]
    with (data_folder("ag-news") / "test.csv").open(newline="", encoding="utf-8") as file:
        return [{"title": row[1], "description": row[2]} for row in list(csv.reader(file))[:256]]


def body(server: str, inputs: dict[str, Any]) -> str:
    """A request of one row as *server* takes it."""
    if server == "bentoml":
        return json.dumps({"inputs": [inputs]})
    if server == "mlflow":
        if "image" in inputs:
            return json.dumps({"inputs": [inputs["image"]]})
        return json.dumps({"dataframe_split": {"columns": list(inputs), "data": [list(inputs.values())]}})
    return json.dumps({"inputs": inputs})


def measure(
    folder: Path, server: str, python: str, package: Path, rows: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """One server, started, measured and ended."""
    bodies = folder / f"{server}.json"
    bodies.write_text(json.dumps([body(server, row) for row in rows]))
    with running(folder, server, python, package, body(server, rows[0])) as (port, pid):

        def loaded(connections: int, duration: float, rate: float = 0) -> dict[str, Any]:
            return load(port, PATHS.get(server, "/predict"), bodies, connections, duration, rate, str(pid))

        loaded(32, 2)
        one, many = loaded(1, seconds), loaded(32, seconds)
        held = {"rate": 0.0, "p99_ms": float("nan")}
        for step in STEPS:
            tried = loaded(32, seconds, step * many["rate"])
            if tried["p99_ms"] < TAIL and not tried["failed"] and tried["rate"] > 0.98 * step * many["rate"]:
                held = tried
                break
        return {"one": one, "many": many, "held": held}


@contextlib.contextmanager
def running(folder: Path, server: str, python: str, package: Path, first: str) -> Iterator[tuple[int, int]]:
    """A server on the first core until it is left: its port and the id of its process."""
    port = free_port()
    if server == "tidemill":
        command = [python, "-m", "tidemill", "serve", "-C", str(folder / "project"), "--port", str(port)]
    else:
        command = [python, str(HERE / "serving_peers.py"), server, str(package), str(port)]
    log = folder / f"{server}.log"
    with on_first_core(command, log) as process:
        wait(process, port, PATHS.get(server, "/predict"), first, log)
        yield port, process.pid


@contextlib.contextmanager
def on_first_core(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process, and those that it starts, on the first core until it is left; what they say goes to *log*."""
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command],
            env=os.environ | variables,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def load(
    port: int, path: str, bodies: Path, connections: int, seconds: float, rate: float, *more: str
) -> dict[str, Any]:
    """What serving_load.py measures, on the second core."""
    last = str(max(os.sched_getaffinity(0)))
    command = ["taskset", "-c", last, sys.executable, str(HERE / "serving_load.py"), f"127.0.0.1:{port}", path]
    numbers = [str(connections), str(seconds), str(rate)]
    done = subprocess.run([*command, str(bodies), *numbers, *more], check=True, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def wait(process: subprocess.Popen[bytes], port: int, path: str, first: str, log: Path) -> None:
    """Until it answers well."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", first.encode(), {"Content-Type": "application/json"}
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()
                return
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read()[:1000]!r}"
        except OSError as error:
            last = str(error)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server does not answer: {last}\n{log.read_text()[-3000:]}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def shown(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians, and Tidemill's as multiples of each server's."""

    def median(server: str, part: str, key: str) -> float:
        return float(np.median([run[part][key] for run in runs[server]]))

    own = {part: median("tidemill", part, "rate") for part in ("one", "many", "held")} if "tidemill" in runs else {}
    rows = []
    for server in runs:
        row = [server]
        for part in ("one", "many", "held"):
            rate = median(server, part, "rate")
            times = f" ({own[part] / rate:.2f})" if own and server != "tidemill" and rate else ""
            row.append(f"{rate:,.0f}{times}, p99 {median(server, part, 'p99_ms'):.1f} ms")
        rows.append(row)
    header = [
        "requests a second (Tidemill's times this)",
        "1 connection",
        "32 connections",
        "held under 50 ms, open loop",
    ]
    return table(header, rows)


if __name__ == "__main__":
    main()
