"""``tidemill rollout``: show, list, start, advance, stop."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli import complete
from tidemill.cli.command import Command, JsonOption, ProjectOption, execute, register
from tidemill.cli.commands.feedback import default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import score
from tidemill.cli.show.intervals import difference, drawn
from tidemill.errors import InputError

NAME = "rollout"
PANEL = "Use"

Share = Annotated[
    float | None,
    typer.Option("--share", min=0.0, max=1.0, help="Share of the callers whom the canary answers, such as 0.25."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for whoever reads the history.")]


def show(session: Session) -> None:
    """Show how the roll-out stands, or how the last one ended.

    The interval says how much better the challenger is than the champion, by audited answers whose labels were asked
    for. It may be looked at as often as you like.
    """
    session.answer(session.project.rollout(), _view)


def list_(session: Session) -> None:
    """List all roll-outs, the newest first."""
    session.answer(session.project.rollouts(), _listed)


def start(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's id.", autocompletion=complete.models)],
    shadow: Annotated[
        bool, typer.Option("--shadow", metavar="", help="Begin in the shadow: its answers are only logged.")
    ] = False,
    canary: Annotated[
        bool, typer.Option("--canary", metavar="", help="Begin as a canary: it answers a share of the callers.")
    ] = False,
    share: Share = None,
    reason: Reason = None,
) -> None:
    """Start the roll-out of a model by hand.

    Goes past the gate, but not past the test on live labels. Unless said, it begins as `rollout` in tidemill.yaml says,
    and in the shadow where that says direct.
    """
    if shadow and canary:
        raise InputError("--shadow and --canary exclude each other", where="--canary", mend="Give one of them.")
    phase: Any = "shadow" if shadow else "canary" if canary else None
    session.project.start_rollout(model, phase=phase, share=_share(share), reason=reason, author=default_author())
    session.answer(session.project.rollout(), _view)


def advance(session: Session, share: Share = None) -> None:
    """Make a canary of what is in the shadow, or give a canary another share of the callers.

    Who was answered by it before still is when the share grows.
    """
    session.project.advance_rollout(share=_share(share), author=default_author())
    session.answer(session.project.rollout(), _view)


def stop(session: Session, reason: Reason = None) -> None:
    """End the roll-out; the champion goes on alone, in all processes of a running service within a second."""
    session.project.stop_rollout(reason=reason, author=default_author())
    session.answer(session.project.rollout(), _view)


def _share(share: float | None) -> float | None:
    if share == 0:
        raise InputError("a canary without callers is none", where="--share", mend="Give a share above 0, such as 0.1.")
    return share


def _view(data: dict[str, Any] | None) -> Any:
    if data is None:
        return layout.line("no roll-out yet; `rollout.policy` in tidemill.yaml, or `tidemill rollout start`, makes one")
    running = data["status"] == "running"
    good = {"promoted": True, "rolled-back": False, "stopped": False}.get(data["status"])
    title = data["phase"] if running else data["status"].replace("-", " ")
    rows = [
        ("challenger", f"{data['challenger']['recipe']}  {data['challenger']['id']}"),
        ("champion", f"{data['champion']['recipe']}  {data['champion']['id']}"),
        ("roll-out", f"{data['id']}, begun {units.ago(data['since'])}{_ended(data)}"),
        ("answers", f"{units.count(data['answered'])} by both, {units.count(data['given'])} of them given to callers"),
        _responded(data),
        *_measured(data),
    ]
    if data["phase"] == "canary":
        rows.insert(3, ("share", f"{units.percent(data['share'], 0)} of the callers"))
    if data["author"] is not None:
        rows.append(("by", data["author"]))
    following = ["tidemill label", "tidemill rollout advance", "tidemill rollout stop"] if running else []
    return layout.stack(
        layout.panel(data["reason"], title=title, good=good), layout.pairs(rows), layout.following(following)
    )


def _responded(data: dict[str, Any]) -> tuple[str, str]:
    said = f"{units.count(data['responded'])} of {units.count(data['asked'])}"
    if data["kind"] == "choice":
        return "rewards", f"of {said} choices that either may have made"
    return "audit", f"{said} questions answered"


def _measured(data: dict[str, Any]) -> list[tuple[str, str]]:
    """What the labels say, and a line on which the interval can be seen."""
    labels, scores, metric = data["labels"], data["scores"], data["metric"]
    if labels is None:
        return []
    rows = [
        ("labels", f"{units.count(int(labels['rows']))} of {units.count(int(labels['callers']), 'caller')}"),
        (
            units.metric_name(metric),
            f"{score(scores['challenger'], metric)} against {score(scores['champion'], metric)}; better on "
            f"{units.count(scores['better'])}, worse on {units.count(scores['worse'])}",
        ),
    ]
    found = data["interval"]
    if found is None:
        return rows
    said = [difference(found[name], metric) for name in ("low", "difference", "high")]
    margin = data["policy"]["margin"]
    line = drawn(found["low"], found["difference"], found["high"], margin)
    return [*rows, ("difference", f"{said[1]}, at least {said[0]}, at most {said[2]}"), ("", line)]


def _ended(data: dict[str, Any]) -> str:
    return "" if data["finished"] is None else f", ended {units.ago(data['finished'])}"


def _listed(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return _view(None)
    return layout.table(
        ["", "status", "phase", "challenger", "begun", "reason", "id"],
        [
            (
                layout.mark(row["status"] == "promoted") if row["finished"] else "▸",
                row["status"].replace("-", " "),
                row["phase"],
                row["challenger"],
                units.ago(row["created"]),
                row["reason"],
                row["id"],
            )
            for row in rows
        ],
    )


COMMANDS = (
    Command(run=show, panel=PANEL, examples=("rollout", "rollout show --json")),
    Command(run=list_, panel=PANEL, examples=("rollout list",)),
    Command(
        run=start,
        panel=PANEL,
        examples=("rollout start model_01k… --shadow", "rollout start model_01k… --canary --share 0.05"),
    ),
    Command(run=advance, panel=PANEL, examples=("rollout advance", "rollout advance --share 0.5")),
    Command(run=stop, panel=PANEL, examples=("rollout stop", 'rollout stop --reason "the shop closes early"')),
)


def build() -> typer.Typer:
    """The group with its commands; without one of them it shows how things stand."""
    app = typer.Typer(
        name=NAME,
        invoke_without_command=True,
        help="Show, start, advance or stop how a challenger comes to serve.",
    )

    @app.callback()
    def alone(ctx: typer.Context, project: ProjectOption = None, json: JsonOption = False) -> None:
        root = ctx.find_root().params  # where the commands look, too
        root["project"], root["json"] = project or root.get("project"), bool(json or root.get("json"))
        if ctx.invoked_subcommand is None:
            code = execute(Session(json=root["json"], folder=root["project"]), COMMANDS[0], {})
            if code:
                raise typer.Exit(code)

    for command in COMMANDS:
        register(app, command)
    return app
