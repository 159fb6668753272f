"""``tidemill predict``."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import complete, inputs
from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import answers as shown
from tidemill.cli.show.layout import visible
from tidemill.cli.show.progress import progress
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.api import Project
    from tidemill.data.rows import Row
    from tidemill.data.schema import Signature

BATCH = 500  # rows that are answered at once


def predict(
    session: Session,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="One row: a value for each field. An image is a file's path; a lone text is the text.",
            autocompletion=complete.fields,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="Many rows: CSV, JSONL, Parquet, a folder or zip of images or texts."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="A model's id; the champion unless given.", autocompletion=complete.models
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Answer all rows of --file in this one: .csv, .jsonl or .parquet."
        ),
    ] = None,
    keep_inputs: Annotated[
        bool, typer.Option("--keep-inputs", help="With --output: write every column of the rows before the answer.")
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="With --output: write the probability of each label, too.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="COLUMN", help="With --output: a column that is no input; may be repeated."),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="With --output: name rows that do not fit in FILE.rejects.jsonl, and go on."),
    ] = False,
) -> None:
    """Answer with the champion.

    One row from arguments, rows from a file, or from stdin: JSON lines, or for a project of one text field the text
    itself. An argument @FILE, or NAME=@FILE, reads a text from a file.

    On a terminal one row is shown with bars. Elsewhere, and for many rows, it is one line a row, with tabs between: the
    label and its probability (of an abstention also the guess), the labels, or the value and its interval; then where
    the row stood. These answers are not journaled: feedback belongs to those of `tidemill serve`.

    With --output any number of rows is answered in a file, in little memory; when that was interrupted, the same
    command goes on from there.
    """
    if output is not None:
        _into_file(session, values, file, output, model, keep_inputs, scores, ignore or [], skip_bad)
        return
    flags = {"--keep-inputs": keep_inputs, "--scores": scores, "--ignore": ignore, "--skip-bad": skip_bad}
    if given := [flag for flag, value in flags.items() if value]:
        raise InputError("it says how a file is written", where=given[0], mend="Give --output, too.")
    project = session.project
    signature = _signature(project, model)
    if values and file is not None:
        raise InputError("rows are given twice", where="--file", mend="Give NAME=VALUE or --file, not both.")
    if values:
        rows = iter([inputs.from_arguments(values, signature)])
    elif file is not None:
        rows = inputs.from_file(file, signature, project.config)
    elif not sys.stdin.isatty():
        rows = inputs.from_stdin(sys.stdin.buffer, signature)
    else:
        raise InputError("no row is given", mend="Give NAME=VALUE, --file, or JSON lines on stdin.")
    pretty = bool(values) and not session.json and session.out.is_terminal
    answers: list[dict[str, Any]] = []
    rows = inputs.limited(rows, project.config)
    while batch := list(itertools.islice(rows, BATCH)):
        for row, answer in zip(batch, _answers(project, batch, model), strict=True):
            if session.json:
                answers.append(answer if row.origin is None else {**answer, "origin": row.origin})
            elif pretty:
                session.out.print(shown.panel(answer))
            else:
                session.stdout.write(visible("\t".join(filter(None, [shown.line(answer), row.origin]))) + "\n")
    if session.json:
        session.answer({"model": project.model(model).id, "predictions": answers}, lambda _: None)


def _into_file(
    session: Session,
    values: list[str] | None,
    file: str | None,
    output: Path,
    model: str | None,
    keep_inputs: bool,
    scores: bool,
    ignore: list[str],
    skip_bad: bool,
) -> None:
    if file is None or values:
        raise InputError(
            "--output answers the rows of a file", where="--output", mend="Give --file, and no NAME=VALUE."
        )
    with progress(session) as listen:
        done = session.project.predict_file(
            file,
            output,
            model=model,
            keep_inputs=keep_inputs,
            scores=scores,
            ignore=ignore,
            skip_bad=skip_bad,
            on_event=listen,
        )
    if done["resumed"]:
        session.note(f"went on after row {done['resumed']:,}, with {done['model']}, which had begun")
    session.answer(done, _said)


def _said(done: dict[str, Any]) -> str:
    said = f"{done['rows']:,} rows answered in {visible(done['output'])}"
    return said if done["rejects"] is None else f"{said}; {done['rejected']:,} left out: {visible(done['rejects'])}"


def _signature(project: Project, model: str | None) -> Signature:
    """The inputs of the model that answers: those of the data may have changed since it was made."""
    from tidemill.data.schema import Signature
    from tidemill.packages import read_manifest

    return Signature.from_json(read_manifest(project.store.root / project.model(model).path).signature)


def _answers(project: Project, rows: list[Row], model: str | None) -> list[dict[str, Any]]:
    """The answers; a row that does not fit is named by where it stood in the file."""
    try:
        return project.predict([dict(row) for row in rows], model=model)
    except InputError:
        for row in rows:
            try:
                project.predict([dict(row)], model=model)
            except InputError as error:
                where = ", ".join(part for part in (row.origin, error.where) if part is not None)
                raise type(error)(error.what, where=where or None, mend=error.mend) from None
        raise


COMMAND = Command(
    run=predict,
    panel="Use",
    stopped="stopped; what --output has answered is kept, and the same command goes on from there",
    examples=(
        "predict image=digit.png",
        "predict age=39 workclass=State-gov hours-per-week=40",
        'predict "Win a prize, call now"',
        "predict text=@letter.txt",
        "predict --file rows.csv --json",
        "predict --file rows.parquet --output answers.parquet --keep-inputs",
    ),
)
