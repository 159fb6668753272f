"""``tidemill pareto``."""

from __future__ import annotations

from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import score
from tidemill.cli.show.scatter import LETTERS, scatter


def pareto(session: Session) -> None:
    """Compare models by quality, latency and size.

    A capital letter marks those that no other one beats in all three, the Pareto front. `goal` in tidemill.yaml says
    which of them goes to the gate.
    """
    session.answer(session.project.pareto(), _view)


def _view(data: dict[str, Any]) -> Any:
    models, names = data["models"], list(dict.fromkeys((data["quality"], data["metric"])))
    if not models:
        return layout.line("the packages of these models are gone; `tidemill cycle` makes new ones")
    letters = [_letter(n, front=model["front"]) for n, model in enumerate(models)]
    table = layout.table(
        ["", "recipe", *(f">{units.metric_column(name)}" for name in names), ">latency", ">size", "", "model"],
        [
            (
                letter,
                model["recipe"],
                *(score(model["metrics"].get(name), name) for name in names),
                units.seconds(None if model["latency_ms"] is None else model["latency_ms"] / 1000),
                units.size(model["size_bytes"]),
                _role(model),
                model["model"],
            )
            for letter, model in zip(letters, models, strict=True)
        ],
    )
    drawn = [
        _drawn(data, letters, "latency_ms", "latency", lambda ms: units.seconds(ms / 1000)),
        _drawn(data, letters, "size_bytes", "size", units.size),
    ]
    goal = layout.pairs({"goal": data["goal"], "cycle": data["cycle"]})
    return layout.stack(table, *(layout.line(one) for one in drawn if one is not None), goal)


def _letter(number: int, *, front: bool) -> str:
    letter = LETTERS[number] if number < len(LETTERS) else "·"
    return letter.upper() if front else letter


def _role(model: dict[str, Any]) -> str:
    said = [name for name in ("champion", "challenger") if model[name]]
    return ", ".join([*said, *([model["over"]] if model["over"] else [])])


def _drawn(data: dict[str, Any], letters: list[str], key: str, name: str, text: Any) -> str | None:
    points = [
        (model[key], model["quality"], letter)
        for letter, model in zip(letters, data["models"], strict=True)
        if model[key]
    ]
    if not points:
        return None
    quality = data["quality"]
    return scatter(
        points,
        across=f"{name} ←",
        up=f"{units.metric_name(quality)}, better above",
        x_text=text,
        y_text=lambda value: score(value, quality),
    )


COMMAND = Command(run=pareto, panel="Look", examples=("pareto", "pareto --json"))
