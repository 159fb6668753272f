"""``tidemill status``."""

from __future__ import annotations

from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def status(session: Session) -> None:
    """Show where the project stands.

    Its champion, its traffic, its last cycle, and what to do next.
    """
    session.answer(session.project.status(), _view)


def _view(data: dict[str, Any]) -> Any:
    live = data["live"]
    waiting = ", ".join(f"{units.count(n)} {what}" for what, n in live["waiting"].items() if n)
    answered = f"{units.count(live['answered'])} of {units.count(live['audited'])} answered"
    rows = [
        ("project", data["folder"]),
        ("task", f"{data['task']}, target {data['target']}"),
        *_champion(data["champion"], data["metric"]),
        *_rollout(data["rollout"]),
        ("data", _dataset(data["dataset"])),
        ("predictions", units.count(live["predictions"])),
        ("feedback", _feedback(live)),
        *(("doubtful", f"{units.count(n)} held back: {reason}") for reason, n in live["held"].items()),
        ("audit", answered if live["quality"] is None else f"{answered}, {_audited(live)}"),
        ("questions", waiting or "none waiting"),
        *((f"trigger {trigger['trigger']}", _trigger(trigger)) for trigger in data["triggers"]),
        ("last cycle", _cycle(data["cycle"])),
        ("on disk", units.size(data["store_bytes"])),
    ]
    return layout.stack(layout.pairs(rows), layout.following(data["next"]))


def _feedback(live: dict[str, Any]) -> str:
    """How much was said, of which kinds, and what of it no cycle has seen."""
    kinds = ", ".join(f"{units.count(n)} {kind}" for kind, n in live["kinds"].items())
    fresh = f"{units.count(live['labels_since_cycle'])} labels since the cycle"
    return f"{kinds}; {fresh}" if kinds else fresh


def _audited(live: dict[str, Any]) -> str:
    """How good the answers were that the audit drew."""
    if live["metric"] == "accuracy":
        text = f"{units.percent(live['quality'])} right"
        return f"{text}, {units.percent(live['abstained'])} abstained" if live["abstained"] else text
    return f"{units.metric_name(live['metric'])} {units.quality(live['quality'], live['metric'])}"


def _trigger(trigger: dict[str, Any]) -> str:
    """What a trigger waits for, and when it was last looked at."""
    if trigger["fault"] is not None:
        return f"cannot look: {trigger['fault']}, {units.ago(trigger['looked'])}"
    if trigger["waiting"] is None:
        return "not looked at yet: `tidemill up` does"
    looked = trigger["trigger"] in ("drift", "quality")
    said = [trigger["waiting"] or "nothing is known yet", f"looked {units.ago(trigger['looked'])}" if looked else ""]
    if trigger["fired"] is not None:
        said.append(f"last fired {units.ago(trigger['fired'])}")
    elif not trigger["fires"]:
        said.append("starts nothing")
    return ", ".join(filter(None, said))


def _champion(champion: dict[str, Any] | None, metric: str) -> list[tuple[str, str]]:
    if champion is None:
        return [("champion", "none yet")]
    action = {"promote": "promoted", "rollback": "put back"}[champion["action"]]
    since = f"{action} {units.ago(champion['since'])}"
    rows = [("champion", f"{champion['recipe']}  {champion['model']}  {units.size(champion['size_bytes'])}, {since}")]
    for split, metrics in champion["metrics"].items():
        name = metric if metric in metrics else next(iter(metrics))
        rows.append((split, f"{units.metric_name(name)} {units.quality(metrics[name], name)}"))
    return rows


def _rollout(rollout: dict[str, Any] | None) -> list[tuple[str, str]]:
    if rollout is None:
        return []
    share = f" for {units.percent(rollout['share'], 0)} of the callers" if rollout["phase"] == "canary" else ""
    return [("roll-out", f"{rollout['challenger']}  {rollout['phase']}{share}, since {units.ago(rollout['since'])}")]


def _dataset(dataset: dict[str, Any] | None) -> str:
    if dataset is None:
        return "not prepared yet"
    return ", ".join(f"{units.count(n)} {split}" for split, n in dataset["counts"].items() if n)


def _cycle(cycle: dict[str, Any] | None) -> str:
    if cycle is None:
        return "none yet"
    text = f"{cycle['status']} {units.ago(cycle['finished'] or cycle['created'])}, {cycle['trigger']}"
    return f"{text}: {cycle['error']}" if cycle["error"] else text


COMMAND = Command(run=status, panel="Look", examples=("status", "status --json"))
