"""A real MLflow server on loopback: what is mirrored while a service answers, killed deliveries, and coming back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import tidemill
from _mlflow import at, client
from tidemill.api.mirroring import mirrored
from tidemill.errors import ServiceError
from tidemill.integrations.mlflow_mirror import TAG, waiting
from tidemill.records import Delivery, Run

pytestmark = pytest.mark.long


class Server:
    """``mlflow server`` with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            self.port = int(door.getsockname()[1])
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise TimeoutError(self.folder / "server.log")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def project(new_project: Callable[..., tidemill.Project], server: Server) -> tidemill.Project:
    project = new_project(server.url, "tides")
    project.config = project.config.model_copy(
        update={"mlflow": project.config.mlflow.model_copy(update={"timeout_s": 30.0})}
    )
    return project


def until(holds: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.2)


def runs_in(mlflow: Any) -> list[Any]:
    return list(mlflow.search_runs([mlflow.get_experiment_by_name("tides").experiment_id]))


def test_a_delivery_that_is_killed_again_and_again_ends_as_one(project: tidemill.Project, server: Server) -> None:
    code = "import sys; from tidemill.api.mirroring import mirror_job; mirror_job(sys.argv[1])"
    for moments in range(1, 7):
        process = subprocess.Popen([sys.executable, "-c", code, str(project.dir)])
        before = project.store.count(Delivery)
        while project.store.count(Delivery) < before + 1 and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.05 * moments)
        process.kill()
        process.wait()
    project.mlflow_sync()
    mlflow = client(server.url)
    assert sorted(run.data.tags[TAG] for run in runs_in(mlflow)) == sorted(project.store.ids(Run))
    versions = [version.tags[TAG] for version in mlflow.search_model_versions("name = 'tides'")]
    assert len(versions) == len(set(versions)) > 0
    for record in project.store.find(Run):
        run = next(run for run in runs_in(mlflow) if run.data.tags[TAG] == record.id)
        for name in set().union(*record.curve) - {"epoch"} if record.curve else ():
            assert len(mlflow.get_metric_history(run.info.run_id, f"curve/{name}")) == len(record.curve)


def test_a_service_delivers_and_a_server_that_comes_back_is_told_everything(
    project: tidemill.Project, server: Server
) -> None:
    server.stop()
    other = next(model["id"] for model in project.models() if not model["champion"])
    project.promote(other, reason="while MLflow is away")
    with pytest.raises(ServiceError, match="MLflow does not answer"):
        project.mlflow_sync()
    assert len(waiting(project.store)) == 1
    server.start()
    with mirrored(project):
        until(lambda: not waiting(project.store))
    assert client(server.url).get_model_version_by_alias("tides", "champion").tags[TAG] == other


def test_a_graph_that_mlflow_logged_comes_in(project: tidemill.Project, server: Server, tmp_path: Path) -> None:
    """Logged and registered as MLflow's own flavour does it."""
    script = tmp_path / "log.py"
    script.write_text(
        "import sys, numpy as np, mlflow, mlflow.onnx\n"
        "from skl2onnx import to_onnx\n"
        "from sklearn.datasets import load_iris\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "x, y = load_iris(return_X_y=True)\n"
        "model = LogisticRegression(max_iter=500).fit(x, y)\n"
        "graph = to_onnx(model, x[:1].astype(np.float32), options={'zipmap': False})\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "mlflow.set_experiment('others')\n"
        "with mlflow.start_run():\n"
        "    mlflow.onnx.log_model(graph, name='model', registered_model_name='logged', pip_requirements=['onnx'])\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    subprocess.run([sys.executable, script, server.url], check=True, env=environment, capture_output=True)
    done = project.mlflow_import("logged")
    x, y = load_iris(return_X_y=True)
    names = [f.name for f in project.signature.inputs]
    rows = [dict(zip(names, row.tolist(), strict=True)) for row in x]
    answers = [answer["label"] for answer in project.predict(rows, model=done["model"])]
    expected = LogisticRegression(max_iter=500).fit(x, y).predict(x)
    labels = project.signature.labels
    assert np.mean([answer == labels[code] for answer, code in zip(answers, expected, strict=True)]) > 0.98


def test_pickles_of_the_server_are_not_downloaded(project: tidemill.Project, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    mlflow = client(server.url)
    at(project, server.url)
    run = mlflow.create_run(mlflow.get_experiment_by_name("others").experiment_id)
    mlflow.log_artifacts(run.info.run_id, str(folder), "model")
    mlflow.create_registered_model("pickled")
    mlflow.create_model_version("pickled", f"{run.info.artifact_uri}/model", run.info.run_id)
    with pytest.raises(tidemill.errors.PackageError, match=r"it holds model\.pkl"):
        project.mlflow_import("pickled")
