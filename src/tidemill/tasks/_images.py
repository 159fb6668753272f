"""What the image tasks share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.data.schema import Field
from tidemill.data.sources import Summary
from tidemill.errors import SourceError


def image_field(source: Summary, target: str) -> Field:
    """The column of images.

    Raises:
        SourceError: there is none.
    """
    image = next((c for c in source.columns if c.type == "image" and c.name != target), None)
    if image is None:
        raise SourceError(
            "there is no column of images",
            mend="Give a folder or zip of images in class folders or with a metadata file, IDX files, or an .npz with "
            "an array of images.",
        )
    return Field(name=image.name, type="image", shape=image.shape)


def bar(image: npt.NDArray[np.uint8], kind: str, at: int) -> None:
    """Draw a bright bar, ``level``, ``slanting`` or ``upright``, into a square image."""
    side = len(image)
    if kind == "level":
        image[at, :] = 220
    elif kind == "upright":
        image[:, at] = 220
    else:
        image[np.arange(side), (np.arange(side) + at) % side] = 220
