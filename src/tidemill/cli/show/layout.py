"""Tables, pairs and panels in one style.

What they show comes from files, from models and from callers over HTTP, so whatever of it could steer a terminal is
made visible instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.cli.show.units import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text


PANEL = 100  # columns: longer lines are hard to read; a narrower terminal narrows it


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """A table without lines; a column whose name starts with ``>`` is aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            column.removeprefix(">"), header_style="dim", justify="right" if right else "left", no_wrap=right
        )
    for row in rows:
        made.add_row(*(Text(visible(cell)) if isinstance(cell, str) else cell for cell in row))
    return made


def pairs(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one a line."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column()
    for name, value in values.items() if isinstance(values, Mapping) else values:
        made.add_row(
            Text(visible(name.replace("_", " "))),
            Text(visible(value if isinstance(value, str) else plain(name, value))),
        )
    return made


def panel(text: str, *, title: str, good: bool | None) -> Panel:
    """A framed message: green when *good*, yellow when not, plain for neither."""
    from rich.panel import Panel
    from rich.text import Text

    colour = {True: "green", False: "yellow", None: "none"}[good]
    return Panel(Text(visible(text)), title=f"[bold]{title}[/]", title_align="left", border_style=colour, width=PANEL)


def mark(good: bool) -> Text:
    """A green tick or a red cross."""
    from rich.text import Text

    return Text("✓", "green") if good else Text("✗", "red")


def following(commands: Iterable[str]) -> RenderableType | None:
    """What to do next, or nothing."""
    from rich.text import Text

    lines = list(commands)
    return Text("next  ", style="dim").append("\n      ".join(lines), style="bold") if lines else None


def stack(*parts: RenderableType | None) -> RenderableType:
    """One below the other, a blank line between; what is ``None`` is left out."""
    from rich.console import Group

    shown: list[RenderableType] = []
    for part in parts:
        if part is not None:
            shown += ["", part] if shown else [part]
    return Group(*shown)


def line(text: str) -> RenderableType:
    """Text as it is, without markup."""
    from rich.text import Text

    return Text(visible(text))


def visible(text: str) -> str:
    r"""*text* with every control character but line breaks and tabs as its picture, so that none steers the terminal.

    >>> visible("a" + chr(27) + "[31mb" + chr(13) + chr(10) + "c")
    'a␛[31mb\nc'
    """
    return text.replace("\r\n", "\n").translate(_PICTURES)


_PICTURES: dict[int, str] = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: "␡"}
_PICTURES |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "�")
