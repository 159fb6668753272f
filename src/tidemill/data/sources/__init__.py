"""Where rows come from: one file a format, opened by :func:`open_source`.

=====================  ===============================================================================
give                   get
=====================  ===============================================================================
``sklearn:digits``     image, label; ``sklearn:iris``, ``wine``, ``breast_cancer``, ``diabetes``: a table
``table.csv``/``.tsv`` its columns; delimiter, encoding, quotes and header are sniffed, gzip is fine
``rows.jsonl``         its fields; ``.json`` with a list of objects too
``table.parquet``      its columns; bytes are images
``arrays.npz``         image or ``x_0`` …, label
``images.zip``         image, label (the class folder), split (``train``, ``val``, ``test`` folders)
a folder               the tables, IDX files or images in it; ``train`` and ``test`` in names give the split
=====================  ===============================================================================
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from tidemill.data.sources._base import Batch, ColumnSummary, Fault, Limits, Source, Summary
from tidemill.data.sources._files import require, split_of
from tidemill.data.sources._summary import merge
from tidemill.errors import SourceError

__all__ = ["Batch", "ColumnSummary", "Fault", "Limits", "Source", "Summary", "merge", "open_source"]

_KINDS = {
    ".csv": "delimited", ".tsv": "delimited", ".tab": "delimited",
    ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".npz": "npz", ".zip": "zip",
}  # fmt: skip


def open_source(spec: str | Path, *, limits: Limits | None = None, target: str | None = None) -> Source:
    """The source that *spec* names.

    Args:
        spec: a file, a folder, or an id such as ``sklearn:digits``.
        limits: what it may cost.
        target: what to call the target column of a table without a header.

    Raises:
        SourceError: it is missing, empty, damaged, or of no known format.
        TooLargeError: it is over its limits.

    >>> [c.name for c in open_source("sklearn:iris").summary().columns][-1]
    'target'
    """
    bounds = limits or Limits()
    if str(spec).startswith("sklearn:"):
        from tidemill.data.sources.sklearn import SklearnSource

        return SklearnSource(str(spec).removeprefix("sklearn:"), bounds)
    path = Path(spec)
    if not path.exists():
        _refuse_address(str(spec))
    if path.is_dir():
        return _open_folder(path, bounds, target)
    require(path)
    return _open(_kind(path, bounds), [path], bounds, target, path.name)


def _open(kind: str, files: list[Path], limits: Limits, target: str | None, name: str) -> Source:
    if kind == "delimited":
        from tidemill.data.sources.delimited import DelimitedSource

        return DelimitedSource(files, limits, target=target, name=name)
    if kind == "json":
        from tidemill.data.sources.jsonl import JsonSource

        return JsonSource(files, limits, name=name)
    if kind == "parquet":
        from tidemill.data.sources.parquet import ParquetSource

        return ParquetSource(files, limits, name=name)
    if kind == "npz":
        from tidemill.data.sources.npz import NpzSource

        return NpzSource(files[0], limits)
    if kind == "idx":
        from tidemill.data.sources.idx import IdxSource

        return IdxSource(files, name, limits)
    from tidemill.data.sources.images import ImageZip

    return ImageZip(files[0], limits)


def _refuse_address(spec: str) -> None:
    """What names no file, but looks like an address or an id: nothing is fetched from anywhere."""
    scheme, found, _ = spec.partition(":")
    if not found or not scheme.isalnum() or len(scheme) == 1:
        return
    if scheme.startswith("http") or scheme in ("ftp", "s3", "gs"):
        raise SourceError(
            "Tidemill fetches nothing over the network.", where=spec, mend="Download it, and give the file's path."
        )
    mend = "Give a path, or sklearn:digits, sklearn:iris, sklearn:wine, sklearn:breast_cancer or sklearn:diabetes."
    raise SourceError(f"{spec!r} is neither a file nor an id that Tidemill knows.", mend=mend)


def _kind(path: Path, limits: Limits) -> str:
    """By the suffix, and where it says nothing by the first bytes; what is left is a text table."""
    from tidemill.data.sources.idx import looks_like_idx

    suffix = Path(path.name.removesuffix(".gz")).suffix.casefold()
    if suffix in _KINDS:
        return _KINDS[suffix]
    if looks_like_idx(path, limits):
        return "idx"
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PAR1"):
        return "parquet"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "npz" if all(n.endswith(".npy") for n in archive.namelist()) else "zip"
    return "json" if start.lstrip().startswith(b"{") else "delimited"


def _open_folder(folder: Path, limits: Limits, target: str | None) -> Source:
    from tidemill.data.sources.images import ImageFolder, is_image

    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.stat().st_size)
    tables: dict[str, list[Path]] = {}
    for path in files:
        suffix = Path(path.name.removesuffix(".gz")).suffix.casefold()
        if suffix in _KINDS:
            tables.setdefault(_KINDS[suffix], []).append(path)
    idx = [p for p in files if "idx" in p.name.casefold() or p.name.endswith("-ubyte")]
    if idx:
        return _note_ignored(_open("idx", idx, limits, target, folder.name), files, idx)
    if not tables and any(is_image(p.relative_to(folder).as_posix()) for p in folder.rglob("*")):
        return ImageFolder(folder, limits)
    if not tables:
        raise SourceError(
            "there is nothing in the folder that Tidemill reads.",
            where=str(folder),
            mend="Give images in class folders, or a CSV, TSV, JSONL, Parquet, npz or IDX file.",
        )
    if len(tables) > 1:
        found = ", ".join(p.name for group in tables.values() for p in group[:2])
        message = f"the folder holds files of several formats: {found}."
        raise SourceError(message, where=str(folder), mend="Name the file to use.")
    kind, chosen = next(iter(tables.items()))
    chosen.sort(key=lambda p: (split_of(p.name) % 4, p.name))  # train first, files without a split last
    if len(chosen) > 1 and kind in ("npz", "zip"):
        message = f"the folder holds {len(chosen)} archives."
        raise SourceError(message, where=str(folder), mend="Name the one to use, or list them all under `data`.")
    return _note_ignored(_open(kind, chosen, limits, target, folder.name), files, chosen)


def _note_ignored(source: Source, files: list[Path], used: list[Path]) -> Source:
    left = [p.name for p in files if p not in used]
    if left:
        source.notes.append(f"other files in the folder are left alone: {', '.join(left[:5])}{' …' * (len(left) > 5)}")
    return source
