"""``encoder``: texts or images as the vectors of a pretrained model that stays as it is."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.checkpoints import Checkpoint, open_checkpoint
from tidemill.checkpoints.tokens import tokeniser
from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError, TrainingError
from tidemill.features._base import FeatureInfo, FeatureStep, as_float32
from tidemill.features.pixels import Pixels
from tidemill.features.tokenizer import Tokenizer, checked_length, joined, longest_first

if TYPE_CHECKING:
    import torch

    from tidemill.checkpoints.backbones import Backbone

_TOKENS = 4096  # of one call of the model: more gain nothing on CPUs, and take memory
_IMAGES = 32


class Encoder(FeatureStep):
    """Text columns, or one column of images, to float32 ``x`` ``[n, width]``: frozen features.

    Every vector is as long as its width's square root, so its values are of size 1. Nothing is learned from the rows,
    so a dataset version is encoded once, for the fit and the refit and for every head over it. In a package the encoder
    is a part of the graph, and a tokeniser or the pixels stand in its place.

    Args:
        columns: text columns, joined in this order by a line break; or one column of images.
        checkpoint: the encoder: ``folder:PATH``, ``hub:OWNER/NAME@REVISION`` or ``package:NAME``.
        max_length: most tokens of a text; ``None`` is 128, or fewer where the checkpoint takes no more.
        side: of images in pixels; ``None`` is what the checkpoint was trained on. Smaller is quicker.

    Raises:
        ConfigError: *max_length* or *side* is out of range.
    """

    name: ClassVar[str] = "encoder"
    handles: ClassVar[tuple[FieldType, ...]] = ("text", "image")
    learns: ClassVar[bool] = False

    def __init__(
        self, columns: list[str], *, checkpoint: str, max_length: int | None = None, side: int | None = None
    ) -> None:
        super().__init__(columns)
        if side is not None and not 16 <= side <= 1024:
            raise ConfigError(f"side is {side}", where="feature step encoder", mend="Give a number from 16 to 1024.")
        self._checkpoint = checkpoint
        self._most = checked_length(max_length, self.name)
        self._side = side
        self._shape: tuple[int, ...] = ()
        self._width = 0

    def observe(self, chunk: Columns) -> None:
        first = chunk[self.columns[0]]
        if isinstance(first, np.ndarray) and first.ndim == 4:
            self._shape = first.shape[1:]

    def finish(self) -> None:
        kind = self._opened().kind
        if kind == "image" and (not self._shape or len(self.columns) > 1):
            raise ConfigError(
                f"the checkpoint reads one column of images, and it is given {', '.join(self.columns)}",
                where="feature step encoder",
                mend="Name that column under columns, or choose a text encoder.",
            )
        if kind == "text" and self._shape:
            raise ConfigError(
                "the checkpoint reads texts, and it is given images",
                where="feature step encoder",
                mend="Choose a vision backbone, such as one of ViT, ConvNeXt or ResNet.",
            )
        self._width = self.backbone.width

    def _opened(self) -> Checkpoint:
        return open_checkpoint(self._checkpoint)

    @property
    def backbone(self) -> Backbone:
        """The encoder as a module, on the CPU; loaded once in a process."""
        return _backbone(self._checkpoint, self._side)

    def packed(self) -> FeatureStep:
        """What a package holds in its place: ``tokenizer`` or ``pixels``."""
        if self._shape:
            pixels = Pixels(self.columns)
            channels = self._shape[-1]
            pixels.restore({"shape": self._shape, "mean": [127.5] * channels, "std": [127.5] * channels})
            return pixels
        tokenizer = Tokenizer(self.columns)
        tokens = tokeniser(self._opened(), self._most)
        tokenizer.restore({"tokenizer": tokens.told, "length": tokens.length})
        return tokenizer

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        if self._shape:
            images = np.asarray(columns[self.columns[0]])
            groups = np.split(np.arange(len(images)), np.arange(_IMAGES, len(images), _IMAGES))
            return {"x": self._vectors(len(images), groups, images)}
        tokens = tokeniser(self._opened(), self._most)(joined(columns, self.columns))
        return {"x": self._vectors(len(tokens), longest_first(tokens, _TOKENS), tokens)}

    def _vectors(
        self, rows: int, groups: list[npt.NDArray[np.int64]], features: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        import torch

        from tidemill.features._memory import given_back, memory_told

        network = self.backbone
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        out = np.empty((rows, network.width), np.float32)
        parts = 1  # of each group, where memory is short
        with torch.inference_mode():
            try:
                with memory_told("this encoder"):
                    network.to(device)
                for group in groups:
                    done = 0
                    while done < len(group):
                        chosen = group[done : done + -(-len(group) // parts)]
                        found = _encoded(network, features, chosen, device)
                        if found is not None:
                            out[chosen] = found
                            done += len(chosen)
                        elif len(chosen) == 1:
                            raise TrainingError(
                                f"{device} has too little memory for encoding one row",
                                where="feature step encoder",
                                mend="Lower max_length or side, choose a smaller checkpoint, or end what else uses it.",
                            )
                        else:
                            parts *= 2
                            given_back(device)
            finally:
                network.to("cpu")  # it is kept for later, and what comes next wants the device's memory
        return scaled(out)

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", (self._width,))}

    def state(self) -> dict[str, Any]:
        return {"width": self._width, "shape": list(self._shape)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._width = int(state["width"])
        self._shape = tuple(int(side) for side in state["shape"])


def scaled(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Every row as long as the square root of its width.

    >>> scaled(np.array([[3.0, 4.0, 0.0, 0.0]], np.float32)).astype(float).round(2).tolist()
    [[1.2, 1.6, 0.0, 0.0]]
    """
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return as_float32(vectors * (np.sqrt(vectors.shape[1]) / np.maximum(lengths, 1e-12)))


def _encoded(
    network: Backbone, features: npt.NDArray[Any], rows: npt.NDArray[np.int64], device: torch.device
) -> npt.NDArray[np.float32] | None:
    """The vectors of some rows; ``None`` where memory does not suffice."""
    import torch

    from tidemill.features._memory import out_of_memory

    try:
        batch = features[rows]
        if batch.ndim == 2:
            batch = batch[:, : max(1, int((batch != 0).sum(axis=1).max()))]
        found: npt.NDArray[np.float32] = network(torch.from_numpy(batch).to(device)).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None
    return found


@lru_cache(maxsize=2)
def _backbone(checkpoint: str, side: int | None) -> Backbone:
    from tidemill.checkpoints.backbones import load_backbone

    return load_backbone(open_checkpoint(checkpoint), side=side)
