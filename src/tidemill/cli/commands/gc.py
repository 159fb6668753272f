"""``tidemill gc``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def gc(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would go.")] = False,
) -> None:
    """Remove what nobody needs.

    Old models, caches and predictions, by the policy under `keep:` in tidemill.yaml. Champions always stay.
    """
    session.answer(session.project.gc(dry_run=dry_run), _view)


def _view(data: dict[str, Any]) -> Any:
    verb = "would remove" if data["dry_run"] else "removed"
    folders = data["removed"]
    return layout.stack(
        layout.pairs(
            [
                (
                    verb,
                    f"{units.count(len(folders), 'folder')}, {units.count(data['predictions'], 'prediction')}: "
                    f"{units.size(data['bytes'])}",
                ),
                ("in use", f"{units.size(data['used_bytes'])} of {units.size(data['quota_bytes'])}"),
            ]
        ),
        layout.line("over the quota: lower keep.models, or raise limits.quota_gb") if data["over_quota"] else None,
    )


COMMAND = Command(run=gc, panel="Look", examples=("gc --dry-run", "gc"))
