"""Telling by name, suffix and first bytes which source a spec means."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from tidemill.data.sources._archive import is_hidden, open_zip
from tidemill.data.sources._base import NO_SPLIT, Limits, Source
from tidemill.data.sources._files import (
    near_names,
    open_stream,
    require,
    require_names,
    split_of,
    split_of_file,
    suffix_of,
)
from tidemill.data.sources._metadata import is_metadata
from tidemill.errors import SourceError

_KINDS = {
    ".csv": "delimited", ".tsv": "delimited", ".tab": "delimited",
    ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".npz": "npz", ".zip": "archive",
    ".vw": "vw", ".cb": "vw", ".dsjson": "vw",
    ".tar": "archive", ".tgz": "archive", ".tbz2": "archive", ".txz": "archive",
}  # fmt: skip
_SINGLE = ("archive", "npz", "vw")
_DATABASES = ("sqlite", "postgres", "postgresql", "mysql", "mariadb", "oracle", "mssql")
_FORMATS = "Give images or text files in class folders, or a CSV, TSV, JSONL, Parquet, npz or IDX file."


def open_source(spec: str | Path, *, limits: Limits | None = None, target: str | None = None) -> Source:
    """The source that *spec* names.

    Args:
        spec: a file, a folder, a pattern such as ``data/*.csv``, or an id: ``sklearn:digits``, ``hf:OWNER/NAME``,
            ``sql:URL#QUERY``.
        limits: what it may cost.
        target: what to call the target column of a table without a header.

    Raises:
        SourceError: it is missing, empty, damaged, or of no known format.
        TooLargeError: it is over its limits.
        ExtraMissingError: it needs a package that is not installed.

    >>> [c.name for c in open_source("sklearn:iris").summary().columns][-1]
    'target'
    """
    bounds = limits or Limits()
    scheme, _, rest = str(spec).partition(":")
    if scheme == "sklearn":
        from tidemill.data.sources.sklearn import SklearnSource

        return SklearnSource(rest, bounds)
    if scheme == "hf":
        from tidemill.data.sources.hf import HubSource

        return HubSource(rest, bounds)
    if scheme == "sql":
        from tidemill.data.sources.sql import SqlSource

        return SqlSource(rest, bounds)
    path = Path(spec)
    require_names([str(spec)], str(spec))
    if not path.exists():
        if glob.has_magic(str(spec)):
            return open_pattern(str(spec), bounds, target)
        _refuse_address(str(spec))
    if path.is_dir():
        return open_folder(path, bounds, target)
    require(path)
    return _open(_kind(path, bounds), [path], bounds, target, path.name, path.parent)


def _open(kind: str, files: list[Path], limits: Limits, target: str | None, name: str, root: Path) -> Source:
    if kind == "delimited":
        from tidemill.data.sources.delimited import DelimitedSource

        return DelimitedSource(files, limits, target=target, name=name, root=root)
    if kind == "json":
        from tidemill.data.sources.jsonl import JsonSource

        return JsonSource(files, limits, name=name, root=root)
    if kind == "parquet":
        from tidemill.data.sources.parquet import ParquetSource

        return ParquetSource(files, limits, name=name, root=root)
    if kind == "npz":
        from tidemill.data.sources.npz import NpzSource

        return NpzSource(files[0], limits)
    if kind == "vw":
        from tidemill.data.sources.vw import VwSource

        return VwSource(files[0], limits)
    if kind == "idx":
        from tidemill.data.sources.idx import IdxSource

        return IdxSource(files, name, limits)
    return _open_archive(files[0], limits, target)


def _open_archive(path: Path, limits: Limits, target: str | None) -> Source:
    from tidemill.data.sources.archive import ArchiveSource
    from tidemill.data.sources.images import ImageZip, is_image

    if suffix_of(path) == ".zip" or zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            names = archive.namelist()
        if any(is_image(n) for n in names):
            return ImageZip(path, limits)

    def opened(root: Path, name: str) -> Source:
        return open_folder(root, limits, target, name=name)

    return ArchiveSource(path, limits, opened, _readable, target)


def _readable(name: str) -> bool:
    """Whether a member of an archive is of a kind that can be read."""
    from tidemill.data.sources.images import is_image
    from tidemill.data.sources.texts import is_text_file

    path = PurePosixPath(name)
    if is_hidden(name):
        return False
    return (
        _KINDS.get(suffix_of(path)) in ("delimited", "json", "parquet")
        or is_image(name)
        or is_text_file(name)
        or _is_idx(path.name)
        or suffix_of(path) == ".arrow"
    )


def _is_idx(name: str) -> bool:
    return "idx" in name.casefold() or name.endswith("-ubyte")


def _refuse_address(spec: str) -> None:
    """What names no file, but looks like an address or an id: nothing is fetched from anywhere."""
    scheme, found, _ = spec.partition(":")
    if not found or not scheme.replace("+", "").isalnum() or len(scheme) == 1:
        return
    if scheme.startswith("http") or scheme in ("ftp", "s3", "gs"):
        raise SourceError(
            "Tidemill fetches nothing over the network.", where=spec, mend="Download it, and give the file's path."
        )
    if scheme.partition("+")[0] in _DATABASES:
        mend = "Write sql:URL#QUERY, such as 'sql:sqlite:///shop.db#SELECT text, label FROM reviews'."
        raise SourceError("a database needs a query.", mend=mend)
    mend = "Give a path, hf:OWNER/NAME, sql:URL#QUERY, or sklearn:digits, iris, wine, breast_cancer or diabetes."
    raise SourceError(f"{spec!r} is neither a file nor an id that Tidemill knows.", mend=mend)


def _kind(path: Path, limits: Limits) -> str:
    """By the suffix, and where it says nothing by the first bytes; what is left is a text table."""
    from tidemill.data.sources.idx import looks_like_idx
    from tidemill.data.sources.vw import looks_like_vw

    suffix = suffix_of(path)
    if suffix in (".json", ".jsonl", ".txt"):
        with open_stream(path, limits) as stream:
            if looks_like_vw(stream.read(512)):
                return "vw"
    if suffix in _KINDS:
        return _KINDS[suffix]
    if looks_like_idx(path, limits):
        return "idx"
    with open_stream(path, limits) as stream:
        start = stream.read(512)
    if looks_like_vw(start):
        return "vw"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start[257:262] == b"ustar":
        return "archive"
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "npz" if all(n.endswith(".npy") for n in archive.namelist()) else "archive"
    return "json" if start.lstrip().startswith(b"{") else "delimited"


def open_pattern(pattern: str, limits: Limits, target: str | None) -> Source:
    """All files that a pattern names, in the order of their paths, as one source.

    Raises:
        SourceError: nothing matches, or files of several formats do.
    """
    from tidemill.data.sources.images import ImageFolder, is_image
    from tidemill.data.sources.texts import TextFolder, is_text_file

    base = _fixed_part(pattern)
    named = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - it passes over hidden files
    found = sorted(p for n in named if (p := Path(n)).is_file())
    files = [p for p in found if p.stat().st_size]
    if not files:
        raise _no_match(pattern, base, empty=bool(found))
    name = Path(pattern).relative_to(base).as_posix()
    name = f"{base.name}/{name}" if base.name else name
    inside = [p.relative_to(base).as_posix() for p in files]
    require_names(inside, pattern)
    source: Source
    if all(map(is_image, inside)):
        source = ImageFolder(base, limits, name=name, paths=inside)
    elif len(files) > 1 and all(map(is_text_file, inside)) and not any(split_of(p.name) >= 0 for p in files):
        source = TextFolder(base, limits, name=name, paths=inside)
    else:
        kinds: dict[str, list[Path]] = {}
        for path in files:
            kinds.setdefault("images" if is_image(path.name) else _kind(path, limits), []).append(path)
        kind = _one_kind(kinds, pattern, "the pattern matches", base)
        source = _open(kind, _by_split(files, base), limits, target, name, base)
    if len(files) < len(found):
        source.notes.append(f"{len(found) - len(files)} empty files are left aside")
    return source


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part of a pattern that is one.

    >>> _fixed_part("data/*/a.csv").as_posix()
    'data'
    """
    parts = Path(pattern).parts[:-1]
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed])


def _no_match(pattern: str, base: Path, *, empty: bool) -> SourceError:
    if empty:
        return SourceError("all files that match are empty.", where=pattern, mend="Give files with rows.")
    if not base.is_dir():
        near = near_names(base)
        mend = f"Did you mean {near}?" if near else "Check the path."
        return SourceError(f"there is no folder {base.as_posix()!r}.", where=pattern, mend=mend)
    there = sorted(p.name for p in base.iterdir() if not p.name.startswith("."))
    near = ", ".join(get_close_matches(Path(pattern).name, there, 5, 0.3) or there[:5])
    mend = f"In {base.as_posix()} there is: {near}." if near else f"The folder {base.as_posix()} is empty."
    return SourceError("no file matches.", where=pattern, mend=mend)


def _one_kind(kinds: dict[str, list[Path]], where: str, who: str, root: Path) -> str:
    """The only format among the files.

    Raises:
        SourceError: there are several, or several archives.
    """
    if len(kinds) > 1:
        found = ", ".join(p.relative_to(root).as_posix() for group in kinds.values() for p in group[:2])
        raise SourceError(f"{who} files of several formats: {found}.", where=where, mend="Name the file to use.")
    kind, files = next(iter(kinds.items()))
    if len(files) > 1 and kind in _SINGLE:
        message = f"{who} {len(files)} archives."
        raise SourceError(message, where=where, mend="Name the one to use, or list them all under `data`.")
    return kind


def _by_split(files: list[Path], root: Path) -> list[Path]:
    """Train first, files without a split last, else by path."""
    return sorted(files, key=lambda p: (split_of_file(p, root) % 4, p))


def open_folder(folder: Path, limits: Limits, target: str | None, *, name: str | None = None) -> Source:
    """What a folder holds, as one source.

    Raises:
        SourceError: nothing that can be read, or several things of which one must be named.
    """
    from tidemill.data.sources.hf import SavedSource, is_saved
    from tidemill.data.sources.images import ImageFolder, is_image
    from tidemill.data.sources.texts import TextFolder, is_text_file

    name = name or folder.name
    if is_saved(folder):
        return SavedSource(folder, limits, name=name)
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.stat().st_size)
    require_names((p.name for p in files), str(folder))
    idx = [p for p in files if _is_idx(p.name)]
    if idx:
        return _note_ignored(_open("idx", idx, limits, target, name, folder), files, idx)
    tables = _tables(files)
    described = all(is_metadata(p.name) for group in tables.values() for p in group)
    below = list(_walk(folder)) if described else []
    require_names(below, str(folder))
    images, texts = [n for n in below if is_image(n)], [n for n in below if is_text_file(n)]
    classed = [n for n in texts if "/" in n]
    if images and (tables or len(classed) <= 2 * len(images)):  # labels beside images may be text files
        return _note_others(ImageFolder(folder, limits, name=name), classed, "text files")
    if not tables:
        flat = all("/" not in n for n in texts)
        if texts and not (flat and (len(texts) == 1 or all(split_of(n) != NO_SPLIT for n in texts))):
            return _note_others(TextFolder(folder, limits, name=name), images, "images")
        deeper = [folder / n for n in below]
        tables = _tables(p for p in deeper if p.is_file() and p.stat().st_size)
        tables = tables or ({"delimited": [folder / n for n in texts]} if texts else {})
        files = [path for group in tables.values() for path in group]
    if not tables:
        raise SourceError("there is nothing in the folder that Tidemill reads.", where=str(folder), mend=_FORMATS)
    kind = _one_kind(tables, str(folder), "the folder holds", folder)
    chosen = _by_split(tables[kind], folder)
    return _note_ignored(_open(kind, chosen, limits, target, name, folder), files, chosen)


def _tables(files: Iterable[Path]) -> dict[str, list[Path]]:
    tables: dict[str, list[Path]] = {}
    for path in files:
        kind = _KINDS.get(suffix_of(path))
        if kind:
            tables.setdefault(kind, []).append(path)
    return tables


def _walk(folder: Path) -> Iterable[str]:
    """All files below a folder, relative to it; hidden ones and links to folders are passed over."""
    for here, names, files in os.walk(folder):
        names[:] = sorted(n for n in names if not n.startswith((".", "__MACOSX")))
        base = Path(here).relative_to(folder)
        yield from ((base / f).as_posix() for f in sorted(files) if not f.startswith("."))


def _note_others(source: Source, left: list[str], what: str) -> Source:
    if left:
        source.notes.append(f"{what} among them are left alone ({len(left):,}, such as {left[0]})")
    return source


def _note_ignored(source: Source, files: list[Path], used: list[Path]) -> Source:
    left = [p.name for p in files if p not in used]
    if left:
        source.notes.append(f"other files in the folder are left alone: {', '.join(left[:5])}{' …' * (len(left) > 5)}")
    return source
