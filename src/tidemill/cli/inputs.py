"""Rows to answer: from arguments, from JSON lines, from a plain text, or from any file that is a source."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import InputError, NotReadyError, TooLargeError

if TYPE_CHECKING:
    from tidemill.config import Config
    from tidemill.data.schema import Field, Signature

_LINES = (".jsonl", ".ndjson")


class Row(dict[str, Any]):
    """The inputs of one row; ``origin`` says where it came from, ``None`` for arguments."""

    origin: str | None = None


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
        row[name] = _from_text(fields.get(name), _read(value) if _is(fields.get(name), "text") else value, name)
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
    fields = _fields(signature)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            data = json.loads(line)
        except UnicodeDecodeError:
            raise InputError("is not UTF-8 text", where=where, mend="Save the file as UTF-8.") from None
        except RecursionError:
            raise InputError("is nested too deeply", where=where, mend="Write one JSON object a line.") from None
        except ValueError as error:
            raise InputError(f"is not JSON: {error}", where=where, mend="Write one JSON object a line.") from None
        if not isinstance(data, dict):
            raise InputError("is not a JSON object", where=where, mend='Write one row a line: {"field": value}.')
        row = Row({k: _image_path(fields.get(k), v, folder or Path(), f"{where}, {k}") for k, v in data.items()})
        row.origin = where
        yield row


def from_file(spec: str, signature: Signature | None, config: Config) -> Iterator[Row]:
    """Every row of a file or folder; its target and the columns that the project ignores are left out.

    Raises:
        SourceError: it cannot be read.
        InputError: a row does not fit, or was damaged: no row is left out in silence.
    """
    path = Path(spec)
    if path.suffix in _LINES and path.is_file():
        with path.open("rb") as lines:
            dropped = _dropped(signature, config)
            for row in from_lines(lines, signature, path.name, path.parent):
                for name in dropped & row.keys():
                    del row[name]
                yield row
        return
    yield from _from_source(spec, signature, config)


def _from_source(spec: str, signature: Signature | None, config: Config) -> Iterator[Row]:
    from tidemill.data.sources import open_source
    from tidemill.stages.prepare import source_limits

    fields = _fields(signature)
    shapes = {f.name: f.shape for f in fields.values() if f.shape is not None}
    dropped = _dropped(signature, config)
    for batch in open_source(spec, limits=source_limits(config)).batches(1000, shapes=shapes):
        for fault in batch.faults:
            what = fault.what.removesuffix(" and was left out").removesuffix(", and the row was left out")
            said = f"{what}: {fault.detail}" if fault.detail else what
            raise InputError(said, where=fault.origin, mend="Mend or remove this row.")
        names = [n for n in batch.columns if n not in dropped and (config.inputs is None or n in config.inputs)]
        columns = {n: _values(batch.columns[n]) for n in names}
        origins = batch.origin.to_pylist()
        for index, origin in enumerate(origins):
            row = Row({n: _from_cell(fields.get(n), columns[n][index], f"{origin}, {n}") for n in names})
            row.origin = origin
            yield row


def limited(rows: Iterable[Row], config: Config) -> Iterator[Row]:
    """The rows, whose texts must not be longer than those that are learned from.

    Raises:
        TooLargeError: one is; the message names row and field.
    """
    most = int(config.limits.text_mb * 1e6)
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and len(value) > most // 4 and len(value.encode(errors="replace")) > most:
                raise TooLargeError(
                    f"the text has {len(value):,} characters, and {config.limits.text_mb:g} MB are the limit",
                    where=f"{row.origin}, {name}" if row.origin else name,
                    mend="Shorten it, or raise limits.text_mb in tidemill.yaml.",
                )
        yield row


def _fields(signature: Signature | None) -> Mapping[str, Field]:
    if signature is None:
        raise NotReadyError("the project does not know its inputs yet", mend="Run `tidemill cycle` first.")
    return {f.name: f for f in signature.inputs}


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


def _dropped(signature: Signature | None, config: Config) -> set[str]:
    return {config.target, *config.ignore, *([signature.target] if signature is not None else [])}


def _values(column: Any) -> Any:
    return column if getattr(column, "ndim", 0) > 1 else column.tolist()


def _from_cell(field: Field | None, value: Any, where: str) -> Any:
    return _from_text(field, value.strip(), where) if isinstance(value, str) and not _is(field, "image") else value


def _from_text(field: Field | None, text: str, where: str) -> Any:
    if _is(field, "image"):
        return _image_path(field, text, Path(), where)
    if not _is(field, "number"):
        return text or None
    if text in ("", "?", "NA", "N/A", "nan", "null"):
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number", where=where, mend="Write it like 3.5, or leave it out.") from None


def _image_path(field: Field | None, value: Any, folder: Path, where: str) -> Any:
    """The bytes of an image that is named by its path; everything else (data URL, base64, lists) as it is."""
    if not _is(field, "image") or not isinstance(value, str) or value.startswith("data:") or len(value) > 4096:
        return value
    path = folder / Path(value).expanduser()
    if not path.is_file():
        if path.suffix:
            raise InputError("there is no such image file", where=f"{where}: {value}", mend="Give a path to an image.")
        return value
    return path.read_bytes()


def _is(field: Field | None, kind: str) -> bool:
    return field is not None and field.type == kind
