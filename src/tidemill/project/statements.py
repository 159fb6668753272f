"""Files of statements: JSON lines, Parquet, or CSV with a header, in which several labels stand in one cell."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tidemill.data.schema import Signature
from tidemill.errors import InputError, NotFoundError
from tidemill.records import JSON

Placed = tuple[str, JSON]
"""A statement and where it stands, as messages name it."""
Maybe = tuple[str, JSON | InputError]
"""The same, or why there is none."""

COMMA = ","
_AT_ONCE = 5000


def read_statements(path: Path, signature: Signature, field: str) -> Iterator[Placed]:
    """The statements of a JSONL or Parquet file, or of a ``.csv`` or ``.tsv`` file with a header.

    In CSV an empty cell is a field that is left out, and *field* (``value`` or ``label``) holds what its kind asks for:
    where any number of labels is right, all of them with the source's separator (else a comma) between. In Parquet a
    null is a field that is left out.

    Raises:
        NotFoundError: no such file.
        InputError: a line is no JSON object or no row; names it.
    """
    for where, item in read_each(path, signature, field):
        if isinstance(item, InputError):
            raise item
        yield where, item


def read_each(path: Path, signature: Signature, field: str) -> Iterator[Maybe]:
    """The same, but a faulty line stops no other.

    Raises:
        NotFoundError: no such file.
        InputError: the file is not what its name says.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}", mend="Check the path.")
    if path.suffix in (".csv", ".tsv"):
        yield from _read_csv(path, signature, field)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield where, _kept(_object, line, where)


def _kept(read: Callable[..., JSON], *arguments: Any, **more: Any) -> JSON | InputError:
    try:
        return read(*arguments, **more)
    except InputError as error:
        return error


def _object(line: bytes, where: str) -> JSON:
    try:
        item = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text", where=where, mend="Save the file as UTF-8.") from None
    except RecursionError:
        raise InputError("nested too deeply", where=where, mend="Mend this line.") from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=where, mend="Mend this line.") from None
    if not isinstance(item, dict):
        raise InputError("not a JSON object", where=where, mend="Write one object a line.")
    return item


def _read_parquet(path: Path) -> Iterator[Maybe]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    item = {name: value for name, value in row.items() if value is not None}
                    if item.get("kind") == "preference" and isinstance(item.get("value"), str):
                        item["value"] = _kept(_object, item["value"].encode(), f"{path}:{number}")
                    fault = item.get("value")
                    yield f"{path}:{number}", fault if isinstance(fault, InputError) else item
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not Parquet: {error}", where=str(path), mend="Write it anew, or name it as it is.") from None


def _read_csv(path: Path, signature: Signature, field: str) -> Iterator[Maybe]:
    reader: Any = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else COMMA, strict=True)
            names: list[str] = next(reader, [])
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    what = f"the row has {len(cells)} cells, and the header {len(names)}"
                    yield where, InputError(what, where=where, mend="Put quotes around a cell with a comma in it.")
                    continue
                item: JSON = {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}
                yield where, _kept(_typed, item, signature, field, where, given=field in names)
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text", where=str(path), mend="Save the file as UTF-8.") from None
    except csv.Error as error:
        where = f"{path}:{reader.line_num}"
        raise InputError(f"not CSV: {error}", where=where, mend="Mend this line.") from None


def _typed(item: JSON, signature: Signature, field: str, where: str, *, given: bool) -> JSON:
    """Texts of cells as the values that JSON would have."""
    if "asked" in item:
        word = item["asked"].strip().lower()
        if word not in ("true", "false", "1", "0"):
            raise InputError(f"asked is {item['asked']!r}", where=where, mend="Write true or false.")
        item["asked"] = word in ("true", "1")
    if "predictions" in item:
        item["predictions"] = re.findall(r"[^\s\[\]\",;|]+", item["predictions"])
    kind, cell = item.get("kind", "correction"), item.get(field)
    if cell is not None and kind in ("rating", "reward"):
        try:
            item[field] = float(cell)
        except ValueError:
            raise InputError(f"a {kind} is a number, not {cell!r}", where=where, mend="Give a number.") from None
    elif cell is not None and kind == "preference":
        item[field] = _object(cell.encode(), where)
    elif given and kind == "correction" and signature.kind == "multilabel":
        item[field] = split_labels(cell or "", signature)
    return item


def split_labels(text: str, signature: Signature) -> list[str]:
    """The labels in a text: itself when it is one, a JSON list, or what stands between separators or commas.

    >>> films = Signature(inputs=(), target="genres", kind="multilabel", labels=("drama", "sci-fi, horror"))
    >>> split_labels("sci-fi, horror", films), split_labels("drama, war", films), split_labels(" ", films)
    (['sci-fi, horror'], ['drama', 'war'], [])
    """
    text = text.strip()
    if text in signature.labels:
        return [text]
    if text.startswith("["):
        try:
            return [str(label) for label in json.loads(text)]
        except ValueError:
            pass  # a label, or labels, that begin with a bracket
    parts = text.split(signature.separator if signature.separator and signature.separator in text else COMMA)
    return [part.strip() for part in parts if part.strip()]


def write_csv(path: Path, items: Iterable[JSON], names: Sequence[str], signature: Signature) -> None:
    """Write statements as CSV that :func:`read_statements` takes back."""
    between = signature.separator or COMMA
    plain = not any(between in label for label in signature.labels)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for item in items:
            writer.writerow([_cell(item[name], between if plain else None) for name in names])


def _cell(value: Any, between: str | None) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and between is not None:
        return between.join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
