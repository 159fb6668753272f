"""One of several labels for an image: digits, products, defects, faces of a dial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._classification import ClassificationTask, checked_labels
from tidemill.tasks._images import bar, image_field
from tidemill.tasks._multilabel import several
from tidemill.tasks._recipes import PIXELS, closed_form_baselines, image_networks


class ImageClassification(ClassificationTask):
    """Images of one size (others are resized when they are imported), and one label each."""

    name: ClassVar[str] = "image-classification"
    summary: ClassVar[str] = "one of several labels for an image"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits whatever has exactly one column of images; a target of fractions is no label."""
        images = [c for c in source.columns if c.type == "image" and c.name != target]
        column = source.column(target)
        fractions = column is not None and column.type == "number" and not column.integers
        if len(images) != 1 or fractions or several(source, target):
            return None
        return Claim(confidence=0.95, reason=f"the column {images[0].name!r} holds images")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The image column and the label; other columns are left aside."""
        field = image_field(source, target)
        return Signature(inputs=(field,), target=target, kind="classification", labels=checked_labels(labels, target))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Two closed-form baselines, the textbook network, and a faster, better one."""
        return [*closed_form_baselines(self.name, PIXELS, PIXELS), *image_networks(self.name)]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Noisy 8×8 images with a bright bar: upright, level or slanting."""
        rng = np.random.default_rng(seed)
        names = ("level", "slanting", "upright")
        records: list[Mapping[str, Any]] = []
        for row in range(rows):
            image = rng.integers(0, 60, (8, 8), dtype=np.uint8)
            bar(image, names[row % 3], int(rng.integers(1, 7)))
            records.append({"image": image.tolist(), "label": names[row % 3]})
        return records
