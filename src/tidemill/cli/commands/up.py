"""``tidemill up``."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.serve import (
    Certificate,
    Host,
    Key,
    LogJson,
    Port,
    Workers,
    notes,
    say_ready,
    settings,
    swaps,
)
from tidemill.cli.session import Session


def up(
    session: Session,
    after_labels: Annotated[
        int | None, typer.Option("--after-labels", min=1, metavar="N", help="New labels that start a cycle.")
    ] = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    log_json: LogJson = False,
) -> None:
    """Serve, and start cycles when there is reason to.

    The whole loop by itself: after new labels, at scheduled times, when traffic drifts or live quality falls, a cycle
    runs beside the service, and a better challenger is promoted and swapped in while requests go on. Ctrl-C ends it.
    """
    given = settings(host, port, workers, tls_certificate, tls_key, log_json=log_json)
    say = notes(session, given)
    session.project.up(
        after_labels=after_labels,
        on_ready=lambda bound: say_ready(session, given, bound),
        on_swap=swaps(say),
        on_event=lambda event: say(str(event["what"])),
        **given,
    )


COMMAND = Command(run=up, panel="Use", stopped_code=0, examples=("up", "up --after-labels 50"))
