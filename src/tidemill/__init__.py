"""Tidemill: a closed-loop machine-learning system.

>>> import tempfile, tidemill
>>> flower = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
>>> with tempfile.TemporaryDirectory() as folder:
...     project = tidemill.init(folder, data="sklearn:iris")
...     decision = project.cycle(max_trials=1)["decision"]
...     answer = project.predict(flower)[0]
>>> decision["outcome"], answer["label"]
('promoted', 'setosa')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill import errors
    from tidemill.api import Project, init, restore
    from tidemill.api import open_project as open  # noqa: A004 - tidemill.open(dir) reads as it should
    from tidemill.client import AsyncClient, Client
    from tidemill.project import recipe
    from tidemill.runtime import Predictor, load
    from tidemill.tasks import Task

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "Client",
    "Predictor",
    "Project",
    "Task",
    "__version__",
    "errors",
    "init",
    "load",
    "open",
    "recipe",
    "restore",
]

# Resolved on first use, so that `tidemill --help` need not wait for what it does not run.
_WHERE = {
    "AsyncClient": ("tidemill.client", "AsyncClient"),
    "Client": ("tidemill.client", "Client"),
    "Predictor": ("tidemill.runtime", "Predictor"),
    "Project": ("tidemill.api", "Project"),
    "Task": ("tidemill.tasks", "Task"),
    "init": ("tidemill.api", "init"),
    "load": ("tidemill.runtime", "load"),
    "open": ("tidemill.api", "open_project"),
    "recipe": ("tidemill.project", "recipe"),
    "restore": ("tidemill.api", "restore"),
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("tidemill.errors")
    if name not in _WHERE:
        raise AttributeError(f"module 'tidemill' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
