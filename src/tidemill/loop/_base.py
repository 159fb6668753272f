"""What a cycle is given, and how it tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidemill.config import Config
from tidemill.data.schema import Signature
from tidemill.records import Recipe
from tidemill.store import Store
from tidemill.tasks import Task

OnEvent = Callable[[dict[str, Any]], None]
"""Told what happens: ``{"stage", "what", "done", "total", "recipe"}``, the last three where they make sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What does not change during a cycle.

    Attributes:
        sources: paths and ids of the data, ready to be opened.
        recipes: what is tried for a signature, baselines first.
        threads: CPU threads that training may use.
    """

    store: Store
    task: Task
    config: Config
    sources: tuple[str, ...]
    recipes: Callable[[Signature], tuple[Recipe, ...]]
    threads: int


def unheard(_event: dict[str, Any]) -> None:
    """Nobody listens."""
