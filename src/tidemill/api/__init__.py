"""The public Python facade behind ``import tidemill``."""

from __future__ import annotations

from tidemill.api.opening import init, open_project, restore
from tidemill.api.project import Project

__all__ = ["Project", "init", "open_project", "restore"]
