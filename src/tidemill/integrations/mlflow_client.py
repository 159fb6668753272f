"""MLflow opened: a tracking server or a database, with limits on how long it may take, and faults in our own words."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidemill.config import Mlflow
from tidemill.errors import ConfigError, ExtraMissingError, ServiceError, TidemillError

_REFUSALS = frozenset(
    {
        *("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "PERMISSION_DENIED", "UNAUTHENTICATED"),
        *("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "NOT_FOUND", "ENDPOINT_NOT_FOUND"),
    }
)
"""Error codes of MLflow that say that it heard, and will not; with all others it was not to be reached."""


class RefusedError(Exception):
    """MLflow answered, and refuses what was asked; asking again is of little use."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A client, and what it works on.

    Attributes:
        client: MLflow's own client.
        experiment: the experiment's id.
        name: of the registered model.
        where: the address as it may be shown.
    """

    client: Any
    experiment: str
    name: str
    where: str


def shown(uri: str) -> str:
    """An address without its password.

    >>> shown("http://ann:secret@tide.example:5000"), shown("sqlite:///mlflow.db")
    ('http://tide.example:5000', 'sqlite:///mlflow.db')
    """
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.username else uri


def address(config: Mlflow, folder: Path) -> str:
    """The address with a relative path of SQLite made absolute against *folder*.

    Raises:
        ConfigError: ``tidemill.yaml`` names none.
    """
    if config.uri is None:
        raise ConfigError(
            "no MLflow is named", where="mlflow.uri", mend="Write uri under mlflow, such as sqlite:///mlflow.db."
        )
    scheme, found, path = config.uri.partition(":///")
    if found and scheme.startswith("sqlite") and not path.startswith("/"):
        return f"{scheme}:///{folder / path}"
    return config.uri


@contextlib.contextmanager
def opened(config: Mlflow, folder: Path) -> Iterator[Opened]:
    """MLflow, ready for use; what it raises inside becomes one of the errors below.

    Args:
        config: address, names and patience.
        folder: the project's; the experiment and the registered model are called as it is, unless they are named.

    Raises:
        ConfigError: no address, or the experiment of that name was deleted over there.
        ExtraMissingError: mlflow is not installed.
        ServiceError: it is away, does not answer in time, or failed.
        RefusedError: it refuses what is asked.
    """
    uri = address(config, folder)
    with quiet(config.timeout_s), translated(uri):
        client = _imported().MlflowClient(tracking_uri=uri, registry_uri=uri)
        name = config.experiment or folder.name
        experiment = _experiment(client, uri, name, folder)
        yield Opened(client, experiment, config.model or name, shown(uri))


def _imported() -> Any:
    """MLflow's package: a second or two the first time; so many modules are nothing for type checking."""
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise ExtraMissingError(
            "MLflow needs the package `mlflow`.", where="mlflow", mend="pip install 'tidemill[mlflow]'."
        ) from error


def _experiment(client: Any, uri: str, name: str, folder: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # a database knows no place for files; beside it, not wherever the program was started
        place = None if uri.startswith("http") else (folder / "mlartifacts").as_uri()
        return str(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the experiment {name!r} was deleted in MLflow",
            where=shown(uri),
            mend="Restore it there, or name another one: mlflow.experiment.",
        )
    return str(found.experiment_id)


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow raises inside into errors of ours.

    Raises:
        ServiceError: it is away, or failed.
        RefusedError: it refuses what is asked.
    """
    kind: type[Exception] = importlib.import_module("mlflow.exceptions").MlflowException if _there() else OSError
    try:
        yield
    except (TidemillError, RefusedError):
        raise
    except kind as error:
        said = (str(error).splitlines() or [""])[0][:300]
        if getattr(error, "error_code", "") in _REFUSALS:
            raise RefusedError(said) from error
        raise away(uri, said) from error
    except OSError as error:  # the artifacts' store; also what `requests` raises
        raise away(uri, (str(error).splitlines() or [""])[0][:300]) from error


def away(uri: str, said: str) -> ServiceError:
    """The error that says that MLflow is not to be reached."""
    return ServiceError(
        f"MLflow does not answer ({said})",
        where=shown(uri),
        mend="Nothing is lost: what is waiting is delivered by `tidemill mlflow sync` once it is back.",
    )


def _there() -> bool:
    return importlib.util.find_spec("mlflow") is not None


@contextlib.contextmanager
def quiet(timeout: float) -> Iterator[None]:
    """While inside, MLflow asks once, waits *timeout* seconds, reports its use to nobody, and keeps its notes."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    before = {name: os.environ.get(name) for name in wanted}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(wanted)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
