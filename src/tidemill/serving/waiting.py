"""Requests that wait for their answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.serving.marks import Marks
from tidemill.serving.requests import PredictRequest


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request and the future in which its caller waits for the answer's bytes."""

    request: PredictRequest
    answer: asyncio.Future[bytes]
    since: float
    plain: bool = False
    """The champion shall answer, whatever the caller's share is."""
    marks: Marks | None = None
    """Where its stages are noted, when somebody traces it."""


def rows_of(batch: Sequence[Waiting]) -> list[dict[str, Any]]:
    """The rows of inputs of all requests, one after the other."""
    return [record for waiting in batch for record in waiting.request.records]


def resolve(results: Sequence[tuple[Waiting, bytes | BaseException]]) -> None:
    """Hand results to the callers' event loop, in one call for all of them."""
    if results:
        with contextlib.suppress(RuntimeError):  # the loop is closed after a forced end: nobody waits any more
            results[0][0].answer.get_loop().call_soon_threadsafe(_set, results)


def _set(results: Sequence[tuple[Waiting, bytes | BaseException]]) -> None:
    for waiting, result in results:
        if waiting.answer.done():  # its caller was cancelled
            continue
        if isinstance(result, BaseException):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)
