"""A package, opened: from records to answers with neither task nor project."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import images
from tidemill.data.arrays import Column, Columns, length, take
from tidemill.data.encode import encode
from tidemill.data.schema import Signature
from tidemill.errors import PackageError
from tidemill.features._base import FeatureInfo, Features
from tidemill.features.pipeline import Pipeline
from tidemill.packages.manifest import MODEL_FILES, STATE_FILE, Manifest, parsed
from tidemill.packages.read import read_manifest, verify
from tidemill.runtime.answers import Answers
from tidemill.runtime.backend import Backend
from tidemill.runtime.heads import Heads

_MOST_ROWS, _MOST_BYTES = 1024, 1 << 19  # of one call of the model: a large batch must not take memory by its size

_SPARSE_ROW = 2048  # bytes of the few hundred values of a short text


class Predictor:
    """Model, features and answer spec of one package, as one object that swaps as a whole.

    Attributes:
        manifest: what the package says of itself.
        signature: what a record must hold.
        state_id: the snapshot of what it learned since it was made; ``None`` for what learned nothing.
    """

    state_id: str | None = None

    def __init__(
        self, manifest: Manifest, signature: Signature, pipeline: Pipeline, backend: Backend, answers: Answers
    ) -> None:
        self.manifest = manifest
        self.signature = signature
        self._transform = pipeline.transform
        self._info = pipeline.info()
        row = sum(_row_bytes(item) for item in self._info.values())
        self._at_once = max(64, min(_MOST_ROWS, _MOST_BYTES // max(row, 1)))
        self._backend = backend
        self._score = backend.scores
        self._answers = answers

    def encode(self, records: Sequence[Mapping[str, Any]], *, max_pixels: int = images.MAX_PIXELS) -> dict[str, Column]:
        """Raw columns from request records.

        Args:
            records: one mapping a row; see :func:`tidemill.data.encode.encode`.
            max_pixels: width times height that one image may have.

        Raises:
            InputError: a record does not fit the signature; the message names row and field.
        """
        return encode(self.signature, records, max_pixels=max_pixels)

    def features(self, columns: Columns) -> Features:
        """What the model sees of raw columns, all rows at once."""
        return self._transform(columns)

    def scores(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Raw scores, float32 ``[n, k]``."""
        n = length(columns)
        if n <= self._at_once:
            return self._score(self._transform(columns))
        starts = range(0, n, self._at_once)
        parts = (take(columns, np.arange(start, min(start + self._at_once, n))) for start in starts)
        return np.concatenate([self._score(self._transform(part)) for part in parts])

    def probabilities(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Probabilities, float32 ``[n, k]``; for regression ``[n, 1]`` or ``[n, 3]``: value, low, high."""
        return self._answers.probabilities(self.scores(columns))

    def answers(self, scores: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """One JSON answer for each row of raw scores."""
        return self._answers.of(scores)

    def answer(self, columns: Columns, points: npt.NDArray[np.float64] | None = None) -> list[dict[str, Any]]:
        """One JSON answer for each row of raw columns.

        Args:
            columns: the rows.
            points: what decides each row where answers are drawn; see :meth:`ChoicePredictor.choose`.

        Raises:
            ArithmeticError: the model gave scores that are not finite.
        """
        scores = self.scores(columns)
        if not np.isfinite(scores).all():
            raise ArithmeticError(f"{self.manifest.id} gave scores that are not finite")
        return self._answers.of(scores)

    def predict(
        self,
        records: Sequence[Mapping[str, Any]],
        *,
        max_pixels: int = images.MAX_PIXELS,
        places: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """One JSON answer for each record.

        Args:
            records: as :meth:`encode` takes them.
            max_pixels: width times height that one image may have.
            places: where each of them stands among all that are asked for, which decides what is drawn where answers
                are; from 0 on unless given.

        Raises:
            InputError: a record does not fit the signature.
        """
        if not records:
            return []
        return self._answers.of(self.scores(self.encode(records, max_pixels=max_pixels)))

    def warm_up(self) -> None:
        """Answer one made-up row, so that a broken model shows before it serves and the first request is not slow.

        Raises:
            PackageError: the model cannot be computed, or gives no finite scores of the right shape.
        """
        scores = self.blank_scores()
        widths = self._answers.widths
        if scores.ndim != 2 or len(scores) != 1 or scores.shape[1] not in widths or not np.isfinite(scores).all():
            wanted = " or ".join(str((1, width)) for width in widths)
            raise PackageError(
                f"a row of zeros gets scores of shape {scores.shape}, not {wanted} finite numbers",
                where=self.manifest.id,
                mend="Export the model again.",
            )
        self._answers.of(scores)

    def blank_scores(self) -> npt.NDArray[np.float32]:
        """The raw scores of a made-up row.

        Raises:
            PackageError: the model cannot be computed.
        """
        features = {name: item.blank(1) for name, item in self._info.items()}
        try:
            return self._score(features)
        except self._backend.refusals as error:
            what = f"the model cannot answer a row of zeros ({(str(error).splitlines() or [''])[0][:200]})"
            raise PackageError(what, where=self.manifest.id, mend="Export the model again.") from error


def _row_bytes(item: FeatureInfo) -> int:
    if item.dtype == "sparse":  # its width says nothing of how many values a row holds
        return _SPARSE_ROW
    return int(np.dtype(item.dtype).itemsize * math.prod(item.shape))


def load(folder: str | Path, *, threads: int = 1, verify: bool = True) -> Predictor:
    """Open a package.

    Args:
        folder: the package's folder.
        threads: threads that one prediction may use.
        verify: compare every file's SHA-256 with the manifest first.

    Raises:
        PackageError: it is incomplete, altered, of an unknown schema, or holds what it may not.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if verify:
        _verify(folder, manifest)
    signature, pipeline = parsed(manifest, str(folder))
    if signature.kind == "choice":
        from tidemill.runtime.choosing import ChoicePredictor

        heads = read_heads(folder)
        backend = _backend(folder, manifest, pipeline.info(), heads.width - 1, threads)
        return ChoicePredictor(manifest, signature, pipeline, backend, heads)
    answers = Answers(manifest.answer)
    info = pipeline.info()
    if answers.kind != signature.kind or (signature.labels and signature.labels != answers.labels):
        raise PackageError(
            "the answer spec and the signature do not agree", where=str(folder), mend="Export the model again."
        )
    return Predictor(manifest, signature, pipeline, _backend(folder, manifest, info, answers.classes, threads), answers)


def read_heads(folder: Path) -> Heads:
    """What a package that chooses begins with.

    Raises:
        PackageError: it has no state, or it cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        what = f"it has no {STATE_FILE}, and without that nothing is known of its actions"
        raise PackageError(what, where=str(folder), mend="Export the model again.")
    return Heads.from_bytes(path.read_bytes(), str(path))


_verify = verify  # load() has an argument of that name


def _backend(folder: Path, manifest: Manifest, info: Mapping[str, FeatureInfo], classes: int, threads: int) -> Backend:
    path = folder / MODEL_FILES[manifest.runtime]
    if manifest.runtime == "onnx":
        from tidemill.runtime.onnx import OnnxBackend

        return OnnxBackend(path, info, threads)
    from tidemill.runtime.torch import TorchBackend

    if manifest.network is None:
        raise PackageError(
            "the manifest has no network for its weights", where=str(folder), mend="Export the model again."
        )
    return TorchBackend(path, manifest.network, info, classes)
