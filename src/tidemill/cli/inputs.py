"""Rows to answer: from arguments, from JSON lines, from a plain text, or from any file that is a source."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.data import rows
from tidemill.data.rows import Row, from_text, require_short, sound
from tidemill.errors import InputError, NotReadyError

if TYPE_CHECKING:
    from tidemill.config import Config
    from tidemill.data.schema import Field, Signature


def from_arguments(values: Iterable[str], signature: Signature | None) -> Row:
    """One row from ``name=value``; where there is one image or text field, its path or text may stand alone.

    ``name=@file`` reads a text from a file, and ``@file`` the only one.

    Raises:
        InputError: not ``name=value``, a field twice, no number where one belongs, or a file that is not there.
    """
    fields = _fields(signature)
    lone = _lone(fields)
    row = Row()
    for text in values:
        name, found, value = text.partition("=")
        if lone is not None and (not found or (lone.type == "text" and _no_name(name, fields))):
            if lone.type == "image" and not _is_file(Path(text)):
                raise InputError(
                    f"{text!r} is neither NAME=VALUE nor an image file", mend=f"The fields are {', '.join(fields)}."
                )
            name, value = lone.name, text
        elif not found:
            raise InputError(
                f"{_start(text)} is not NAME=VALUE",
                mend=f"The fields are {', '.join(fields)}; write {next(iter(fields))}=…",
            )
        if name in row:
            raise InputError("the field is given twice", where=name, mend="Give each field once.")
        row[name] = from_text(fields.get(name), _read(value) if _is(fields.get(name), "text") else value, name)
    return row


def from_stdin(lines: Iterable[bytes], signature: Signature | None) -> Iterator[Row]:
    """JSON lines; or, where the only field is a text and the first line is no JSON object, one text.

    Raises:
        InputError: a line is not a JSON object, or the text is not UTF-8.
    """
    lone = _lone(_fields(signature))
    following = iter(lines)
    start = next((line for line in following if line.strip()), b"")
    if lone is None or lone.type != "text" or not start.strip() or start.lstrip().startswith(b"{"):
        yield from from_lines(itertools.chain([start], following), signature, "stdin")
        return
    try:
        text = b"".join([start, *following]).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where="stdin", mend="Send UTF-8.") from None
    yield Row({lone.name: text.strip()})


def from_lines(
    lines: Iterable[bytes], signature: Signature | None, name: str, folder: Path | None = None
) -> Iterator[Row]:
    """A row a line of JSON; an image may be a path, relative to *folder*.

    Raises:
        InputError: a line is not a JSON object; named by its number.
    """
    return sound(rows.from_lines(lines, _fields(signature), name, folder))


def from_file(spec: str, signature: Signature | None, config: Config) -> Iterator[Row]:
    """Every row of a file or folder; its target and the columns that the project ignores are left out.

    Raises:
        SourceError: it cannot be read.
        InputError: a row does not fit, or was damaged: no row is left out in silence.
    """
    from tidemill.project.predicting import row_file

    return sound(row_file(spec, _known(signature), config))


def limited(found: Iterable[Row], config: Config) -> Iterator[Row]:
    """The rows, whose texts must not be longer than those that are learned from.

    Raises:
        TooLargeError: one is; the message names row and field.
    """
    for row in found:
        require_short(row, config.limits.text_mb)
        yield row


def _known(signature: Signature | None) -> Signature:
    if signature is None:
        raise NotReadyError("the project does not know its inputs yet", mend="Run `tidemill cycle` first.")
    return signature


def _fields(signature: Signature | None) -> Mapping[str, Field]:
    return {f.name: f for f in _known(signature).inputs}


def _no_name(start: str, fields: Mapping[str, Field]) -> bool:
    """Whether what stands before a ``=`` is the beginning of a text, and no field, nor one that was mistyped."""
    return start not in fields and not difflib.get_close_matches(start.casefold(), [n.casefold() for n in fields], 1)


def _lone(fields: Mapping[str, Field]) -> Field | None:
    """The field whose value may stand alone: the only image, or the only field when that is a text."""
    images = [f for f in fields.values() if f.type == "image"]
    if len(images) == 1:
        return images[0]
    only = list(fields.values())
    return only[0] if len(only) == 1 and only[0].type == "text" else None


def _read(value: str) -> str:
    """The text itself, or of ``@file`` the file's content.

    A text that begins with an ``@`` and has blanks in it is one, unless there is a file of that very name; ``@@``
    stands for an ``@`` wherever a file could be meant.
    """
    if not value.startswith("@"):
        return value
    path = Path(value[1:]).expanduser()
    if value.startswith("@@") or (len(value.split()) > 1 and not _is_file(path)):
        return value.replace("@@", "@", 1) if value.startswith("@@") else value
    if not _is_file(path):
        raise InputError("there is no such file", where=value[:200], mend="Check the path; @@ begins a text with an @.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=str(path), mend="Save the file as UTF-8.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long to be a path, or with a NUL in it
        return False


def _start(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _is(field: Field | None, kind: str) -> bool:
    return field is not None and field.type == kind
