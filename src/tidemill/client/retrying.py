"""When a call is made again: after which answers and failures, how often, and how long to wait before."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import httpx

from tidemill.client.failures import broken_off, error_of, unreachable

AGAIN = frozenset({408, 429, 502, 503, 504})
"""Answers that say nothing against the request itself."""
LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
"""Failures after which nobody knows whether the request was answered. Its key makes it safe to send it again."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    Attributes:
        most: times that a call is made again.
        first: seconds of the longest first pause; each may be twice as long as the one before.
        longest: seconds that no pause is longer than, unless the service asks for it.
        patience: seconds after which a call is not made again.
    """

    most: int = 6
    first: float = 0.1
    longest: float = 5.0
    patience: float = 30.0

    def pause(self, made: int, spent: float, told: str | None) -> float | None:
        """Seconds to wait before the next try, or ``None`` to give up.

        Anything between nothing and the longest pause, by chance: callers that failed together shall not come back
        together.

        Args:
            made: tries until now.
            spent: seconds since the first.
            told: what the service says in ``Retry-After``.

        >>> Retries(most=2).pause(3, 0.0, None) is None, Retries().pause(1, 0.0, "7") >= 7
        (True, True)
        """
        if made > self.most:
            return None
        longest = min(self.longest, self.first * 2.0 ** (made - 1))
        pause = random.uniform(0, longest) + (float(told) if told is not None and told.isdigit() else 0.0)  # noqa: S311
        return pause if spent + pause <= self.patience else None


class Tries:
    """The tries of one call.

    Args:
        retries: how patient to be.
        url: of the service, for messages.
        lines: so many lines a whole answer has; 0 where it is no lines.
    """

    def __init__(self, retries: Retries, url: str, lines: int = 0) -> None:
        self._retries = retries
        self._url = url
        self._lines = lines
        self._made = 0
        self._began = time.monotonic()

    def after(self, outcome: httpx.Response | httpx.TransportError) -> httpx.Response | float:
        """A good answer itself, or the seconds to wait before the next try.

        Raises:
            TidemillError: another try would not help, or has been made often enough.
        """
        self._made += 1
        told = None
        if isinstance(outcome, httpx.Response):
            broken = broken_off(outcome.content, self._lines) if outcome.is_success and self._lines else None
            if outcome.is_success and broken is None:
                return outcome
            error = broken or error_of(outcome.status_code, outcome.content)
            again = broken is not None or outcome.status_code in AGAIN
            told = outcome.headers.get("retry-after")
        else:
            error, again = unreachable(self._url, outcome, self._made), isinstance(outcome, LOST)
        pause = self._retries.pause(self._made, time.monotonic() - self._began, told) if again else None
        if pause is None:
            raise error from (outcome if isinstance(outcome, httpx.TransportError) else None)
        return pause
