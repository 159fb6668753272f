"""Any number of labels for an image: what is to be seen in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._images import bar, image_field
from tidemill.tasks._multilabel import MultilabelTask, multilabel_signature, several
from tidemill.tasks._recipes import PIXELS, closed_form_baselines, image_networks


class ImageMultiLabel(MultilabelTask):
    """Images of one size (others are resized when they are imported), and a list of labels each."""

    name: ClassVar[str] = "image-multi-label"
    summary: ClassVar[str] = "any number of labels for an image"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits one column of images, with a target of lists or of separated labels."""
        images = [c for c in source.columns if c.type == "image" and c.name != target]
        if len(images) != 1 or not several(source, target):
            return None
        return Claim(confidence=0.95, reason=f"{target!r} holds several labels a row, and {images[0].name!r} images")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The image column and every single label; other columns are left aside."""
        return multilabel_signature(source, target, [image_field(source, target)], labels)

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Two closed-form baselines, the textbook network, and a faster, better one."""
        return [*closed_form_baselines(self.name, PIXELS, PIXELS), *image_networks(self.name)]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Noisy 8×8 images with bright bars of up to three directions."""
        rng = np.random.default_rng(seed)
        records: list[Mapping[str, Any]] = []
        for _ in range(rows):
            image = rng.integers(0, 60, (8, 8), dtype=np.uint8)
            shown = [name for name in ("level", "slanting", "upright") if rng.random() < 0.5]
            for name in shown:
                bar(image, name, int(rng.integers(1, 7)))
            records.append({"image": image.tolist(), "label": shown})
        return records
