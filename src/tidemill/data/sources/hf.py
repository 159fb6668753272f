"""Hugging Face data sets: saved with ``save_to_disk``, or named on the hub as ``hf:OWNER/NAME``.

Saved folders are read from their Arrow files, memory-mapped, with pyarrow alone. Ids of the hub need the extra
``datasets``, which downloads a set once into its own cache; code that a set brings is never run.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from tidemill.data.sources._arrow import ArrowColumns, pieces
from tidemill.data.sources._base import NO_SPLIT, Batch, Limits, Shapes, Source, Summary, numbered, rows_for
from tidemill.data.sources._files import fingerprint, split_of
from tidemill.data.sources._summary import summarise
from tidemill.data.sources.delimited import check_columns
from tidemill.errors import ExtraMissingError, SourceError

HUB_SECONDS = 10.0
"""How long the hub may take to say whether a set is there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One split of a set: what it is called, its Arrow files, and what its columns mean."""

    name: str
    files: tuple[Path, ...]
    features: Mapping[str, Any]


class ArrowSetSource(Source):
    """What a saved set and one of the hub share."""

    def __init__(self, name: str, limits: Limits, splits: list[Piece]) -> None:
        super().__init__(name, limits)
        if not any(piece.files for piece in splits):
            raise SourceError("the data set has no rows.", where=name, mend="Save it again.")
        self.splits = [piece for piece in splits if piece.files]
        schemas = [_open(piece.files[0]).schema for piece in self.splits]
        for piece, schema in zip(self.splits[1:], schemas[1:], strict=True):
            file, first = piece.files[0], self.splits[0].files[0]
            root = Path(os.path.commonpath([file, first]))
            check_columns(file, schema.names, first, schemas[0].names, root, ordered=True)
        self.columns = ArrowColumns(schemas[0], limits, name, features=self.splits[0].features)
        if self.columns.image_columns:
            self.columns.probe(table for piece in self.splits for file in piece.files for table in _tables(file, 64))
        said = ", ".join(piece.name for piece in self.splits)
        self.notes += [f"Hugging Face data set with {len(schemas[0].names)} columns; splits: {said}"]
        self.notes += self.columns.notes

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the set does."""

    def summary(self) -> Summary:
        """One pass over all splits."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows, split by split."""
        wanted = self.columns.wanted(shapes)
        for shape in wanted.values():
            size = rows_for(size, int(np.prod(shape)))
        for piece in self.splits:
            code = split_of(piece.name) if len(self.splits) > 1 or split_of(piece.name) > 0 else NO_SPLIT
            first = 1
            for file in piece.files:
                for table in _tables(file, size):
                    origin = numbered(f"{self.name} {piece.name}", first, table.num_rows)
                    yield self.columns.batch(table, origin, code, wanted)
                    first += table.num_rows


class SavedSource(ArrowSetSource):
    """A folder written by ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""

    def __init__(self, folder: Path, limits: Limits, *, name: str | None = None) -> None:
        self.folder = folder
        if (folder / "dataset_dict.json").is_file():
            names = _read_json(folder / "dataset_dict.json").get("splits")
            if not isinstance(names, list) or not names:
                raise _damaged(folder / "dataset_dict.json", "it names no splits")
            splits = [_piece(_inside(folder, str(split)), str(split)) for split in names]
        else:
            splits = [_piece(folder, None)]
        super().__init__(name or folder.name, limits, splits)

    def fingerprint(self) -> str:
        """Paths, sizes and times of the Arrow files and of what describes them."""
        files = {f for piece in self.splits for f in piece.files}
        described = {f.parent / "dataset_info.json" for f in files}
        return fingerprint("saved", self.folder, [*files, *(d for d in described if d.exists())])


class HubSource(ArrowSetSource):
    """A set of the Hugging Face hub, in the cache of the ``datasets`` library."""

    def __init__(self, spec: str, limits: Limits) -> None:
        name, config, revision = parse_hub_id(spec)
        try:
            import datasets
        except ImportError as error:
            raise ExtraMissingError(
                "reading data sets of the Hugging Face hub needs the package `datasets`.",
                where=f"hf:{spec}",
                mend="pip install 'tidemill[datasets]'. Saved folders are read without it.",
            ) from error
        _ask_hub(name, revision, f"hf:{spec}")
        datasets.disable_progress_bars()
        try:
            loaded = datasets.load_dataset(name, config, revision=revision)
        except (OSError, ValueError, RuntimeError) as error:  # what `datasets` raises, under several names
            message = f"the data set cannot be loaded: {_first_line(error)}"
            mend = "Check its name, configuration and revision; data sets that need code of their own are not run."
            raise SourceError(message, where=f"hf:{spec}", mend=mend) from error
        self.spec = spec
        parts = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split): loaded}
        splits = [
            Piece(str(key), tuple(Path(f["filename"]) for f in part.cache_files), part.features.to_dict())
            for key, part in parts.items()
        ]
        super().__init__(f"hf:{spec}", limits, splits)

    def fingerprint(self) -> str:
        """The names and sizes of the cached Arrow files; their folder is named by the revision's hash."""
        digest = hashlib.sha256(f"{self.spec}\n".encode())
        for file in sorted(f for piece in self.splits for f in piece.files):
            digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()


