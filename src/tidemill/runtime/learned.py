"""A package opened together with the classes that its model learned since: one object that swaps as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.errors import PackageError
from tidemill.features._base import Features
from tidemill.packages import Manifest, read_manifest, verify
from tidemill.packages.graph import REFUSALS, open_graph, tensors
from tidemill.packages.inner import INNER, with_inner
from tidemill.packages.manifest import MODEL_FILES, parsed
from tidemill.runtime.answers import Answers
from tidemill.runtime.classes import Classes, joined, with_labels
from tidemill.runtime.predictor import Predictor

Floats = npt.NDArray[np.float32]


class Inside:
    """A graph that also says what its last layer reads; safe to call from several threads at once.

    Args:
        folder: of the package.
        threads: that one call may use.

    Raises:
        PackageError: the package is damaged, or its model has no such layer.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.manifest: Manifest = read_manifest(folder)
        verify(folder, self.manifest)
        self.signature, self.pipeline = parsed(self.manifest, str(folder))
        path = folder / MODEL_FILES["onnx"]
        graph = with_inner(path.read_bytes()) if path.is_file() else None
        if graph is None:
            raise PackageError(
                f"the model {self.manifest.id} ({self.manifest.recipe}) has no representation to compare rows by",
                where="learn-class",
                mend="Promote a network or a linear model, or give the class to the data and run `tidemill cycle`.",
            )
        info = self.pipeline.info()
        session = open_graph(graph, info, threads=threads, where=str(path), outputs=("scores", INNER))
        self._run = session.run
        self._inputs = [node.name for node in session.get_inputs()]

    def both(self, features: Features) -> tuple[Floats, Floats]:
        """Raw scores ``[n, k]``, and what the last layer reads ``[n, d]``."""
        scores, inner = self._run(["scores", INNER], tensors(features, self._inputs))
        return scores, inner

    def inner(self, columns: Columns) -> Floats:
        """What the last layer reads of raw columns, ``[n, d]``."""
        return self.both(self.pipeline.transform(columns))[1]


class _WithClasses:
    """Scores over old and new classes."""

    refusals: tuple[type[Exception], ...] = (*REFUSALS, KeyError, ValueError, TypeError)

    def __init__(self, inside: Inside, classes: Classes) -> None:
        self._both = inside.both
        self._probabilities: Callable[[Floats], Floats] = Answers(inside.manifest.answer).probabilities
        self._shares = classes.shares

    def scores(self, features: Features) -> Floats:
        """Logarithms of probabilities, float32 ``[n, k + m]``."""
        scores, inner = self._both(features)
        return joined(self._probabilities(scores), self._shares(inner))


def with_classes(inside: Inside, classes: Classes) -> Predictor:
    """The model with what it learned.

    Raises:
        PackageError: the classes are those of another model.
    """
    manifest = inside.manifest
    if len(classes.old) != len(manifest.answer["labels"]) or set(classes.labels) & set(manifest.answer["labels"]):
        raise PackageError("the learned classes are another model's", where=manifest.id, mend="Learn them again.")
    answer = with_labels(manifest.answer, classes.labels)
    signature = dataclasses.replace(inside.signature, labels=tuple(answer["labels"]))
    manifest = dataclasses.replace(manifest, answer=answer, signature=signature.to_json())
    return Predictor(manifest, signature, inside.pipeline, _WithClasses(inside, classes), Answers(answer))


def load_learned(folder: str | Path, content: bytes, *, threads: int = 1) -> Predictor:
    """Open a package with a state snapshot of the kind ``classes``.

    Args:
        folder: the package's folder.
        content: the snapshot's blob.
        threads: threads that one prediction may use.

    Raises:
        PackageError: one of them is damaged, or they do not belong together.
    """
    return with_classes(Inside(Path(folder), threads), Classes.from_bytes(content))
