"""``tidemill demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.progress import progress


def demo(
    session: Session,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The project it leaves; must be new or empty.")
    ] = Path("demo-project"),
) -> None:
    """Run the whole loop on real handwritten digits.

    Learn, serve, take feedback, become better, and refuse what is worse: three cycles in about a minute.
    """
    from tidemill.api.demo import run

    with progress(session) as listener:
        data = run(folder, listener)
    session.answer(data, _view)


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.table(
            [">cycle", "recipe", ">reference", ">recent", ">latency", ">size", "decision"],
            [
                (
                    str(c["cycle"]),
                    c["recipe"],
                    units.quality(c.get("reference")),
                    units.quality(c.get("recent")),
                    units.plain("latency_ms", c.get("latency_ms")),
                    units.size(c.get("size_bytes")),
                    f"{c['outcome']}: {c['reason']}",
                )
                for c in data["cycles"]
            ],
        ),
        layout.pairs([("project", str(data["folder"]))]),
        layout.following(data.get("next") or ()),
    )


COMMAND = Command(run=demo, panel="Begin", in_project=False, examples=("demo", "demo --dir /tmp/digits"))
