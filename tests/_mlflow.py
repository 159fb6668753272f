"""What the tests of MLflow share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import tidemill
from tidemill.config import changed
from tidemill.integrations.mlflow_client import quiet


def at(project: tidemill.Project, uri: str) -> None:
    """Give the project another MLflow."""
    project.config = changed(project.config, "mlflow", {"uri": uri})


def client(uri: str) -> Any:
    """MLflow's own client, which tells what is there."""
    with quiet(10):
        return importlib.import_module("mlflow").MlflowClient(tracking_uri=uri, registry_uri=uri)


def registered(of: Any, name: str, folder: Path) -> None:
    """Register the files of a folder as a model's next version, as anybody's program would."""
    with quiet(10):
        experiment = of.get_experiment_by_name("others")
        place = (folder.parent / "others").as_uri()
        number = experiment.experiment_id if experiment else of.create_experiment("others", artifact_location=place)
        run = of.create_run(number)
        of.log_artifacts(run.info.run_id, str(folder), "model")
        if not of.search_registered_models(f"name = '{name}'"):
            of.create_registered_model(name)
        of.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
