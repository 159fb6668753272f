"""A sample for human eyes: images as half-block art, everything else as a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.show.layout import pairs, stack

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import RenderableType
    from rich.text import Text

_RAMP = " .:-=+*#%@"


def sample(inputs: Mapping[str, Any], *, width: int, colour: bool) -> RenderableType:
    """The inputs of one sample; an image is at most *width* columns wide, in grey letters without *colour*."""
    pictures = {name: value for name, value in inputs.items() if is_image(value)}
    rest = {name: _short(value) for name, value in inputs.items() if name not in pictures}
    return stack(
        *(image_art(decode(value), width=width, colour=colour) for value in pictures.values()),
        pairs(rest) if rest else None,
    )


def is_image(value: Any) -> bool:
    """Whether a value of a sample is an image as a data URL."""
    return isinstance(value, str) and value.startswith("data:image/")


def decode(url: str) -> Image:
    """The image of a data URL, RGB."""
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def image_art(image: Image, *, width: int, colour: bool) -> Text:
    """Two pixels a character: ``▀`` in the upper pixel's colour on the lower one's; letters without colour."""
    from PIL import Image
    from rich.text import Text

    columns = max(1, min(width, max(image.width, 16)))
    rows = max(1, round(image.height * columns / image.width / 2))
    filtered = Image.Resampling.NEAREST if columns >= image.width else Image.Resampling.BOX
    small = image.resize((columns, rows * 2), filtered)
    art = Text()
    if not colour:
        grey = small.convert("L").resize((columns, rows), Image.Resampling.BOX).tobytes()
        for row in range(rows):
            line = grey[row * columns : (row + 1) * columns]
            art.append("".join(_RAMP[value * len(_RAMP) // 256] for value in line).rstrip() + "\n")
        return art
    data = small.tobytes()
    for row in range(rows):
        for column in range(columns):
            upper, lower = ((2 * row + half) * columns + column for half in (0, 1))
            art.append("▀", f"rgb({_rgb(data, upper)}) on rgb({_rgb(data, lower)})")
        art.append("\n")
    return art


def _rgb(data: bytes, pixel: int) -> str:
    return ",".join(str(value) for value in data[3 * pixel : 3 * pixel + 3])


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 2000 else f"{text[:2000]}… ({len(text):,} characters)"