def parse_hub_id(spec: str) -> tuple[str, str | None, str | None]:
    """Name, configuration and revision of ``NAME[/CONFIG][@REVISION]``; a name may have an owner.

    Raises:
        SourceError: it has another form.

    >>> parse_hub_id("nyu-mll/glue/sst2@main"), parse_hub_id("ag_news")
    (('nyu-mll/glue', 'sst2', 'main'), ('ag_news', None, None))
    """
    path, _, revision = spec.partition("@")
    parts = path.split("/")
    if not all(parts) or len(parts) > 3 or any(c.isspace() for c in spec):
        mend = "Write hf:OWNER/NAME, hf:OWNER/NAME/CONFIG, and perhaps @REVISION after it."
        raise SourceError(f"{spec!r} is no id of the Hugging Face hub.", mend=mend)
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, revision or None


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    described = [(folder / name).is_file() for name in ("dataset_info.json", "state.json")]
    single = all(described) or (any(described) and any(folder.glob("*.arrow")))  # one of them may be lost
    return single or (folder / "dataset_dict.json").is_file()


def _ask_hub(name: str, revision: str | None, where: str) -> None:
    """One question with a time limit: the loader itself would try again for half a minute.

    With ``HF_HUB_OFFLINE`` nothing is asked, and the loader looks into its cache alone.
    """
    import httpx
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return
    path = f"/api/datasets/{name}" + (f"/revision/{quote(revision, safe='')}" if revision else "")
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(constants.ENDPOINT + path, headers=headers, timeout=HUB_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        mend = (
            "Connect, or set HF_HUB_OFFLINE=1 to use what was downloaded before; "
            "saved folders and local files need no network."
        )
        raise SourceError("the Hugging Face hub cannot be reached.", where=where, mend=mend) from error
    if answer.status_code in (401, 403, 404):
        what = f"has no data set {name!r}" + (f" with a revision {revision!r}" if revision else "")
        mend = "Check the name, or log in with `hf auth login`."
        raise SourceError(f"the hub {what}, or keeps it private.", where=where, mend=mend)
    if answer.status_code >= 400:
        message = f"the hub refused with status {answer.status_code}."
        raise SourceError(message, where=where, mend="Try again later; saved folders and local files need no network.")


def _piece(folder: Path, split: str | None) -> Piece:
    state = _read_json(folder / "state.json")
    info = _read_json(folder / "dataset_info.json")
    try:
        files = tuple(_inside(folder, str(entry["filename"])) for entry in state["_data_files"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder / "state.json", "it names no files") from error
    features = info.get("features")
    name = split or str(state.get("_split") or "rows")
    return Piece(name, files, features if isinstance(features, dict) else {})


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        mend = "Do not use this folder unless you know who made it."
        raise SourceError(f"the path {name!r} leads out of the saved set.", where=str(folder), mend=mend)
    return folder / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"it cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise _damaged(path, "it is no object")
    return data


def _damaged(path: Path, why: str) -> SourceError:
    return SourceError(f"the saved data set is incomplete or damaged ({why}).", where=str(path), mend="Save it again.")


def _open(file: Path) -> pa.RecordBatchReader:
    try:
        return pa.ipc.open_stream(pa.memory_map(str(file)))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, str(error)) from error


def _tables(file: Path, size: int) -> Iterable[pa.RecordBatch]:
    try:
        for table in _open(file):
            yield from pieces(table, size)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, str(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
