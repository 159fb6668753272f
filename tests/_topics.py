"""A small project on the topics of texts, which several tests ask questions about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tidemill


def topics_project(folder: Path, rows: Iterable[str]) -> tidemill.Project:
    """A project below *folder* on lines ``text,topic``, after one quick cycle."""
    (folder / "a.csv").write_text("text,topic\n" + "\n".join(rows) + "\n")
    project = tidemill.init(
        folder / "p", data=folder / "a.csv", target="topic", task="text-classification", recipes={"include": ["ridge"]}
    )
    project.cycle(max_trials=0, max_epochs=1)
    return project
