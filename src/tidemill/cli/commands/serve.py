"""``tidemill serve``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on; loopback only.")]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")]


def serve(session: Session, host: Host = None, port: Port = None) -> None:
    """Serve the champion over HTTP.

    Follows the store: a promotion or rollback swaps the model without a restart, and a line says so. Every answer is in
    the journal, and every piece of feedback in the store, before it leaves. Ctrl-C ends it.
    """
    session.project.serve(
        host=host, port=port, on_ready=lambda bound: say_ready(session, host, bound), on_swap=swaps(session)
    )


def swaps(session: Session) -> Callable[[dict[str, Any]], None]:
    """Says of each model that is taken up which one it is, and why."""
    before: list[str] = []

    def say(deployment: dict[str, Any]) -> None:
        model = deployment["model_id"]
        verb = "swapped to" if before else "model"
        said = {"promote": "promoted", "rollback": "put back"}[deployment["action"]]
        session.note(f"{verb} {model}, {said}: {deployment['reason']}")
        before.append(model)

    return say


def say_ready(session: Session, host: str | None, port: int) -> None:
    """Where the service listens, once it does."""
    name = host or session.project.config.serve.host
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
    session.answer(
        {"url": url, "docs": f"{url}/docs"},
        lambda data: layout.pairs(
            [
                ("serving", data["url"]),
                ("docs", data["docs"]),
                ("try", f"curl {url}/v1/models"),
                ("end", "Ctrl-C"),
            ]
        ),
    )


COMMAND = Command(run=serve, panel="Use", stopped_code=0, examples=("serve", "serve --port 0"))
