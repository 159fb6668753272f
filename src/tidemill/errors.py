"""Every error that Tidemill raises on purpose.

    TidemillError
    ├── ConfigError          tidemill.yaml or the environment is wrong (all faults at once)
    ├── SourceError          a data source cannot be read, or holds nothing to learn from
    ├── InputError           one value, row or request does not fit the signature
    │   └── TooLargeError    a body, image, archive or file is over its limit
    ├── NotFoundError        an id, file or name that does not exist
    ├── ConflictError        the same idempotency key with another body, a name already taken
    ├── BusyError            another process holds what this one needs
    ├── StoreError           the store cannot keep its promise (disk full, corrupt, failed fsync)
    ├── PackageError         a model package is incomplete, altered or of an unknown schema
    ├── TrainingError        a recipe could not be trained (diverged, unsuitable, wrong parameters)
    ├── ExtraMissingError    an optional dependency is not installed
    ├── NotReadyError        the project is not that far yet (no champion, no labels, no cycle)
    ├── AccessError          a service does not let this caller in, or not there
    └── ServiceError         a service cannot be reached, does not answer in time, or failed

Each message has three parts: *what* is wrong, *where*, and how to *mend* it. The command line prints
them without a traceback and exits with ``exit_code``; the API answers ``status`` with the same parts as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TidemillError(Exception):
    """The root of the tree; never raised itself.

    Args:
        what: one sentence that says what is wrong, with the offending value.
        where: file, line, row, field or id; ``None`` when *what* already says it.
        mend: one imperative sentence that says how to put it right.
    """

    exit_code: ClassVar[int] = 2
    status: ClassVar[int] = 400

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(what, where, mend)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.mend is None:
            return text
        return f"{text} {self.mend}" if text.endswith((".", "!", "?")) else f"{text}. {self.mend}"

    @property
    def code(self) -> str:
        """A stable name for programs: ``InputError`` → ``input``, ``NotFoundError`` → ``not_found``."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

    def to_json(self) -> dict[str, Any]:
        """The body of an error answer, and of a failing command under ``--json``."""
        return {"error": {"code": self.code, "what": self.what, "where": self.where, "mend": self.mend}}

    def to_process(self) -> dict[str, Any]:
        """What tells another process of it, which makes the same error of it by :func:`from_process`."""
        return {"type": type(self).__name__, **self.to_json()["error"]}


def from_process(fault: Mapping[str, Any]) -> TidemillError:
    """The error that another process told of by :meth:`TidemillError.to_process`.

    >>> from_process(BusyError("it runs", where="here").to_process())
    BusyError('it runs', 'here', None)
    """
    kind: type[TidemillError] = globals()[fault["type"]]
    return kind(fault["what"], where=fault["where"], mend=fault["mend"])


class ConfigError(TidemillError):
    """``tidemill.yaml`` or the environment is wrong; *what* lists every fault, one a line."""


class SourceError(TidemillError):
    """A data source cannot be read, or holds nothing to learn from."""

    status = 422


class InputError(TidemillError):
    """One value, row or request does not fit the signature."""

    status = 422


class TooLargeError(InputError):
    """A body, image, archive or file is over its limit."""

    status = 413


class NotFoundError(TidemillError):
    """An id, file or name that does not exist."""

    status = 404


class ConflictError(TidemillError):
    """The same idempotency key with another body, or a name that is taken."""

    status = 409


class BusyError(TidemillError):
    """Another process holds what this one needs."""

    status = 409


class StoreError(TidemillError):
    """The store cannot keep its promise: disk full, corrupt file, failed fsync."""

    status = 503


class PackageError(TidemillError):
    """A model package is incomplete, altered, or of an unknown schema."""


class TrainingError(TidemillError):
    """A recipe could not be trained: it diverged, or its parameters do not fit the data."""


class ExtraMissingError(TidemillError):
    """An optional dependency is not installed; *mend* names the extra."""


class NotReadyError(TidemillError):
    """The project is not that far yet: no champion, no labels, no cycle."""

    status = 503


class AccessError(TidemillError):
    """A service does not let this caller in: there is no token, it is not good, or it does not open this."""

    status = 403


class ServiceError(TidemillError):
    """A service cannot be reached, does not answer in time, or failed."""

    status = 502
