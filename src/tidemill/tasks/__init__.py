"""Tasks, one file an application.

They are found by file in this folder, by the entry-point group ``tidemill.tasks``, and in the files that a project
names under ``tasks``; each is imported on first use, so a missing extra breaks one task and not the program.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from tidemill.errors import ConfigError, NotFoundError
from tidemill.tasks._base import Claim, Task
from tidemill.tasks._classification import ClassificationTask
from tidemill.tasks._multilabel import MultilabelTask
from tidemill.tasks._rule import answer_spec, cost_matrix, metric_of, selection_of, stated_spec

__all__ = [
    "Claim",
    "ClassificationTask",
    "MultilabelTask",
    "Task",
    "answer_spec",
    "cost_matrix",
    "get_task",
    "load_file",
    "metric_of",
    "selection_of",
    "stated_spec",
    "task_names",
]


def _found(files: Sequence[Path]) -> dict[str, Callable[[], ModuleType]]:
    found: dict[str, Callable[[], ModuleType]] = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = f"{__name__}.{info.name}"
            found[info.name.replace("_", "-")] = partial(importlib.import_module, module)
    for entry in entry_points(group="tidemill.tasks"):
        found[entry.name] = partial(importlib.import_module, entry.module)
    for file in files:
        found[file.stem.replace("_", "-")] = partial(load_file, file)
    return found


def load_file(path: Path) -> ModuleType:
    """Import one of the project's own Python files.

    Raises:
        ConfigError: the file is missing, or fails while it is imported.
    """
    name = f"tidemill_project_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path} is no Python file", mend="Mend the path in tidemill.yaml.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{type(error).__name__}: {error}", where=str(path), mend="Mend this file.") from error
    return module


def task_names(files: Sequence[Path] = ()) -> list[str]:
    """The names of all tasks that can be asked for, without importing any."""
    return sorted(_found(files))


def get_task(name: str, files: Sequence[Path] = ()) -> Task:
    """The task of that name.

    Args:
        name: for example ``image-classification``.
        files: Python files of the project that define tasks of its own; a file's name is its task's name.

    Raises:
        NotFoundError: no such task; names the nearest.
        ConfigError: the file defines no subclass of :class:`Task` with that name.

    >>> get_task("tabular-classification").metric
    'accuracy'
    """
    found = _found(files)
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known tasks: {', '.join(sorted(found))}."
        raise NotFoundError(f"there is no task {name!r}", mend=hint)
    module = found[name]()
    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, Task) and not inspect.isabstract(member) and getattr(member, "name", None) == name:
            return member()
    raise ConfigError(
        f"it defines no task named {name!r}",
        where=str(module.__file__),
        mend=f"Define a subclass of tidemill.tasks.Task in it with name = {name!r}.",
    )
