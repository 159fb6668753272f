"""``tidemill cycle``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.plan import Budget, Epochs, Trials
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import score
from tidemill.cli.show.progress import progress


def cycle(
    session: Session,
    budget: Budget = None,
    max_trials: Trials = None,
    max_epochs: Epochs = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**32 - 1, metavar="N", help="The seed of all that is random.")
    ] = None,
) -> None:
    """Run one revolution of the loop.

    Prepare, tune, train, judge, and promote the challenger if it is better. A cycle that was stopped goes on where it
    stood. With --max-trials and --max-epochs the result is the same every time; a --budget is planned first, and a
    resumed cycle follows the plan.
    """
    with progress(session) as listener:
        data = session.project.cycle(
            budget=budget, max_trials=max_trials, max_epochs=max_epochs, seed=seed, on_event=listener
        )
    metric = session.project.metric
    session.answer(data, lambda made: view(made, metric))


def view(data: dict[str, Any], metric: str) -> Any:
    """Candidates, the decision, and what to do next."""
    decision = data["decision"]
    spent = ", ".join(f"{name} {units.seconds(value)}" for name, value in data["stages"].items())
    parts = [
        _candidates(data["candidates"], decision["challenger_id"] if decision else None, metric),
        _outcome(data),
        layout.line("\n".join(data["notes"])) if data.get("notes") else None,
        layout.pairs({"cycle": data["cycle"], "took": f"{units.seconds(data['seconds'])} ({spent})"}),
        layout.following(_next(data)),
    ]
    return layout.stack(*parts)


def _candidates(candidates: list[dict[str, Any]], chosen: str | None, metric: str) -> Any:
    if not candidates:
        return None
    return layout.table(
        ["", "recipe", f">validation {units.metric_column(metric)}", ">size", ">took", "model"],
        [
            (
                "▸" if chosen is not None and chosen in (c.get("model"), c.get("final")) else "",
                f"{c['recipe']} (baseline)" if c.get("baseline") else c["recipe"],
                score(c.get("validation"), metric),
                units.size(c.get("size_bytes")),
                units.seconds(c.get("seconds")),
                c.get("final") or c.get("model") or f"failed: {c.get('failed')}",
            )
            for c in candidates
        ],
    )


def _outcome(data: dict[str, Any]) -> Any:
    decision = data["decision"]
    if decision is None:
        counts = data["dataset"]["counts"]
        dropped = f" {counts['dropped']:,} of {sum(counts.values()):,} rows were dropped; `tidemill data` says why."
        return layout.panel(
            f"Nothing can be learned before {_needed(data.get('kind'))}. "
            "Answers about validation and test samples count for judging, not for learning."
            f"{dropped if counts['dropped'] else ''}",
            title="labels needed",
            good=False,
        )
    title = decision["outcome"]
    if (rollout := data["rollout"]) is not None:
        title = f"promoted to a roll-out, which begins as a {rollout['phase']}"
    return layout.panel(decision["reason"], title=title, good=decision["outcome"] == "promoted")


def _needed(kind: str | None) -> str:
    if kind == "classification":
        return "training samples with at least two different labels are known"
    return (
        "the numbers of some training samples are known"
        if kind == "regression"
        else "labels of training samples are known"
    )


def _next(data: dict[str, Any]) -> list[str]:
    asked = sum(data["questions"].values())
    label = [f"tidemill label   ({units.count(asked, 'question')} waiting)"] if asked else []
    if data["decision"] is None:
        return label
    if data["rollout"] is not None:
        return ["tidemill serve", "tidemill rollout", *label]
    if data["decision"]["outcome"] == "promoted":
        return ["tidemill serve", "tidemill report --open", *label]
    return ["tidemill gate", *label]


COMMAND = Command(
    run=cycle,
    panel="Learn",
    stopped="stopped; `tidemill cycle` goes on from here",
    examples=("cycle", "cycle --budget 60s", "cycle --max-trials 0 --max-epochs 5 --seed 1"),
)
