"""Which backups were made of a project, and where: they cannot be edited, so whoever erases has to name them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import orjson

from tidemill.data.profile import write_json

NOTES = "backups.json"
"""Below the store's root: ``[{"path", "created"}]``."""


def note_backup(root: Path, path: Path, created: float) -> None:
    """Note where a backup is about to be written, for whoever has to say later what still holds something."""
    write_json(root / NOTES, [*backups(root), {"path": str(path), "created": created}])


def backups(root: Path, before: float = math.inf) -> list[dict[str, Any]]:
    """The backups that were begun before a moment, and are still where they were written."""
    path = root / NOTES
    noted: list[dict[str, Any]] = orjson.loads(path.read_bytes()) if path.is_file() else []
    return [one for one in noted if one["created"] < before and Path(one["path"]).exists()]
