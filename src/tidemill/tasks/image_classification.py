"""One of several labels for an image: digits, products, defects, faces of a dial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Field, Signature
from tidemill.data.sources import Summary
from tidemill.errors import SourceError
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._classification import ClassificationTask, checked_labels, closed_form_baselines

PIXELS = ({"step": "pixels"},)


class ImageClassification(ClassificationTask):
    """Images of one size (others are resized when they are imported), and one label each."""

    name: ClassVar[str] = "image-classification"
    summary: ClassVar[str] = "one of several labels for an image"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits whatever has exactly one column of images."""
        images = [c for c in source.columns if c.type == "image" and c.name != target]
        if len(images) != 1:
            return None
        return Claim(confidence=0.95, reason=f"the column {images[0].name!r} holds images")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The image column and the label; other columns are left aside."""
        image = next((c for c in source.columns if c.type == "image" and c.name != target), None)
        if image is None:
            raise SourceError(
                "there is no column of images",
                mend="Give a folder or zip of images in class folders, IDX files, or an .npz with an array of images.",
            )
        field = Field(name=image.name, type="image", shape=image.shape)
        return Signature(inputs=(field,), target=target, kind="classification", labels=checked_labels(labels, target))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Two closed-form baselines, the textbook network, and a faster, better one."""
        return [
            *closed_form_baselines(self.name, PIXELS, PIXELS),
            Recipe(
                name="cnn-small",
                task=self.name,
                learner="gradient",
                features=PIXELS,
                network={"name": "cnn-small"},
                space={"learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True}},
            ),
            Recipe(
                name="cnn",
                task=self.name,
                learner="gradient",
                features=PIXELS,
                network={"name": "cnn"},
                space={
                    "learning_rate": {"type": "float", "low": 1e-3, "high": 5e-2, "log": True},
                    "weight_decay": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
                },
            ),
        ]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Noisy 8×8 images with a bright bar: upright, level or slanting."""
        rng = np.random.default_rng(seed)
        names = ("level", "slanting", "upright")
        records: list[Mapping[str, Any]] = []
        for row in range(rows):
            image = rng.integers(0, 60, (8, 8), dtype=np.uint8)
            at = int(rng.integers(1, 7))
            if row % 3 == 0:
                image[at, :] = 220
            elif row % 3 == 1:
                image[np.arange(8), (np.arange(8) + at) % 8] = 220
            else:
                image[:, at] = 220
            records.append({"image": image.tolist(), "label": names[row % 3]})
        return records
