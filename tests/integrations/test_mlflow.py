"""MLflow, the real one, on a SQLite store: what is mirrored, what is brought from there, and what when it is away."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import tidemill
from _mlflow import at, client, registered
from tidemill.cli.main import main
from tidemill.config import changed
from tidemill.errors import ConfigError, ConflictError, NotFoundError, PackageError, ServiceError
from tidemill.integrations.mlflow_mirror import TAG, waiting
from tidemill.records import Decision, Delivery, Deployment, Run, new_id


@pytest.fixture(scope="module")
def project(new_project: Callable[..., tidemill.Project]) -> tidemill.Project:
    """Its cycle ran while its MLflow was away."""
    return new_project(f"http://127.0.0.1:{closed_port()}")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def mirrored(project: tidemill.Project, uri: str) -> Iterator[Any]:
    """MLflow after everything was delivered."""
    at(project, uri)
    told = project.mlflow_sync()
    assert told["delivered"] == project.store.count(Delivery, status="done") > 4 and told["waiting"] == 0
    yield client(uri)
    at(project, uri)


def closed_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def runs_in(mlflow: Any) -> list[Any]:
    experiment = mlflow.get_experiment_by_name("irises")
    return list(mlflow.search_runs([experiment.experiment_id]))


def test_a_server_that_is_away_is_said_once_and_keeps_what_waits(project: tidemill.Project) -> None:
    before = waiting(project.store)
    assert len(before) == project.store.count(Run) + project.store.count(Decision) + project.store.count(Deployment)
    with pytest.raises(ServiceError, match=r"MLflow does not answer.*`tidemill mlflow sync` once it is back"):
        project.mlflow_sync()
    assert waiting(project.store) == before and project.mlflow_status()["waiting"] == len(before)


def test_a_server_that_never_answers_is_not_waited_for(project: tidemill.Project) -> None:
    asked = project.config
    with socket.socket() as silent, contextlib.closing(silent):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        at(project, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServiceError, match="MLflow does not answer"):
            project.mlflow_sync()
    project.config = asked


def test_runs_come_with_parameters_numbers_and_packages(project: tidemill.Project, mirrored: Any) -> None:
    runs = {run.data.tags[TAG]: run for run in runs_in(mirrored)}
    assert set(runs) == set(project.store.ids(Run))
    for record in project.store.find(Run):
        run = runs[record.id]
        assert run.info.status == "FINISHED" and run.data.params["recipe"] == record.recipe["name"]
        means = record.metrics.get("validation", {})
        assert {f"validation/{name}": value for name, value in means.items()}.items() <= run.data.metrics.items()
        points = [p for p in record.curve if "validation_loss" in p]
        history = mirrored.get_metric_history(run.info.run_id, "curve/validation_loss") if points else []
        assert [(m.step, m.value) for m in history] == [(p["epoch"], p["validation_loss"]) for p in points]
        files = {item.path for item in mirrored.list_artifacts(run.info.run_id, "package")}
        assert {"package/manifest.json", "package/model.onnx"} <= files
    assert any(run.curve for run in project.store.find(Run)), "so that curves were compared"


def test_the_champion_is_a_registered_version_with_its_alias(project: tidemill.Project, mirrored: Any) -> None:
    version = mirrored.get_model_version_by_alias("irises", "champion")
    decision = project.store.find(Decision)[-1]
    assert version.tags[TAG] == project.champion_deployment().model_id
    assert version.tags["tidemill.gate"] == "promoted" and version.description == decision.reason
    reports = {item.path for item in mirrored.list_artifacts(version.run_id, "reports")}
    assert "reports/reference.json" in reports


def test_examples_of_the_data_stay_here(project: tidemill.Project, mirrored: Any, tmp_path: Path) -> None:
    for run in runs_in(mirrored):
        for item in mirrored.list_artifacts(run.info.run_id, "reports"):
            assert (
                "mistakes"
                not in Path(mirrored.download_artifacts(run.info.run_id, item.path, str(tmp_path))).read_text()
            )


def test_what_was_delivered_is_not_delivered_again(project: tidemill.Project, mirrored: Any) -> None:
    runs, versions = len(runs_in(mirrored)), len(mirrored.search_model_versions("name = 'irises'"))
    assert project.mlflow_sync()["delivered"] == 0
    # killed before the marks were written: everything is delivered once more, and finds itself
    project.store.delete(Delivery, project.store.ids(Delivery))
    assert project.mlflow_sync()["delivered"] > 4
    assert len(runs_in(mirrored)) == runs and len(mirrored.search_model_versions("name = 'irises'")) == versions
    record = next(run for run in project.store.find(Run) if run.curve)
    run = next(run for run in runs_in(mirrored) if run.data.tags[TAG] == record.id)
    name = next(name for name in record.curve[0] if name != "epoch")
    assert len(mirrored.get_metric_history(run.info.run_id, f"curve/{name}")) == len(record.curve)


def test_the_alias_follows_who_serves(project: tidemill.Project, mirrored: Any) -> None:
    before = project.champion_deployment().model_id
    other = next(m["id"] for m in project.models() if m["id"] != before)
    for promoted in (other, before):
        project.promote(promoted, reason="to see the alias move")
        project.mlflow_sync()
        assert mirrored.get_model_version_by_alias("irises", "champion").tags[TAG] == promoted


def test_what_mlflow_refuses_is_left_out_in_the_end_and_holds_up_nobody(
    project: tidemill.Project, mirrored: Any
) -> None:
    record = project.store.find(Run)[0]
    first, second = (dataclasses.replace(record, id=new_id(Run.prefix)) for _ in range(2))
    number = mirrored.get_experiment_by_name("irises").experiment_id
    taken = mirrored.create_run(number, tags={TAG: first.id}).info.run_id
    mirrored.log_param(taken, "recipe", "another one")  # a parameter can be written once
    project.store.insert(first, second)
    told = project.mlflow_sync()
    assert (told["delivered"], told["refused"], told["waiting"]) == (1, 1, 1)
    (fault,) = project.mlflow_status()["faults"]
    assert fault["subject"] == first.id and fault["attempts"] == 1 and "recipe" in fault["fault"]
    assert [project.mlflow_sync()["left_out"] for _ in range(4)] == [0, 0, 0, 1]
    assert project.mlflow_sync()["waiting"] == 0
    for name, run_id in ((first.id, taken), (second.id, None)):
        one = run_id or next(r.info.run_id for r in runs_in(mirrored) if r.data.tags[TAG] == name)
        mirrored.delete_run(one)
    project.store.delete(Run, [first.id, second.id])


def test_the_alias_goes_to_who_serves_now_in_a_model_of_any_name(project: tidemill.Project, mirrored: Any) -> None:
    asked, before = project.config, project.champion_deployment().model_id
    project.config = changed(project.config, "mlflow", {"model": "ann's irises"})
    other = next(m["id"] for m in project.models() if m["id"] != before)
    project.promote(other, reason="for a moment")
    project.promote(before, reason="back again")
    older = project.store.find(Deployment)[-2]
    assert older.model_id == other and project.mlflow_sync()["delivered"] == 2
    project.store.delete(Delivery, [d.id for d in project.store.find(Delivery, subject=older.id)])
    assert project.mlflow_sync()["delivered"] == 1  # the older one once more, and late
    assert mirrored.get_model_version_by_alias("ann's irises", "champion").tags[TAG] == before
    project.config = asked


def test_an_experiment_that_was_deleted_is_named(project: tidemill.Project, mirrored: Any, uri: str) -> None:
    asked = project.config
    mirrored.delete_experiment(mirrored.create_experiment("gone"))
    project.config = asked.model_copy(update={"mlflow": asked.mlflow.model_copy(update={"experiment": "gone"})})
    with pytest.raises(ConfigError, match=r"'gone' was deleted in MLflow.*mlflow\.experiment"):
        project.mlflow_sync()
    project.config = asked


def graph(labels: list[int]) -> bytes:
    """A logistic regression on irises as an ONNX graph; its columns in the order of *labels*."""
    from skl2onnx import to_onnx

    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(x, np.argsort(labels)[y])
    data: bytes = to_onnx(model, x[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    return data


def logged(mlflow: Any, folder: Path, name: str, **files: bytes) -> None:
    folder = folder / "files"
    folder.mkdir()
    for stem, content in files.items():
        (folder / stem.replace("__", ".")).write_bytes(content)
    registered(mlflow, name, folder)


def test_a_graph_becomes_a_challenger(project: tidemill.Project, mirrored: Any, tmp_path: Path) -> None:
    logged(mirrored, tmp_path, "logistic", model__onnx=graph([2, 0, 1]), MLmodel=b"flavors: {}")
    done = project.mlflow_import("logistic", labels=[project.signature.labels[i] for i in (2, 0, 1)])
    model = project.store.find(Run, model_id=done["model"])[0]
    assert model.kind == "import" and done["from"] == "models:/logistic/1"
    assert project.store.get(Decision, done["decision"]["id"]).challenger_id == done["model"]
    content = project.report(done["model"])["reports"]["reference"]
    assert content["metrics"]["accuracy"]["value"] > 0.9, "so the columns were put in the labels' order"
    x, _ = load_iris(return_X_y=True)
    row = dict(zip((f.name for f in project.signature.inputs), x[0].tolist(), strict=True))
    assert project.predict(row, model=done["model"])[0]["label"] == project.predict(row)[0]["label"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model__pkl": b"cos\nsystem\n", "MLmodel": b""}, r"it holds model\.pkl, and opening that may run code"),
        ({"model__onnx": b"not a graph"}, "it is no ONNX graph"),
        ({"model__onnx": graph([0, 1, 2])[:-50]}, "it is no ONNX graph"),
        ({"readme__txt": b"hello"}, r"neither an ONNX graph nor a package of Tidemill, but readme\.txt"),
        ({"a__onnx": graph([0, 1, 2]), "b__onnx": graph([0, 1, 2])}, "it holds several graphs"),
        ({"config__json": b"{}", "w__safetensors": b""}, "as a recipe's `init`"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    project: tidemill.Project, mirrored: Any, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    models = len(project.models())
    logged(mirrored, tmp_path, "strange", **files)
    with pytest.raises(PackageError, match=said):
        project.mlflow_import("strange")
    assert len(project.models()) == models and not list((project.store.root / "work").glob("mlflow-*"))


def test_names_that_are_not_there(project: tidemill.Project, mirrored: Any) -> None:
    for which in ("nobody", "irises@nobody", "irises/999"):
        with pytest.raises(NotFoundError, match=r"MLflow has no model.*irises"):
            project.mlflow_import(which)
    with pytest.raises(ConflictError, match="one of this project's own models"):
        project.mlflow_import("irises@champion")


def test_a_package_of_another_project_is_taken_as_it_is(
    new_project: Callable[..., tidemill.Project], project: tidemill.Project, mirrored: Any, uri: str
) -> None:
    other = new_project(uri, "others")
    champion = project.champion_deployment().model_id
    done = other.mlflow_import("irises@champion")
    assert done["model"] == champion and champion in {model["id"] for model in other.models()}
    x, _ = load_iris(return_X_y=True)
    rows = [dict(zip((f.name for f in project.signature.inputs), row.tolist(), strict=True)) for row in x[::10]]
    assert other.predict(rows, model=champion) == project.predict(rows)


def test_without_an_address_the_setting_is_named(tmp_path: Path) -> None:
    project = tidemill.init(tmp_path, data="sklearn:iris", target="target")
    with contextlib.closing(project.store), pytest.raises(ConfigError, match=r"mlflow\.uri"):
        project.mlflow_sync()


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "databricks"])
def test_an_address_that_mlflow_does_not_have_is_refused_in_the_settings(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="must be a server such as"):
        tidemill.init(tmp_path, data="sklearn:iris", target="target", mlflow={"uri": uri})


def test_the_commands(project: tidemill.Project, mirrored: Any, uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings = project.dir / "tidemill.yaml"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub(r"(?m)^  uri: .*$", f"  uri: {uri}", before), encoding="utf-8")
    said = {}
    for words in (["sync"], ["status"], ["import", "nobody"]):
        with pytest.raises(SystemExit) as left:
            main(["mlflow", *words, "-C", str(project.dir), "--json"])
        out = capfd.readouterr().out
        said[words[0]] = left.value.code, json.loads(out)
    settings.write_text(before, encoding="utf-8")
    assert said["sync"][0] == 0 and said["sync"][1]["waiting"] == 0
    assert said["status"][1]["delivered"] == project.store.count(Delivery, status="done")
    assert said["import"][0] == 2 and "no model 'nobody'" in said["import"][1]["error"]["what"]
