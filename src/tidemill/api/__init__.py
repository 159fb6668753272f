"""The public Python facade behind ``import tidemill``."""

from __future__ import annotations

from tidemill.api.project import Project, init, open_project, restore

__all__ = ["Project", "init", "open_project", "restore"]
