"""``tidemill plan``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units

BUDGET = typer.Option("--budget", metavar="TIME", help="Length of training and tuning, such as 60s, 5m or 1h.")
TRIALS = typer.Option("--max-trials", min=0, metavar="N", help="Most trials of one recipe's search; 0 tunes nothing.")
EPOCHS = typer.Option("--max-epochs", min=1, metavar="N", help="Most passes over the training data.")
Budget = Annotated[str | None, BUDGET]
Trials = Annotated[int | None, TRIALS]
Epochs = Annotated[int | None, EPOCHS]


def plan(session: Session, budget: Budget = None, max_trials: Trials = None, max_epochs: Epochs = None) -> None:
    """Say what a cycle would do.

    Its recipes, time, memory and disk; nothing is changed.
    """
    session.answer(session.project.plan(budget=budget, max_trials=max_trials, max_epochs=max_epochs), _view)


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("task", data["task"]),
                ("judged by", units.metric_column(data["metric"])),
                *(("source", f"{s['source']}  {units.count(s['rows'], 'row')}") for s in data["sources"]),
                *(("note", note) for source in data["sources"] for note in source["notes"]),
                *(("note", note) for note in data["notes"]),
                ("inputs", units.count(len(data["inputs"]))),
                ("labelled", f"{units.count(data['labelled'])} of {units.count(data['rows'], 'row')}"),
            ]
        ),
        _recipes(data["recipes"]),
        layout.pairs(
            [
                ("time", units.seconds(data.get("seconds"))),
                ("memory", units.size(data.get("memory_bytes"))),
                ("disk", units.size(data.get("disk_bytes"))),
            ]
        ),
    )


def _recipes(recipes: list[dict[str, Any]]) -> Any:
    """A row a recipe; ``time`` is that of one trial, ``share`` what it brings into the race for a budget."""
    shared = any(r.get("share") is not None for r in recipes)
    share = [">share"] if shared else []
    return layout.table(
        ["recipe", "learner", "reads", ">trials", ">epochs", ">time", *share, "role"],
        [
            (
                r["name"],
                r["learner"],
                " + ".join(r["features"]),
                units.count(r.get("trials")),
                units.count(r.get("max_epochs")),
                units.seconds(r.get("seconds")),
                *([units.seconds(r.get("share"))] if shared else []),
                "baseline" if r.get("baseline") else "" if r.get("trials") else "left out",
            )
            for r in recipes
        ],
    )


COMMAND = Command(run=plan, panel="Learn", examples=("plan", "plan --budget 5m --json"))
