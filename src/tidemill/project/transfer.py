"""Which checkpoints a project may start from, and the recipes that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tidemill.checkpoints import EMBEDDED, Checkpoint, open_checkpoint
from tidemill.checkpoints.folder import read_json
from tidemill.checkpoints.hub import Rules, fetch
from tidemill.checkpoints.reference import is_installed
from tidemill.config import Config, Transfer
from tidemill.config.transfer import Depth
from tidemill.data.schema import Signature
from tidemill.errors import ConfigError, ServiceError, TidemillError
from tidemill.records import Recipe
from tidemill.tasks._transfer import english, reads, transfer_recipes

OWN = "checkpoints"
"""The folder in a project's state where those lie that ``tidemill pretrain`` made."""
_NAME = "minilm"
_PER_PARAMETER = {"frozen": 8, "lora": 12, "full": 24}
"""Bytes: weights, what reading them takes, gradients, moments, the best weights so far."""
_BESIDE = 500_000_000
"""Bytes of libraries, activations and the graph."""
_ROOM = 0.8


@dataclass(frozen=True, slots=True)
class Offers:
    """What checkpoints give.

    Attributes:
        recipes: in the order of the configuration.
        withheld: names of recipes that there would be elsewhere or at another time.
        notes: why, in plain words.
    """

    recipes: tuple[Recipe, ...]
    withheld: tuple[str, ...]
    notes: tuple[str, ...]


def offers(config: Config, folder: Path, state: Path, signature: Signature, texts: Sequence[str]) -> Offers:
    """The recipes that start from a checkpoint: from those of the configuration, own ones, and the embedded encoder.

    What the hub has is fetched here, and only here. A hub that does not answer costs its own recipes alone, and so does
    an own checkpoint that cannot be used.

    Args:
        folder: of the project.
        state: of the project.
        texts: some of the inputs, which tell their language.

    Raises:
        NotFoundError, TrainingError: a checkpoint of the configuration cannot be used.
        ConfigError: its licence or size is not allowed.
        ExtraMissingError: transformers is not installed.
    """
    wanted = config.transfer
    named = {name: wanted.place(name, str(folder)) for name in wanted.checkpoints}
    # one with a dot is still being made, or was left by a pretraining that was killed
    made = sorted((state / OWN).glob("[!.]*/config.json"))
    made_here = {path.parent.name: f"folder:{path.parent}" for path in made if path.parent.name not in named}
    kind = reads(signature)
    recipes: list[Recipe] = []
    withheld: list[str] = []
    notes: list[str] = []
    for name, place in {**made_here, **named}.items():
        names = [f"{name}-{depth}" for depth in wanted.depths]
        try:
            found = _opened(place, wanted, state)
        except TidemillError as error:  # nobody asked for those that were made here, so they stop nothing
            if name not in made_here and not isinstance(error, ServiceError):
                raise
            withheld += names
            notes.append(f"{', '.join(names)}: {error}")
            continue
        if found.kind != kind:
            if name in made_here:
                withheld += names
                continue
            raise ConfigError(
                f"the checkpoint reads {found.kind}s, and the inputs are {_types(signature)}",
                where=f"transfer.checkpoints.{name}",
                mend="Take it out, or choose one that reads them.",
            )
        recipes += _offered(config.task, name, place, found, wanted.depths, wanted, withheld, notes)
    if kind != "text" or not _wants_embedded(wanted, texts):
        withheld += [f"{_NAME}-{depth}" for depth in get_args(Depth)]
    else:
        # without an accelerator the others take minutes where nobody asked for them
        embedded: tuple[Depth, ...] = get_args(Depth) if _accelerated() else ("frozen",)
        withheld += [f"{_NAME}-{depth}" for depth in get_args(Depth) if depth not in embedded]
        try:
            found = _opened(EMBEDDED, wanted, state)
        except ConfigError as error:
            mend = "Allow it there, or write `embedded: never`."
            refused = ConfigError(error.what, where="transfer.embedded", mend=mend)
            if wanted.embedded == "always":
                raise refused from error
            names = [f"{_NAME}-{depth}" for depth in embedded]
            withheld += names
            notes.append(f"{', '.join(names)}: {refused}")
        else:
            recipes += _offered(config.task, _NAME, EMBEDDED, found, embedded, wanted, withheld, notes)
    return Offers(tuple(recipes), tuple(withheld), tuple(notes))


def place_of(config: Config, folder: Path, state: Path, start: str) -> str:
    """The reference of a checkpoint that somebody names; what the hub has is fetched.

    Args:
        folder: of the project.
        state: of the project.
        start: a name under ``transfer.checkpoints``, ``minilm``, ``hub:OWNER/NAME@REVISION``, or a folder.

    Raises:
        TidemillError: it cannot be used.
    """
    if start in config.transfer.checkpoints:
        place = config.transfer.place(start, str(folder))
    elif start == _NAME:
        place = EMBEDDED
    else:
        place = start if start.startswith("hub:") else f"folder:{Path(folder, Path(start).expanduser())}"
    _opened(place, config.transfer, state)
    return place


def _opened(place: str, wanted: Transfer, state: Path) -> Checkpoint:
    licences = None if _from_nothing(place, state) else wanted.licences
    rules = Rules(licences, wanted.max_mb * 1e6)
    if place.startswith("hub:"):
        repository, _, revision = place.removeprefix("hub:").rpartition("@")
        fetch(repository, revision, rules)
    found = open_checkpoint(place)
    rules.check(place, found.licence, found.size)
    return found


def _from_nothing(place: str, state: Path) -> bool:
    """Whether ``tidemill pretrain`` made it here from random weights: then nobody else's licence is in it."""
    scheme, _, path = place.partition(":")
    facts = Path(path) / "tidemill.json"
    if scheme != "folder" or Path(path).resolve().parent != (state / OWN).resolve() or not facts.is_file():
        return False
    return read_json(facts).get("from", path) is None


def _wants_embedded(wanted: Transfer, texts: Sequence[str]) -> bool:
    if wanted.embedded != "auto":
        return wanted.embedded == "always"  # what is missing then is said
    return is_installed(EMBEDDED.partition(":")[2]) and english(texts)


def _offered(
    task: str,
    name: str,
    place: str,
    found: Checkpoint,
    depths: Sequence[Depth],
    wanted: Transfer,
    withheld: list[str],
    notes: list[str],
) -> list[Recipe]:
    """Those of its recipes for which there is memory."""
    room = _memory()
    fitting = [depth for depth in depths if _needs(found, depth) <= _ROOM * room]
    for depth in depths:
        if depth not in fitting:
            needs = _needs(found, depth)
            withheld.append(f"{name}-{depth}")
            notes.append(f"{name}-{depth} needs about {needs / 1e9:.1f} GB of memory, and {room / 1e9:.1f} GB are free")
    return transfer_recipes(
        task,
        name,
        f"{place}#{found.digest}",
        found.kind,
        fitting,
        licence=found.licence,
        max_length=wanted.max_length,
        side=wanted.side,
    )


def _needs(found: Checkpoint, depth: Depth) -> float:
    return found.parameters * _PER_PARAMETER[depth] + _BESIDE


def _memory() -> int:
    """Free bytes where the checkpoint would be trained."""
    if _accelerated():
        import torch

        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def _accelerated() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _types(signature: Signature) -> str:
    return ", ".join(sorted({field.type for field in signature.inputs}))
