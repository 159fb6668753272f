"""Checkpoints of the Hugging Face hub: asked for once with a time limit, judged before they are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.errors import ConfigError, ExtraMissingError, NotFoundError, ServiceError, TrainingError

HUB_SECONDS = 10.0
"""How long the hub may stay silent."""

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "vocab.txt", "merges.txt", "*.model", "README.md")
_LEFT_OUT = ("onnx/*", "openvino/*", "*/model.safetensors")
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


def fetch(repository: str, revision: str, rules: Rules, licence: str | None = None) -> Path:
    """Fetch a checkpoint into the cache of ``huggingface_hub``, or find it there.

    Args:
        repository: ``OWNER/NAME``.
        revision: a commit, a tag or a branch.
        rules: what is asked of its licence and size before a byte of its weights is fetched.
        licence: what is stated of it here, instead of what the hub says.

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
    import httpx

    try:
        answers = hub.HfApi(endpoint=hub.constants.ENDPOINT)
        told = answers.model_info(repository, revision=revision, files_metadata=True, timeout=HUB_SECONDS)
        sizes = {f.rfilename: f.size or 0 for f in told.siblings or () if f.rfilename.endswith(".safetensors")}
        if not any("/" not in name for name in sizes):
            raise TrainingError(
                "it has no safetensors, and other weights may run code when opened",
                where=where,
                mend="Choose a revision with model.safetensors.",
            )
        rules.check(where, licence or _licence(told), sum(size for name, size in sizes.items() if "/" not in name))
        return Path(
            hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(_FILES),
                ignore_patterns=list(_LEFT_OUT),
                etag_timeout=HUB_SECONDS,
                endpoint=hub.constants.ENDPOINT,
            )
        )
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError, hub.errors.GatedRepoError) as error:
        raise NotFoundError(
            "the hub has no such checkpoint, or keeps it private",
            where=where,
            mend="Check name and revision, or log in with `hf auth login`.",
        ) from error
    except hub.errors.HFValidationError as error:
        raise NotFoundError("this is no name of the hub", where=where, mend="Write OWNER/NAME.") from error
    except (httpx.HTTPError, OSError, hub.errors.HfHubHTTPError) as error:
        raise ServiceError(
            f"the Hugging Face hub does not answer ({_first_line(error)})",
            where=where,
            mend=f"Connect, or set HF_HUB_OFFLINE=1. {_ANYWAY}",
        ) from error


def _cached(repository: str, revision: str) -> Path | None:
    """The folder in the cache with the configuration and some weights; nothing is asked for."""
    hub = _library()
    try:
        folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError, OSError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


def _licence(told: Any) -> str | None:
    for tag in told.tags or ():
        if str(tag).startswith("license:"):
            return str(tag).partition(":")[2]
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
