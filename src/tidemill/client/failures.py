"""Answers that are errors, as the errors of :mod:`tidemill.errors` that they tell of."""

from __future__ import annotations

import json
from typing import Any

from tidemill import errors
from tidemill.errors import (
    AccessError,
    BusyError,
    InputError,
    NotFoundError,
    ServiceError,
    TidemillError,
    TooLargeError,
)

_BY_CODE: dict[str, type[TidemillError]] = {
    kind("").code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TidemillError)
}
_BY_STATUS: dict[int, type[TidemillError]] = {
    401: AccessError, 403: AccessError, 404: NotFoundError, 413: TooLargeError, 429: BusyError, 503: BusyError,
}  # fmt: skip


def error_of(status: int, body: bytes) -> TidemillError:
    """The error that an answer tells of.

    >>> error_of(503, b'{"error": {"code": "not_ready", "what": "no champion", "where": null, "mend": null}}')
    NotReadyError('no champion', None, None)
    >>> error_of(502, b"<html>").what
    'the service answered 502'
    """
    said = _said(body)
    what = f"the service answered {status}" if said is None else str(said.get("what"))
    where, mend = (None, None) if said is None else (said.get("where"), said.get("mend"))
    kind = _BY_CODE.get(str(said.get("code"))) if said is not None else None
    if kind is None:
        kind = _BY_STATUS.get(status) or (ServiceError if status >= 500 else InputError)
    return kind(what, where=where, mend=mend)


def broken_off(body: bytes, lines: int) -> TidemillError | None:
    """Why an answer of lines ends before its *lines* are told, or with some that the service could not commit.

    >>> broken_off(b'{"line": 1, "status": "accepted"}', 1) is None
    True
    """
    said = body.splitlines()
    last = _said(said[-1]) if said else None
    if last is not None and last.get("code") in ("store", "overloaded"):
        return error_of(503, said[-1])
    if len(said) >= lines:
        return None
    mend = "Send the rest again."
    return ServiceError(f"the answer ends after {len(said)} of {lines} lines", mend=mend)


def _said(body: bytes) -> dict[str, Any] | None:
    """What stands under ``error``; ``None`` where somebody in between has answered."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, TypeError, LookupError):
        return None
    return said if isinstance(said, dict) else None


def unreachable(url: str, error: Exception, tries: int) -> ServiceError:
    """Nobody answered."""
    said = str(error) or type(error).__name__
    often = "" if tries == 1 else f" after {tries} tries"
    return ServiceError(
        f"the service does not answer{often}: {said}",
        where=url,
        mend="Check the address, that `tidemill serve` runs there, and what lies between.",
    )
