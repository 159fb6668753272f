"""``tidemill pretrain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.progress import progress


def pretrain(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the encoder is called; its recipes begin with it.")],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="A checkpoint to go on from: a name under transfer.checkpoints, a folder, hub:OWNER/NAME@REVISION, "
            "or minilm; unless given, a small encoder begins at random.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Steps of 32 rows each.")] = 2000,
    rate: Annotated[float | None, typer.Option("--rate", metavar="RATE", help="Peak of the learning rate.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of everything random in it.")] = 0,
) -> None:
    """Learn an encoder from the project's own inputs.

    It guesses what is hidden from it in training inputs, labelled or not: tokens of texts, or patches of images. The
    next cycle offers recipes that start from it.
    """
    with progress(session) as listener:
        done = session.project.pretrain(name, start=start, steps=steps, rate=rate, seed=seed, on_event=listener)
    session.answer(done, _view)


def _view(data: dict[str, Any]) -> Any:
    return layout.stack(
        layout.pairs(
            [
                ("encoder", data["path"]),
                ("from", data["from"] or "random weights"),
                ("weights", units.count(data["parameters"])),
                ("learned", f"{units.count(data['steps'], 'step')} over {units.count(data['rows'], 'row')}"),
                ("loss", f"{data['loss_before']:.3f} at first, {data['loss_after']:.3f} at last"),
                ("took", units.seconds(data["seconds"])),
            ]
        ),
        layout.following(["tidemill plan", "tidemill cycle"]),
    )


COMMAND = Command(run=pretrain, panel="Learn", examples=("pretrain own", "pretrain news --from minilm --steps 500"))
