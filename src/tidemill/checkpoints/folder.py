"""A checkpoint's folder, read without trusting it: JSON and the headers of safetensors, nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from tidemill.errors import NotFoundError, TrainingError

Kind = Literal["text", "image"]

FAMILIES: dict[str, Kind] = {
    **dict.fromkeys(("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"), "text"),
    **dict.fromkeys(("modernbert", "mpnet", "roberta", "xlm-roberta"), "text"),
    **dict.fromkeys(("convnext", "convnextv2", "deit", "dinov2", "resnet", "vit"), "image"),
}
"""The architectures that can be started from, by what ``config.json`` calls them, and what each reads."""

_LARGEST_JSON = 64 << 20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_README = 1 << 16  # bytes of a README that its licence is looked for in
_BACK = "Download or copy it again."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was looked over.

    Attributes:
        folder: where it lies.
        kind: what it reads.
        family: its architecture, as ``config.json`` names it.
        config: ``config.json``.
        weights: its safetensors files.
        parameters: how many numbers they hold.
        size: their bytes.
        licence: what its README says, or ``None``.
    """

    folder: Path
    kind: Kind
    family: str
    config: dict[str, Any]
    weights: tuple[Path, ...]
    parameters: int
    size: int
    licence: str | None

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of its weights."""
        return sha256(self.weights)[:16]

    def json(self, name: str) -> dict[str, Any]:
        """Another of its JSON files; empty where there is none.

        Raises:
            TrainingError: it cannot be read.
        """
        return read_json(self.folder / name) if (self.folder / name).is_file() else {}


def open_folder(folder: Path) -> Checkpoint:
    """Look a checkpoint's folder over; its weights are not read yet.

    Raises:
        NotFoundError: there is no such folder.
        TrainingError: it is none, brings code, holds only pickled weights, is truncated, or is of an architecture that
            cannot be started from.
    """
    where = str(folder)
    if not folder.is_dir():
        raise NotFoundError("there is no such folder", where=where, mend="Give a checkpoint's folder.")
    if not (folder / "config.json").is_file():
        raise TrainingError(
            "there is no config.json, so this is no Hugging Face checkpoint", where=where, mend="Give its folder."
        )
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise TrainingError(
            "it brings code of its own (auto_map in config.json), which is never run",
            where=where,
            mend="Choose a checkpoint of an architecture that transformers knows.",
        )
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise TrainingError(
            f"its architecture is {family!r}, which cannot be started from",
            where=where,
            mend=f"Choose one of {', '.join(FAMILIES)}.",
        )
    weights = weights_of(folder)
    counted = [_header(path) for path in weights]
    return Checkpoint(
        folder=folder,
        kind=FAMILIES[family],
        family=family,
        config=config,
        weights=weights,
        parameters=sum(counted),
        size=sum(path.stat().st_size for path in weights),
        licence=_licence(folder),
    )


def weights_of(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of the folder: one, or those that an index names.

    Raises:
        TrainingError: there are none, or one that the index names is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if index.is_file():
        names = sorted(set(map(str, dict(read_json(index).get("weight_map") or {}).values())))
        outside = [name for name in names if Path(name).name != name]
        missing = [name for name in names if not (folder / name).is_file()]
        if not names or outside or missing:
            named = (outside or missing or ["nothing"])[0]
            raise TrainingError(f"the index names {named!r}, which is not there", where=str(folder), mend=_BACK)
        return tuple(folder / name for name in names)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickled:
        raise TrainingError(
            f"its weights are only in {pickled[0]}, which may run code when opened",
            where=str(folder),
            mend="Choose a revision with model.safetensors, or convert it where you trust it.",
        )
    raise TrainingError("there is no model.safetensors", where=str(folder), mend=_BACK)


def _header(path: Path) -> int:
    """How many numbers a safetensors file holds, by its header alone.

    Raises:
        TrainingError: it is truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainingError(
            f"the weights are truncated or damaged ({str(error).splitlines()[0][:120]})", where=str(path), mend=_BACK
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        TrainingError: it is too large, or none.
    """
    if path.stat().st_size > _LARGEST_JSON:
        raise TrainingError(f"{path.name} is larger than any such file", where=str(path.parent), mend=_BACK)
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path.name} cannot be read ({error})", where=str(path.parent), mend=_BACK) from error
    if not isinstance(data, dict):
        raise TrainingError(f"{path.name} is no object", where=str(path.parent), mend=_BACK)
    return data


def _licence(folder: Path) -> str | None:
    """``license:`` in the head of its README, as the hub keeps it."""
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    with readme.open("rb") as file:
        text = file.read(_README).decode("utf-8", "replace")
    head = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    found = re.search(r"^licen[sc]e:[ \t]*['\"]?([\w.+-]+)", head.group(1), re.MULTILINE) if head else None
    return found.group(1).lower() if found else None


def sha256(paths: tuple[Path, ...]) -> str:
    """The SHA-256 of a file, or of those of several; a file that did not change is read once in a process."""
    stats = [path.stat() for path in paths]
    return _sha256(paths, tuple((s.st_size, s.st_mtime_ns) for s in stats))


@lru_cache(maxsize=32)
def _sha256(paths: tuple[Path, ...], _stats: tuple[tuple[int, int], ...]) -> str:
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
