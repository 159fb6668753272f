"""What an engine is: it runs an importable function with JSON arguments somewhere else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from tidemill.errors import NotFoundError


class Job(Protocol):
    """Work under way."""

    def poll(self) -> int | None:
        """The exit status, or ``None`` while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status."""

    def stop(self) -> None:
        """Ask it to end cleanly, as Ctrl-C does."""

    def result(self) -> Any:
        """What the function returned, as JSON.

        Raises:
            TidemillError: the function raised it.
        """


class Engine(Protocol):
    """A place where work runs."""

    def submit(self, target: str, arguments: dict[str, Any]) -> Job:
        """Start ``module:function`` with keyword *arguments*."""


def resolve(target: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.

    >>> resolve("math:sqrt")(9)
    3.0
    """
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotFoundError(f"there is no function {target!r}: {error}") from error
    return function
