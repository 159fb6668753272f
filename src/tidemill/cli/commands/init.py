"""``tidemill init``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli import complete
from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.errors import InputError


def init(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new project's folder; made when it is not there.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="SPEC",
            help="A file, a folder, a pattern such as 'logs/*.jsonl', an id such as sklearn:digits or hf:imdb, or a "
            "database URL with a query; may repeat.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="The column to predict; unless given, the one named like one."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="What is to be learned; inferred unless given.",
            autocompletion=complete.tasks,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="LABEL", help="A label that the data does not show yet; may repeat."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="COLUMN", help="A column to leave out, such as an id; may repeat."),
    ] = None,
    weight: Annotated[
        str | None, typer.Option("--weight", metavar="COLUMN", help="The column that says how much each sample counts.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Where the tables are kept, such as postgresql://user@host/name; a SQLite file in .tidemill unless "
            "given.",
        ),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            "--cost", metavar="TRUE:ANSWERED=COST", help="What a wrong answer costs, where it is not 1; may repeat."
        ),
    ] = None,
    abstain_cost: Annotated[
        float | None,
        typer.Option("--abstain-cost", min=0, metavar="COST", help="What it costs to give no answer; then it may."),
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(
            "--min-precision", metavar="SHARE", help="Share of answers that must be right; where unsure, none is given."
        ),
    ] = None,
) -> None:
    """Make a project from data.

    Infers the task, says why, and writes tidemill.yaml. The data stays where it is. Another task can be named with
    --task: one of several labels, any number of them, or a number, for images, texts and tables.
    """
    from tidemill.project import start_project

    decision = {"costs": costs(cost or ()), "abstain_cost": abstain_cost, "min_precision": min_precision}
    asked = {key: value for key, value in decision.items() if value not in (None, {})}
    given = {"ignore": ignore, "weight": weight, "store": store, "decision": asked}
    settings = {key: value for key, value in given.items() if value}
    started = start_project(folder, data=data, target=target, task=task, labels=label or (), **settings)
    told = {key: value for key, value in settings.items() if key != "store"}  # a password may stand in it
    found = {**dataclasses.asdict(started), "folder": str(started.folder), "data": data, **told}
    place = shlex.quote(str(folder))
    session.answer({**found, "next": [f"tidemill plan -C {place}", f"tidemill cycle -C {place}"]}, _view)


def costs(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """``TRUE:ANSWERED=COST`` as ``{TRUE: {ANSWERED: cost}}``.

    >>> costs(["spam:ham=1", "ham:spam=10"])
    {'spam': {'ham': 1.0}, 'ham': {'spam': 10.0}}
    """
    found: dict[str, dict[str, float]] = {}
    for text in texts:
        pair, _, number = text.rpartition("=")
        true, colon, answered = pair.partition(":")
        if not (true and colon and answered) or ":" in answered:
            raise InputError(
                f"{text!r} is not TRUE:ANSWERED=COST",
                where="--cost",
                mend="Write it like spam:ham=1; labels with a colon belong under `decision` in tidemill.yaml.",
            )
        if answered in found.get(true, {}):
            raise InputError(f"{pair!r} is given twice", where="--cost", mend="Give each pair once.")
        try:
            found.setdefault(true, {})[answered] = float(number)
        except ValueError:
            raise InputError(f"the cost {number!r} is not a number", where="--cost", mend="Give a number.") from None
    return found


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("project", data["folder"]),
                ("task", f"{data['task']}: {data['reason']}"),
                ("data", f"{', '.join(data['data'])} ({units.count(data['rows'], 'row')})"),
                ("inputs", _some(data["inputs"])),
                ("target", data["target"]),
                *([("weight", data["weight"])] if "weight" in data else []),
                *([("decision", _decision(data["decision"]))] if "decision" in data else []),
                *(("note", note) for note in data["notes"]),
            ]
        ),
        layout.following(data["next"]),
    )


def _decision(rule: dict[str, Any]) -> str:
    parts = [
        f"{answered} where {true} is right costs {cost:g}"
        for true, row in rule.get("costs", {}).items()
        for answered, cost in row.items()
    ]
    if "abstain_cost" in rule:
        parts.append(f"no answer costs {rule['abstain_cost']:g}")
    if "min_precision" in rule:
        parts.append(f"{units.percent(rule['min_precision'])} of the answers given must be right")
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


COMMAND = Command(
    run=init,
    panel="Begin",
    in_project=False,
    examples=(
        "init digits --data sklearn:digits --target label",
        "init mails --data mails.jsonl --target kind --label spam --label wanted",
        "init census --data adult-train.csv --data adult-test.csv --target income",
        "init houses --data housing.csv --target median_house_value --ignore house_id",
        "init parcels --data parcels.csv --target carrier --store postgresql://tidemill@db.example/parcels",
        "init topics --data 'news/*.jsonl' --target topic",
        "init shield --data sms.csv --target label --cost ham:spam=10 --abstain-cost 0.2",
    ),
)
