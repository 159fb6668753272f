"""A sample for human eyes: images as half-block art, texts as paragraphs, everything else as a table.

Samples come from files and from callers over HTTP. Whatever of them could steer a terminal is made visible instead.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.show.layout import PANEL, pairs, stack, visible

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import RenderableType
    from rich.text import Text

_RAMP = " .:-=+*#%@"
_LONG = 60  # characters from which on a text is a paragraph
_MOST = 2000  # characters of one text that are shown


def sample(inputs: Mapping[str, Any], *, width: int, colour: bool) -> RenderableType:
    """The inputs of one sample; an image is at most *width* columns wide, in grey letters without *colour*."""
    pictures = {name: value for name, value in inputs.items() if is_image(value)}
    rest = {name: short(value) for name, value in inputs.items() if name not in pictures}
    long = {name: text for name, text in rest.items() if len(text) > _LONG or "\n" in text}
    return stack(
        *(image_art(decode(value), width=width, colour=colour) for value in pictures.values()),
        pairs({name: text for name, text in rest.items() if name not in long}) if len(rest) > len(long) else None,
        *(paragraph(name if len(rest) > 1 else None, text) for name, text in long.items()),
    )


def paragraph(name: str | None, text: str) -> RenderableType:
    """A text to be read: wrapped at a width that the eye can follow, under its field's name."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    made = Table.grid()
    made.add_column(max_width=PANEL, overflow="fold")
    if name is not None:
        made.add_row(Text(visible(name), "dim"))
    made.add_row(Text(text))
    return Padding(made, (0, 0, 0, 2))


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


def short(value: Any) -> str:
    """A value as text that is safe to print, cut when it is longer than a screen."""
    text = "–" if value is None else str(value)
    return visible(text if len(text) <= _MOST else f"{text[:_MOST]}… ({len(text):,} characters)")
