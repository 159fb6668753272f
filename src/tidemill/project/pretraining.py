"""``tidemill pretrain``: an encoder of the project's own, from its inputs alone, labelled or not."""

from __future__ import annotations

import json
import re
import shutil
import time
from typing import TYPE_CHECKING

import numpy as np

from tidemill.checkpoints import Checkpoint, open_checkpoint
from tidemill.data.arrays import Rows
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.errors import ConflictError, InputError, NotReadyError
from tidemill.features.tokenizer import joined
from tidemill.loop import OnEvent, unheard
from tidemill.project.opened import OpenProject
from tidemill.project.transfer import OWN, place_of
from tidemill.records import JSON
from tidemill.tasks._transfer import reads

if TYPE_CHECKING:
    from tidemill.learners.pretraining import Subject

MOST_ROWS = 200_000
"""Rows that are held in memory while it learns; more are drawn from evenly."""
LEAST_ROWS = 64
STEPS = 2000


def pretrain(
    project: OpenProject,
    name: str,
    *,
    start: str | None = None,
    steps: int = STEPS,
    rate: float | None = None,
    seed: int = 0,
    on_event: OnEvent = unheard,
) -> JSON:
    """Learn an encoder from the training inputs, and keep it as a checkpoint that the next cycle offers.

    Test and validation rows are left out. It lies in the project's state, under ``checkpoints/NAME``.

    Args:
        name: small letters, digits and dashes; its recipes are named after it.
        start: a checkpoint to go on from: a name under ``transfer.checkpoints``, a folder, ``hub:OWNER/NAME@REVISION``,
            or ``minilm`` for the embedded one; ``None`` begins small and at random.
        steps: of 32 rows each.
        rate: the peak of the learning rate; by default gentle from a checkpoint, brisk without.

    Returns:
        ``{"name", "path", "from", "rows", "steps", "parameters", "batch_parts", "loss_before", "loss_after",
        "seconds"}``. ``batch_parts`` is how many parts each step was made of in the end, where memory was short.

    Raises:
        InputError: the name, or the inputs are neither texts nor images alone.
        ConflictError: there is one of that name.
        NotReadyError: nothing has been prepared yet, or there are too few rows.
        TidemillError: the checkpoint cannot be used.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InputError(f"{name!r} is no name", mend="Use small letters, digits and dashes.")
    root = project.store.root
    folder = root / OWN / name
    if folder.exists():
        raise ConflictError(f"there is a checkpoint {name!r}", where=str(folder), mend="Choose another name.")
    record = project.dataset
    if record is None:
        raise NotReadyError("no data has been prepared yet", mend="Run `tidemill cycle` first.")
    kind = reads(project.signature)
    if kind is None:
        raise InputError(
            "an encoder learns from texts or from one column of images, and the inputs are of other types",
            mend="Use `inputs` in tidemill.yaml to choose columns.",
        )
    begun = time.monotonic()
    opened = None if start is None else open_checkpoint(place_of(project.config, project.dir, root, start))
    dataset = open_dataset(root, record)
    rows = dataset.rows("train", labelled=None)
    rows = rows[:: -(-len(rows) // MOST_ROWS)] if len(rows) else rows
    if len(rows) < LEAST_ROWS:
        raise NotReadyError(f"there are {len(rows)} rows to learn from", mend=f"Bring {LEAST_ROWS} or more.")
    on_event({"stage": "pretrain", "what": f"reading {len(rows)} rows"})

    def told(step: int, loss: float) -> None:
        on_event({"stage": "pretrain", "what": f"loss {loss:.3f}", "done": step, "total": steps})

    from tidemill.learners.pretraining import pretrain as learn

    subject = _subject(dataset, rows, opened, kind, seed)
    building = folder.with_name(f".{name}.part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        learned = learn(subject, building, steps=steps, rate=rate, fresh=opened is None, seed=seed, on_step=told)
        facts = {"dataset": dataset.id, "from": start, "rows": len(rows), "steps": steps, "seed": seed}
        (building / "tidemill.json").write_text(json.dumps(facts))
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {
        **facts,
        "name": name,
        "path": str(folder),
        "parameters": learned.parameters,
        "batch_parts": learned.parts,
        "loss_before": learned.before,
        "loss_after": learned.after,
        "seconds": time.monotonic() - begun,
    }


def _subject(dataset: DatasetArrays, rows: Rows, opened: Checkpoint | None, kind: str, seed: int) -> Subject:
    from tidemill.learners.pretraining import HiddenPatches, HiddenTokens

    columns = dataset.columns(rows)
    names = [field.name for field in dataset.signature.inputs]
    if kind == "image":
        return HiddenPatches(np.asarray(columns[names[0]]), opened, seed=seed)
    return HiddenTokens(joined(columns, names), opened, seed=seed)
