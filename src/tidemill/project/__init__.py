"""An opened project, and the verbs that need neither a cycle nor a server."""

from __future__ import annotations

from tidemill.project.opened import STATE, OpenProject
from tidemill.project.recipes import recipe
from tidemill.project.starting import Started, choose_task, start_project

__all__ = ["STATE", "OpenProject", "Started", "choose_task", "recipe", "start_project"]
