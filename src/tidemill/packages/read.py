"""Reading a package without trusting it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tidemill.errors import PackageError
from tidemill.packages.manifest import KNOWN_FILES, Manifest

_LARGEST_MANIFEST = 256 << 20
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".dill")
_AGAIN = "Copy the package again, or export the model again."


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package in *folder*.

    Sizes of the files are compared with the manifest here; their contents by :func:`verify`.

    Raises:
        PackageError: there is no package, it is unfinished, truncated or of an unknown schema, or holds what a package
            may not hold: a pickle, a link, a file of another name.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not folder.is_dir():
        raise PackageError("there is no such folder", where=str(folder), mend="Give the folder of a model package.")
    _refuse_strangers(folder)
    if not path.is_file():
        raise PackageError(
            "there is no manifest.json, so the package was never finished or this is none",
            where=str(folder),
            mend=_AGAIN,
        )
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise PackageError("manifest.json is larger than any manifest", where=str(folder), mend=_AGAIN)
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PackageError(f"manifest.json is not JSON ({error})", where=str(folder), mend=_AGAIN) from error
    if not isinstance(data, dict):
        raise PackageError("manifest.json is not an object", where=str(folder), mend=_AGAIN)
    manifest = Manifest.from_json(data, str(folder))
    for name, facts in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise PackageError(f"{name} is missing", where=str(folder), mend=_AGAIN)
        size = file.stat().st_size
        if size != facts["bytes"]:
            how = "truncated" if size < facts["bytes"] else "longer than it was"
            what = f"{name} is {how}: {size} bytes instead of {facts['bytes']}"
            raise PackageError(what, where=str(folder), mend=_AGAIN)
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file's SHA-256 with the manifest.

    Raises:
        PackageError: a file was altered.
    """
    for name, facts in manifest.files.items():
        with (Path(folder) / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                raise PackageError(f"{name} was altered: its SHA-256 differs", where=str(folder), mend=_AGAIN)


def _refuse_strangers(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix in _PICKLES:
            raise PackageError(
                f"it holds {path.name}, which may run code when opened",
                where=str(folder),
                mend="Do not use this package unless you know who made it; a package needs no such file.",
            )
        if path.is_symlink():
            raise PackageError(
                f"{path.name} is a link that may lead out of the package", where=str(folder), mend=_AGAIN
            )
        if path.is_dir() or path.name not in (*KNOWN_FILES, "manifest.json"):
            raise PackageError(
                f"it holds {path.name}, and a package holds only {', '.join(KNOWN_FILES)} and manifest.json",
                where=str(folder),
                mend="Take it out, or export the model again.",
            )
