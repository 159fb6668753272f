"""An opened project: its configuration, its store and its task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from tidemill.config import CONFIG_NAME, Config, load_config, read_environment
from tidemill.data.learned import CLASSES
from tidemill.data.schema import Signature
from tidemill.errors import ConflictError, NotReadyError, TidemillError
from tidemill.project.recipes import chosen_recipes, load_recipes
from tidemill.project.transfer import offers
from tidemill.records import Cycle, Dataset, Deployment, Erasure, Model, Recipe, StateSnapshot
from tidemill.runtime import Predictor, load
from tidemill.store import POLICY, Store, create_store, open_store
from tidemill.tasks import Task, get_task

STATE = ".tidemill"


def _unsaid(_note: str) -> None:
    """Nobody listens."""


class OpenProject:
    """A folder with ``tidemill.yaml`` and its state in ``.tidemill``.

    Args:
        folder: the project's folder.

    Raises:
        NotFoundError: there is no project there.
        ConfigError: ``tidemill.yaml`` has faults.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = folder.resolve()
        self.config: Config = load_config(self.dir / CONFIG_NAME)
        if not (self.dir / STATE).exists():
            # A fresh checkout: tidemill.yaml is kept under version control, and its state is not.
            make_state(self.dir, self.config.store).close()
        self.store: Store = open_store(self.dir / STATE, self.config.store)
        if self.store.ids(Erasure, finished=None):
            from tidemill.project.forgetting import resume

            with contextlib.suppress(TidemillError):  # `tidemill doctor` tells of it, and `tidemill forget` why
                resume(self.store)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.dir)!r}, task={self.config.task!r})"

    @cached_property
    def task(self) -> Task:
        """What is learned."""
        return get_task(self.config.task, [self.dir / file for file in self.config.tasks])

    @property
    def sources(self) -> tuple[str, ...]:
        """Paths and ids of the data, ready to be opened."""
        return tuple(self.config.sources(self.dir))

    @property
    def threads(self) -> int:
        """CPU threads for training: what the environment says, or the cores this process may use."""
        return read_environment().threads or len(os.sched_getaffinity(0))

    @property
    def dataset(self) -> Dataset | None:
        """The dataset version of the last cycle, or the newest before one is done.

        They differ when a source is put back as it was: then the cycle finds the older version again.
        """
        cycle = next(iter(self.store.find(Cycle, status="done", newest_first=True, limit=1)), None)
        if cycle is not None and cycle.dataset_id is not None:
            return self.store.get(Dataset, cycle.dataset_id)
        return next(iter(self.store.find(Dataset, newest_first=True, limit=1)), None)

    @property
    def signature(self) -> Signature:
        """The inputs and output as the last cycle's dataset version has them.

        Raises:
            NotReadyError: nothing has been prepared yet.
        """
        if self.dataset is None:
            raise NotReadyError("no data has been prepared yet", mend="Run `tidemill cycle` first.")
        return Signature.from_json(self.dataset.signature)

    def recipes(
        self, signature: Signature, texts: Sequence[str] = (), say: Callable[[str], None] = _unsaid
    ) -> tuple[Recipe, ...]:
        """What a cycle tries: the task's recipes, those that start from checkpoints, and the project's own.

        Args:
            texts: some of the inputs, which tell their language.
            say: told why a recipe that starts from a checkpoint is not offered.

        Raises:
            TidemillError: ``tidemill.yaml`` names a recipe or a checkpoint that cannot be used.
        """
        files = [self.dir / file for file in self.config.recipes.files if (self.dir / file).is_file()]
        more = offers(self.config, self.dir, self.store.root, signature, texts)
        for note in more.notes:
            say(note)
        offered = [*self.task.recipes(signature), *more.recipes, *load_recipes(files, self.task)]
        return chosen_recipes(offered, self.config, withheld=more.withheld)

    def model(self, identifier: str | None = None) -> Model:
        """The model of that id; without one, or for ``champion``, the one in force.

        Raises:
            NotFoundError: no such model.
            NotReadyError: no id was given, and nothing has been promoted yet.
        """
        if identifier in (None, "champion"):
            identifier = self.champion_deployment().model_id
        return self.store.get(Model, str(identifier))

    def open_model(self, model: Model, *, threads: int | None = None, state: str | None = None) -> Predictor:
        """A model, loaded and ready to answer.

        Args:
            threads: that one prediction may use.
            state: the id of a snapshot of what it learned after it was made.
        """
        folder, threads = self.store.root / model.path, threads or self.threads
        snapshot = None if state is None else self.store.get(StateSnapshot, state)
        if snapshot is not None and snapshot.kind == CLASSES:
            from tidemill.runtime.learned import load_learned

            return load_learned(folder, self.store.blobs.get(snapshot.blob), threads=threads)
        if snapshot is not None and snapshot.kind == POLICY:
            from tidemill.runtime.choosing import load_choosing

            return load_choosing(folder, self.store.blobs.get(snapshot.blob), snapshot.id, threads=threads)
        return load(folder, threads=threads)

    def open_serving(self, identifier: str | None = None) -> Predictor:
        """A model as it serves: the one in force, or another one, which has learned nothing since it was made.

        Raises:
            NotFoundError: no such model.
            NotReadyError: no id was given, and nothing has been promoted yet.
        """
        model, deployment = self.model(identifier), self.store.champion()
        in_force = deployment is not None and deployment.model_id == model.id
        return self.open_model(model, state=deployment.state_id if deployment is not None and in_force else None)

    def open_champion(self) -> tuple[Deployment, Predictor]:
        """The deployment in force and its model, loaded.

        Raises:
            NotReadyError: nothing has been promoted yet.
        """
        deployment = self.champion_deployment()
        model = self.store.get(Model, deployment.model_id)
        return deployment, self.open_model(model, threads=self.config.serve.threads or 1, state=deployment.state_id)

    def champion_deployment(self) -> Deployment:
        """The deployment in force.

        Raises:
            NotReadyError: nothing has been promoted yet.
        """
        deployment = self.store.champion()
        if deployment is None:
            mend = "Run `tidemill cycle` first."
            if self.store.count(Model):
                mend = "`tidemill gate` says why; name one of `tidemill models`, or promote it with `tidemill promote`."
            raise NotReadyError("no model has been promoted yet", mend=mend)
        return deployment


def make_state(folder: Path, url: str | None) -> Store:
    """The project's ``.tidemill``: made, or taken over from an ``init`` that was interrupted.

    Raises:
        ConflictError: it holds the state of a project whose ``tidemill.yaml`` is gone.
        OSError: the folder cannot be written.
    """
    state = folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    try:
        return create_store(state, url)
    except ConflictError:
        begun = open_store(state, url)
        if begun.count(Cycle):
            begun.close()
            raise ConflictError(
                f"{STATE} holds what a project learned, but its {CONFIG_NAME} is gone",
                where=str(folder),
                mend=f"Put {CONFIG_NAME} back, or remove {STATE} to begin anew.",
            ) from None
        return begun
