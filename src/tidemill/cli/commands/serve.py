"""``tidemill serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout

Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; beyond this machine only once there is a token.")
]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")]
Certificate = Annotated[
    Path | None, typer.Option("--tls-certificate", metavar="FILE", help="PEM file with the certificate, for HTTPS.")
]
Key = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM file with its private key.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, max=256, metavar="N", help="Processes that answer.")]
LogJson = Annotated[bool, typer.Option("--log-json", metavar="", help="A line of JSON a request on stderr.")]


def serve(
    session: Session,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    log_json: LogJson = False,
) -> None:
    """Serve the champion over HTTP.

    Follows the store: a promotion or rollback swaps the model without a restart, and a line says so. Every answer is in
    the journal, and every piece of feedback in the store, before it leaves. Ctrl-C ends it.
    """
    given = settings(host, port, workers, tls_certificate, tls_key, log_json=log_json)
    say = notes(session, given)
    session.project.serve(on_ready=lambda bound: say_ready(session, given, bound), on_swap=swaps(say), **given)


def settings(
    host: str | None,
    port: int | None,
    workers: int | None,
    certificate: Path | None,
    key: Path | None,
    *,
    log_json: bool,
) -> dict[str, Any]:
    """The options as keys of ``serve``; ``None`` where the file decides."""
    return {
        "host": host,
        "port": port,
        "workers": workers,
        "tls_certificate": None if certificate is None else str(certificate.absolute()),
        "tls_key": None if key is None else str(key.absolute()),
        "log": "json" if log_json else None,
    }


def notes(session: Session, given: dict[str, Any]) -> Callable[[str], None]:
    """Where what happens is told: among the lines of the log, if there is one."""
    if session.project.serve_settings(**given).log is None:
        return session.note
    import logging

    return logging.getLogger("tidemill.serving").info


def swaps(tell: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
    """Says of each model that is taken up which one it is, and why."""
    before: list[str] = []

    def say(deployment: dict[str, Any]) -> None:
        model = deployment["model_id"]
        verb = "swapped to" if before else "model"
        said = {"promote": "promoted", "rollback": "put back"}[deployment["action"]]
        tell(f"{verb} {model}, {said}: {deployment['reason']}")
        before.append(model)

    return say


def say_ready(session: Session, given: dict[str, Any], port: int) -> None:
    """Where the service listens, once it does."""
    from tidemill.serving.guard import is_loopback

    chosen = session.project.serve_settings(**given)
    name = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    url = f"{'https' if chosen.tls_certificate else 'http'}://{name}:{port}"
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
    if not is_loopback(chosen.host) and chosen.tls_certificate is None:
        notes(session, given)("without TLS, tokens and inputs can be read on their way; see docs/security.md")


COMMAND = Command(
    run=serve,
    panel="Use",
    stopped_code=0,
    examples=(
        "serve",
        "serve --port 0",
        "serve --workers 4",
        "serve --host 0.0.0.0 --tls-certificate tide.pem --tls-key tide.key",
    ),
)
