"""``tidemill models``."""

from __future__ import annotations

from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def models(session: Session) -> None:
    """List the models, the newest first.

    The champion has a star.
    """
    metric = session.project.task.metric
    session.answer(session.project.models(), lambda rows: _view(rows, metric))


def _view(rows: list[dict[str, Any]], metric: str) -> Any:
    if not rows:
        return layout.line("no models yet; `tidemill cycle` makes some")
    return layout.table(
        ["", "model", "recipe", f">validation {metric}", ">size", "made"],
        [
            (
                "★" if m["champion"] else "",
                m["id"],
                m["recipe"],
                units.quality(m["metrics"].get("validation", {}).get(metric), metric),
                units.size(m["size_bytes"]),
                units.ago(m["created"]),
            )
            for m in rows
        ],
    )


COMMAND = Command(run=models, panel="Look", examples=("models",))
