"""One network, trained by several processes of this machine: each takes its share of every batch.

The batch, the schedule and the number of steps are those of one process, and so is what comes back. The training
data lie where they are: each process maps them for itself. What is said of the epochs comes through a file, a line
each; the weights through another. The processes are those of an engine (:mod:`tidemill.engines.parallel`).
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from tidemill.features._base import Feature, FeatureInfo, Features, Sparse
from tidemill.features._memory import memory_told
from tidemill.learners._base import Context, Problem, RecipeView, Team
from tidemill.learners.gradient.batches import row_values
from tidemill.learners.gradient.device import kept_memory, pick_device, useful_threads
from tidemill.learners.gradient.learner import Fit, GradientModel
from tidemill.learners.gradient.peers import Peers
from tidemill.learners.gradient.settings import default_batch_size, read_settings
from tidemill.learners.gradient.state import load_network
from tidemill.networks import build_network

WAIT = timedelta(minutes=10)
"""So long a process waits for the others, which score validation rows or repeat a step, before it gives them up."""

_LISTEN = 0.02  # seconds between two looks at what the processes say


def processes(problem: Problem, recipe: RecipeView, context: Context, most: int) -> int:
    """How many processes train it: 1 where steps are too small to be shared, and never more than there are GPUs.

    Raises:
        TrainingError: a wrong parameter, or no such device.
    """
    rows = problem.train
    size = min(read_settings(recipe.params).batch_size or default_batch_size(rows), rows)
    device = pick_device(context.device)
    if device.type == "cuda":
        most = min(most, torch.cuda.device_count() if device.index is None else 1)
    elif useful_threads(2, size * row_values(problem.features)) < 2:
        return 1
    return max(1, min(most, size // 2))


def train_together(
    problem: Problem, recipe: RecipeView, context: Context, team: Team, count: int, *, backend: str | None = None
) -> GradientModel:
    """What :meth:`tidemill.learners.gradient.GradientLearner.fit` gives, by *count* processes.

    Args:
        problem, recipe, context: as there.
        team: starts the processes.
        count: how many.
        backend: of ``torch.distributed``; by default ``nccl`` on CUDA and ``gloo`` elsewhere.

    Raises:
        TrainingError: one of them could not train it, or died; the others have then ended, too.
        Pruned: passed on from ``context.report``, after all have ended.
        KeyboardInterrupt: likewise, with the checkpoint written.
    """
    with _folder(context.workdir) as folder:
        _write(folder, problem, recipe, context, backend)
        work = team.submit(f"{__name__}:member", {"folder": str(folder)}, processes=count)
        heard = 0
        try:
            while True:
                ended = work.poll() is not None
                for epoch, metrics in _said(folder, heard):
                    heard += 1
                    context.report(epoch, metrics)
                if ended:
                    break
                time.sleep(_LISTEN)
        finally:
            if work.poll() is None:
                work.stop()
                work.wait()
        found = work.result()
        network = build_network(found["spec"], problem.info, problem.classes)
        load_network(network, load_file(folder / "weights.safetensors"), "best")
    device = pick_device(context.device)
    return GradientModel(network.to(device), found["spec"], problem.info, device, found["summary"])


def member(folder: str) -> dict[str, Any]:
    """One of the processes, in an environment as ``torchrun`` makes it; the first one leaves the weights.

    Raises:
        TrainingError: as :meth:`tidemill.learners.gradient.GradientLearner.fit`.
    """
    home, rank, world = Path(folder), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    problem, recipe, facts = _read(home)
    device = pick_device(facts["device"])
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    backend = facts["backend"] or ("nccl" if device.type == "cuda" else "gloo")
    dist.init_process_group(backend, f"file://{home / 'meeting'}", WAIT, world, rank)
    try:
        with (home / "said.jsonl").open("a", encoding="utf-8") as file:

            def report(epoch: int, metrics: dict[str, float]) -> None:
                if rank == 0:
                    file.write(json.dumps([epoch, metrics]) + "\n")
                    file.flush()

            context = Context(
                seed=facts["seed"],
                max_epochs=facts["max_epochs"],
                threads=max(1, facts["threads"] // world),
                workdir=None if facts["workdir"] is None else Path(facts["workdir"]),
                report=report,
            )
            torch.set_num_threads(context.threads)
            torch.manual_seed(context.seed)
            with kept_memory(), memory_told("this network"):
                model = Fit(problem, recipe, context, Peers(device)).run()
        if rank == 0:
            weights = {f"best/{name}": t.cpu().contiguous() for name, t in model.network.state_dict().items()}
            save_file(weights, home / "weights.safetensors")
    finally:
        dist.destroy_process_group()
    return {"spec": model.spec, "summary": model.summary}


@contextmanager
def _folder(workdir: Path | None) -> Iterator[Path]:
    """A folder for what the processes share, gone afterwards."""
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="together-", dir=workdir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _said(folder: Path, heard: int) -> list[tuple[int, dict[str, float]]]:
    """What the first process said after *heard* lines."""
    path = folder / "said.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[heard:]
    return [(epoch, metrics) for epoch, metrics in map(json.loads, (x for x in lines if x.endswith("\n")))]


def _write(folder: Path, problem: Problem, recipe: RecipeView, context: Context, backend: str | None) -> None:
    arrays = _Arrays(folder)
    view = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.name != "init"}
    document = {
        "kind": problem.kind,
        "train": problem.train,
        "classes": problem.classes,
        "features": {name: arrays.feature(name, feature) for name, feature in problem.features.items()},
        "info": {name: dataclasses.asdict(info) for name, info in problem.info.items()},
        "target": arrays.put("target", problem.target),
        "weight": None if problem.weight is None else arrays.put("weight", problem.weight),
        "recipe": view,
        "init": None
        if recipe.init is None
        else {name: arrays.put(f"init-{i}", tensor) for i, (name, tensor) in enumerate(recipe.init.items())},
        "seed": context.seed,
        "max_epochs": context.max_epochs,
        "threads": context.threads,
        "device": context.device,
        "workdir": None if context.workdir is None else str(context.workdir.absolute()),
        "backend": backend,
    }
    (folder / "problem.json").write_text(json.dumps(document), encoding="utf-8")


def _read(folder: Path) -> tuple[Problem, RecipeView, dict[str, Any]]:
    facts = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
    features: Features = {name: _feature(spec) for name, spec in facts["features"].items()}
    problem = Problem(
        kind=facts["kind"],
        features=features,
        info={name: FeatureInfo(**{**i, "shape": tuple(i["shape"])}) for name, i in facts["info"].items()},
        target=_array(facts["target"]),
        train=facts["train"],
        classes=facts["classes"],
        weight=None if facts["weight"] is None else _array(facts["weight"]),
    )
    init = None if facts["init"] is None else {name: _array(spec) for name, spec in facts["init"].items()}
    return problem, RecipeView(**facts["recipe"], init=init), facts


class _Arrays:
    """Says where arrays lie: what is mapped from a file already stays there, all else is written into *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def feature(self, name: str, feature: Feature) -> dict[str, Any]:
        if isinstance(feature, Sparse):
            parts = {part: self.put(f"{name}-{part}", getattr(feature, part)) for part in _SPARSE}
            return {"width": feature.width, **parts}
        return self.put(name, feature)

    def put(self, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
        # of a part of a mapped array nothing says where in its file it begins
        base: object = array.base
        if isinstance(array, np.memmap) and isinstance(base, mmap.mmap) and array.flags.c_contiguous:
            place = {"file": str(Path(str(array.filename)).absolute()), "offset": int(array.offset)}
            return {**place, "dtype": array.dtype.str, "shape": list(array.shape)}
        path = self.folder / f"{name}.npy"
        np.save(path, np.ascontiguousarray(array))
        return {"file": str(path), "empty": array.size == 0}


_SPARSE = ("indices", "values", "offsets")


def _feature(spec: Mapping[str, Any]) -> Feature:
    if "width" in spec:
        indices, values, offsets = (_array(spec[part]) for part in _SPARSE)
        return Sparse(indices, values, offsets, int(spec["width"]))
    return _array(spec)


def _array(spec: Mapping[str, Any]) -> npt.NDArray[Any]:
    if "offset" in spec:
        return np.memmap(spec["file"], spec["dtype"], "r", spec["offset"], tuple(spec["shape"]))
    whole: npt.NDArray[Any] = np.load(spec["file"], mmap_mode=None if spec["empty"] else "r", allow_pickle=False)
    return whole
