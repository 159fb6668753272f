"""What a decoder under the fuzzer is, and how one input of bytes stands for several files."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tidemill.errors import TidemillError

MARK = b"\xfe\xf1"
"""What parts an input into files, so that the fuzzer's cuts and copies are mostly those of whole files."""


Check = Callable[[bytes, Path], None]


@dataclass(frozen=True)
class Decoder:
    """One way in for bytes that nobody vouches for.

    Attributes:
        name: what it is called on the command line.
        check: decodes the bytes, in an empty folder where it may write. It returns, or raises a TidemillError; what
            else it raises is a fault.
        seeds: inputs to start from, most of them good.
        tokens: words of the format, for the fuzzer to put in.
        longest: bytes of an input.
        quick: inputs that take about half a second.
    """

    name: str
    check: Check
    seeds: Callable[[], Iterable[bytes]]
    tokens: tuple[bytes, ...] = ()
    longest: int = 4096
    quick: int = 2000


def join(*parts: bytes) -> bytes:
    """One input of several parts; see :func:`split`."""
    return MARK.join(parts)


def split(data: bytes, most: int = 16) -> list[bytes]:
    """The parts of an input: at most *most*.

    >>> split(join(b"one", b"two"))
    [b'one', b'two']
    """
    return data.split(MARK)[:most]


def named(part: bytes) -> tuple[int, str, bytes]:
    """A file in a part: a byte of flags, its name up to the end of the line, its content.

    >>> named(b"\\x01a/b.txt\\nhello")
    (1, 'a/b.txt', b'hello')
    """
    head, _, content = part[1:].partition(b"\n")
    return (part[0] if part else 0), head.decode("utf-8", "surrogateescape"), content


def number(data: bytes) -> int:
    """The first two bytes of *data* as a number."""
    return int(struct.unpack(">H", data[:2].rjust(2, b"\0"))[0])


def real(*names: str, size: int = 3000) -> list[bytes]:
    """The beginnings of real files, up to the end of a line; none where the data sets are not at hand."""
    root = Path(os.environ.get("TIDEMILL_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    found = []
    for path in (root / name for name in names):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(size)
            found.append(start[: start.rfind(b"\n") + 1] or start)
    return found


def refusing(check: Check) -> Check:
    """*check*, where an error of ours is as good as success, so long as it says what is wrong."""

    @functools.wraps(check)
    def checked(data: bytes, folder: Path) -> None:
        try:
            check(data, folder)
        except TidemillError as error:
            assert error.what.strip() and 400 <= error.status <= 503, repr(error)

    return checked
