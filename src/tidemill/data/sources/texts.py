"""Text files in class folders, possibly under ``train``, ``val`` and ``test``: one text a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from tidemill.data.sources._base import BATCH_BYTES, Batch, Fault, Limits, Shapes, Source, Summary
from tidemill.data.sources._encodings import REPLACED, RowDecoder, sniff_encoding
from tidemill.data.sources._files import fingerprint
from tidemill.data.sources._summary import summarise
from tidemill.data.sources.images import Entry, entries_of
from tidemill.errors import InputError, SourceError

SUFFIXES = frozenset({".txt", ".text"})


def is_text_file(name: str) -> bool:
    """Told by the suffix; hidden files and what macOS adds to archives are none."""
    path = PurePosixPath(name)
    return path.suffix.casefold() in SUFFIXES and not any(p.startswith((".", "__MACOSX")) for p in path.parts)


class TextFolder(Source):
    """The columns are ``text`` and ``label``, the name of the class folder (missing in ``unlabelled``).

    Args:
        root: the folder.
        limits: what it may cost.
        name: what to call the source.
        paths: only these files, relative to the root.
    """

    def __init__(self, root: Path, limits: Limits, *, name: str | None = None, paths: list[str] | None = None) -> None:
        super().__init__(name or root.name, limits)
        self.root = root
        found = paths
        if found is None:
            found = []
            for folder, names, files in os.walk(root):  # symbolic links to folders are not followed
                names.sort()
                base = Path(folder).relative_to(root)
                found += [(base / f).as_posix() for f in files if is_text_file((base / f).as_posix())]
        if not found:
            mend = "Give .txt files in folders named after their classes."
            raise SourceError("there are no text files in it.", where=str(root), mend=mend)
        self.entries = entries_of(sorted(found))
        self.notes.append(f"{len(self.entries):,} text files; the label is the name of the folder a file is in")

    def fingerprint(self) -> str:
        """Paths, sizes and times of all files."""
        return fingerprint("texts", self.root, (p for e in self.entries if (p := self.root / e.path).exists()))

    def summary(self) -> Summary:
        """One pass over all files."""
        return summarise(self.name, self.batches(), self.notes, "label")

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """The files that hold text, in the order of their paths; the others are faults."""
        texts: list[str] = []
        kept: list[Entry] = []
        faults: list[Fault] = []
        total = 0
        for entry in self.entries:
            try:
                text, done = self._read(entry)
            except InputError as error:
                faults.append(Fault(entry.path, "the file is no text that can be read and was left out", error.what))
                continue
            if done:
                faults.append(Fault(entry.path, done, text[:60]))
            texts.append(text)
            kept.append(entry)
            total += len(text)
            if len(texts) >= size or total >= BATCH_BYTES:
                yield self._batch(texts, kept, faults)
                texts, kept, faults, total = [], [], [], 0
        if texts or faults:
            yield self._batch(texts, kept, faults)

    def _batch(self, texts: list[str], entries: list[Entry], faults: list[Fault]) -> Batch:
        kind = pa.large_string()
        columns = {"text": pa.array(texts, kind), "label": pa.array([e.label for e in entries], kind)}
        origin = pa.array([f"{self.name}/{e.path}" for e in entries], kind)
        return Batch(columns, np.array([e.split for e in entries], np.int8), origin, tuple(faults))

    def _read(self, entry: Entry) -> tuple[str, str]:
        """The text, and what was done to it (empty for plain UTF-8).

        Raises:
            InputError: it is too long, binary, or leads out of the folder.
        """
        path = self.root / entry.path
        limit = self.limits.max_field_bytes
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
                raise InputError("the link leads out of the folder.")
            if not path.is_file():
                raise InputError("this is no regular file.")
            if path.stat().st_size > limit:
                raise InputError(f"the file is longer than {limit:,} bytes.")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"the file cannot be read ({error.strerror}).") from error
        return decoded(data, entry.path)


def decoded(data: bytes, name: str) -> tuple[str, str]:
    """A whole file as text without padding, and what was done to it (empty for plain UTF-8).

    Raises:
        InputError: it is binary.

    >>> decoded("déjà vu".encode("latin-1"), "a.txt")
    ('déjà vu', 'the file is no UTF-8 and was read as cp1252')
    """
    try:
        encoding = sniff_encoding(data, name)
    except SourceError as error:
        raise InputError("the file is binary.") from error
    if b"\0" in data and encoding != "utf-16":
        raise InputError("the file is binary.")
    if encoding == "utf-8":
        text, done = RowDecoder(encoding, name).row(data)
        done = done.replace("the row is", "the file is")
    else:
        text = data.decode(encoding, "replace")
        fine = encoding in ("utf-8-sig", "utf-16") and "\ufffd" not in text
        done = "" if fine else f"the file is no UTF-8 and was read as {encoding}"
        done = REPLACED if "\ufffd" in text else done
    return text.strip(), done
