"""``tidemill learn-class``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.feedback import Author, default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout

if TYPE_CHECKING:
    from tidemill.data.rows import Row

EXIT_REFUSED = 1


def learn_class(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The class, as it shall be answered.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Its samples: a file each, or files of rows (.jsonl, .csv, .parquet)."),
    ],
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; it stays in the history.")
    ] = None,
    author: Author = None,
) -> None:
    """Teach the model that serves one class more, from about five samples.

    Takes seconds: the model stays as it is, and what it learns stands beside it as a snapshot. The gate decides: the
    old classes must not suffer for it, and each sample must be recognised by what the others teach. A running service
    takes it up without a restart; `tidemill rollback` undoes it; the next cycle trains on the samples. The exit code is
    1 when the gate refuses it.
    """
    rows: list[Row] = [row for path in files for row in _rows(session, path)]
    done = session.project.learn_class(name, rows, author=author or default_author(), reason=reason)
    session.answer(done, _view)
    if done["deployment"] is None:
        session.exit_code = EXIT_REFUSED


def _rows(session: Session, path: Path) -> list[Row]:
    """The samples of a file: one that is a picture or a text is one sample, one of rows has several."""
    from tidemill.cli.inputs import from_arguments, from_file
    from tidemill.errors import NotFoundError

    if not path.is_file():
        raise NotFoundError("there is no such file", where=str(path), mend="Check the path.")
    signature = session.project.signature
    if path.suffix.lower() in (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"):
        return list(from_file(str(path), signature, session.project.config))
    lone = [field.type for field in signature.inputs]
    return [from_arguments([f"@{path}" if lone == ["text"] else str(path)], signature)]


def _view(data: dict[str, Any]) -> Any:
    decision = data["decision"]
    good = data["deployment"] is not None
    return layout.stack(
        layout.panel(decision["reason"], title="learned" if good else "refused", good=good),
        layout.pairs([("class", data["class"]), ("model", data["model"]), ("state", data["state"] or "none")]),
    )


COMMAND = Command(
    run=learn_class,
    panel="Learn",
    examples=("learn-class seal seal1.png seal2.png seal3.png seal4.png seal5.png", "learn-class fraud fraud.csv"),
)
