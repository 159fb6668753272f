"""Checkpoints of the Hugging Face hub: asked for once with a time limit, judged before they are fetched."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tidemill.checkpoints.folder import weights_of
from tidemill.errors import ConfigError, ExtraMissingError, NotFoundError, ServiceError, TrainingError

HUB_SECONDS = 10.0
"""How long the hub may stay silent."""

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "vocab.txt", "merges.txt", "*.model", "README.md")
_LEFT_OUT = ("onnx/*", "openvino/*", "*/model.safetensors")
_WANTED: dict[str, Any] = {"allow_patterns": list(_FILES), "ignore_patterns": list(_LEFT_OUT)}
_ANYWAY = "Checkpoints in folders need no network."


@dataclass(frozen=True, slots=True)
class Rules:
    """Which checkpoints a project lets in.

    Attributes:
        licences: the licences that are allowed, in small letters, ``unknown`` where none is said; ``None`` is any.
        max_bytes: of weights.
    """

    licences: Sequence[str] | None
    max_bytes: float

    def check(self, where: str, licence: str | None, size: float) -> None:
        """Refuse what they do not let in.

        Raises:
            ConfigError: another licence, or too large.
        """
        if self.licences is not None and (licence or "unknown").lower() not in self.licences:
            said = "says no licence" if licence is None else f"has the licence {licence}"
            raise ConfigError(
                f"the checkpoint {said}, and transfer.licences allows {', '.join(self.licences)}",
                where=where,
                mend="Allow it there, or take the checkpoint out.",
            )
        if size > self.max_bytes:
            raise ConfigError(
                f"its weights take {size / 1e6:.0f} MB, and transfer.max_mb is {self.max_bytes / 1e6:.0f}",
                where=where,
                mend="Raise it there, or take the checkpoint out.",
            )


def fetched(repository: str, revision: str) -> Path:
    """The folder of a checkpoint that was fetched before.

    Raises:
        ServiceError: it was not.
    """
    found = _cached(repository, revision)
    if found is None:
        raise ServiceError(
            "the checkpoint is not on this machine yet",
            where=f"{repository}@{revision}",
            mend=f"Connect, and run `tidemill plan`, which fetches it. {_ANYWAY}",
        )
    return found


def fetch(repository: str, revision: str, rules: Rules) -> Path:
    """Fetch a checkpoint into the cache of ``huggingface_hub``, or find it there.

    Args:
        repository: ``OWNER/NAME``.
        revision: a commit, a tag or a branch.
        rules: what is asked of its licence and size before a byte of its weights is fetched.

    Raises:
        NotFoundError: the hub has no such checkpoint, or keeps it private.
        ConfigError: the rules do not let it in.
        ServiceError: the hub is away, silent, or breaks off.
        TrainingError: it has no safetensors.
    """
    hub = _library()
    where = f"{repository}@{revision}"
    found = _cached(repository, revision)
    if found is not None:
        return found
    if hub.constants.HF_HUB_OFFLINE:
        raise ServiceError("the hub may not be asked: HF_HUB_OFFLINE is set", where=where, mend=f"Unset it. {_ANYWAY}")
    told = _ask(hub, repository, revision, where)
    rules.check(where, _licence(told), _weights(told, where))
    try:
        return Path(
            hub.snapshot_download(
                repository,
                revision=revision,
                etag_timeout=HUB_SECONDS,
                endpoint=hub.constants.ENDPOINT,
                **_WANTED,
            )
        )
    # what no hub says (the page of a network that wants a login) fails where the library reads it
    except _library_errors(hub) as error:
        raise _silent(where, error) from error


def _ask(hub: Any, repository: str, revision: str, where: str) -> dict[str, Any]:
    """What the hub says of a checkpoint: one question with a time limit, since the library asks for half a minute.

    Raises:
        NotFoundError: it has no such checkpoint, or keeps it private.
        ServiceError: it is away or silent.
    """
    import httpx

    token = hub.get_token()
    address = f"{hub.constants.ENDPOINT}/api/models/{quote(repository)}/revision/{quote(revision, safe='')}?blobs=true"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(address, headers=headers, timeout=HUB_SECONDS, follow_redirects=True)
        if answer.status_code in (401, 403, 404):
            raise NotFoundError(
                "the hub has no such checkpoint, or keeps it private",
                where=where,
                mend="Check name and revision, or log in with `hf auth login`.",
            )
        told: dict[str, Any] = answer.raise_for_status().json()
        told["siblings"] = list(told["siblings"])
    except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
        raise _silent(where, error) from error
    return told


def _silent(where: str, error: BaseException) -> ServiceError:
    return ServiceError(
        f"the Hugging Face hub does not answer as one ({_first_line(error)})",
        where=where,
        mend=f"Connect, or set HF_HUB_OFFLINE=1. {_ANYWAY}",
    )


def _weights(told: dict[str, Any], where: str) -> int:
    """Bytes of its safetensors.

    Raises:
        TrainingError: it has none.
    """
    sizes = {str(f.get("rfilename")): int(f.get("size") or 0) for f in told["siblings"] if isinstance(f, dict)}
    weights = [size for name, size in sizes.items() if name.endswith(".safetensors") and "/" not in name]
    if not weights:
        raise TrainingError(
            "it has no safetensors, and other weights may run code when opened",
            where=where,
            mend="Choose a revision with model.safetensors.",
        )
    return sum(weights)


def _library_errors(hub: Any) -> tuple[type[Exception], ...]:
    """What the library raises: its own errors, and those of the client that its version speaks with."""
    clients = [importlib.import_module(name) for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    told = [client.HTTPError for client in clients]
    return OSError, ValueError, TypeError, KeyError, hub.errors.HfHubHTTPError, *told


def _cached(repository: str, revision: str) -> Path | None:
    """The folder in the cache with the configuration and all weights that it names; nothing is asked for."""
    hub = _library()
    try:  # of the same files as are fetched: the others of a repository are never there
        folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True, **_WANTED))
        weights_of(folder)
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError, OSError, TrainingError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _licence(told: dict[str, Any]) -> str | None:
    tags = told.get("tags")
    for tag in tags if isinstance(tags, list) else ():
        if str(tag).startswith("license:"):
            return str(tag).partition(":")[2].lower()
    return None


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ExtraMissingError(
            "checkpoints of the hub need the package `transformers`", mend="pip install 'tidemill[transfer]'"
        ) from error
    return huggingface_hub


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
