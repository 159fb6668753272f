"""How much at once: requests a second by token and by address, and how long an answer may take.

What is refused here is refused early and says when to come back, so that a caller who waits loses nothing, and nobody
computes an answer for which nobody waits any more.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tidemill.serving.answering import RetryError

T = TypeVar("T")

BURST = 2.0
"""Seconds' worth of requests that may come at once."""
ADDRESSES = 20_000
"""Addresses that are remembered; the one that has been quiet for longest is forgotten first."""
WINDOW, LONG_WINDOW, ENOUGH_ROWS = 0.25, 2.0, 64
"""Seconds in which the speed of a line is measured, the longer one while few rows have left: a moment's pause, in which
one row was answered, says nothing about those behind it."""
TICK = 0.1


class RateError(RetryError):
    """More requests than a token or an address may make."""

    def __init__(self, what: str, seconds: float, *, mend: str) -> None:
        super().__init__(429, what, seconds, where="rate", mend=mend)


class OverloadedError(RetryError):
    """More work waits than can be done in time."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(503, what, seconds, where="queue", mend="Send the request again after Retry-After seconds.")


class Buckets:
    """One token bucket a key, as a single number each: the time at which it is full again (GCRA, ITU-T I.371).

    Args:
        rate: how many a second.
        most: keys that are remembered.
        burst: seconds' worth that a full bucket holds; at least one piece.

    >>> buckets = Buckets(10.0, most=2, burst=0.2)
    >>> [buckets.take("a", now=100.0) for _ in range(3)]
    [0.0, 0.0, 0.1]
    """

    def __init__(self, rate: float, *, most: int, burst: float = BURST) -> None:
        self._gap = 1.0 / rate
        self._room = max(burst, self._gap)
        self._most = most
        self._full: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one out of *key*'s bucket: 0, or the seconds after which there is one."""
        full = max(self._full.get(key, now), now) + self._gap
        late = full - now - self._room
        if late > 1e-9:
            return round(late, 6)
        self._full[key] = full
        self._full.move_to_end(key)
        if len(self._full) > self._most:
            self._full.popitem(last=False)
        return 0.0


class Rates:
    """The limits of ``serve.rate`` and ``serve.address_rate``, for one process.

    Args:
        rates: requests a second and token, by scope; ``None`` for any number.
        address_rate: requests a second and address.
    """

    def __init__(self, rates: Mapping[Any, float | None], address_rate: float | None) -> None:
        self._scopes = {scope: Buckets(rate, most=ADDRESSES) for scope, rate in rates.items() if rate is not None}
        self._addresses = None if address_rate is None else Buckets(address_rate, most=ADDRESSES)
        self._failures = Buckets(1.0, most=ADDRESSES, burst=20.0)

    def address(self, address: str) -> None:
        """Count a request from *address*.

        Raises:
            RateError: there were too many.
        """
        if self._addresses is not None and (seconds := self._addresses.take(network(address), time.monotonic())):
            mend = "Send fewer requests a second, or raise serve.address_rate in tidemill.yaml."
            raise RateError("this address sends too many requests", seconds, mend=mend)

    def token(self, token: str, scope: str) -> None:
        """Count a request with *token* for *scope*.

        Raises:
            RateError: there were too many.
        """
        buckets = self._scopes.get(scope)
        if buckets is not None and (seconds := buckets.take(token, time.monotonic())):
            mend = f"Send several rows a request, or raise serve.rate.{scope} in tidemill.yaml."
            raise RateError(f"this token makes too many {scope} requests", seconds, mend=mend)

    def failure(self, address: str) -> None:
        """Count a token that opens nothing.

        Raises:
            RateError: *address* has shown too many.
        """
        if seconds := self._failures.take(network(address), time.monotonic()):
            raise RateError(
                "this address has shown too many tokens that are not valid", seconds, mend="Check the token."
            )


def network(address: str) -> str:
    """Who is counted as one: an IPv4 address, or the /64 of an IPv6 address, of which one customer has them all.

    >>> network("192.0.2.7"), network("2001:db8:1:2:3::4"), network("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8:1:2::', '192.0.2.7')
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))


class Line:
    """The rows that wait to be answered, and how long a newcomer would wait. For one event loop.

    The rate at which rows leave is measured only while the line never runs empty: an idle service is not a slow one.

    Args:
        patience: seconds that a row may wait.
        clock: tells the seconds.

    Attributes:
        rows: how many wait.
        rate: how many leave a second; ``None`` while it is not known.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._answered = 0
        self._since = 0.0
        self.rows = 0
        self.rate: float | None = None

    def enter(self, rows: int, most: int) -> None:
        """Queue up with *rows*.

        Raises:
            OverloadedError: the line would be longer than *most*, or those who stand in it already take too long.
        """
        if self.rows == 0:
            self._since, self._answered, self.rate = self._clock(), 0, None
        elif self.rate is not None and (wait := self.rows / self.rate) > self._patience:
            what = f"the {self.rows} rows that wait already take {wait:.1f} seconds"
            raise OverloadedError(what, wait - self._patience)
        if self.rows + rows > most:
            raise OverloadedError(f"{self.rows} rows wait already", 1)
        self.rows += rows

    def leave(self, rows: int, *, answered: bool) -> None:
        """Leave the line with *rows*."""
        self.rows -= rows
        if not answered:
            return
        self._answered += rows
        now = self._clock()
        if self.rows and now - self._since >= (WINDOW if self._answered >= ENOUGH_ROWS else LONG_WINDOW):
            seen = self._answered / (now - self._since)
            self.rate = seen if self.rate is None else (self.rate + seen) / 2
            self._since, self._answered = now, 0


class Deadlines:
    """Gives up what takes too long: one timer for all that waits, since one for each would cost as much as an answer.

    For one event loop.

    Args:
        seconds: that anything may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Future[Any], float] = {}  # the oldest first
        self._missed: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def keep(self, work: asyncio.Future[T]) -> T:
        """What *work* gives, if it gives it in time; otherwise it is cancelled, so that nobody works on it in vain.

        Raises:
            OverloadedError: it did not.
        """
        loop = asyncio.get_running_loop()
        self._until[work] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._tick, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if work not in self._missed:
                raise
            raise OverloadedError(f"there was no answer within {self._seconds:g} seconds", 1) from None
        finally:
            del self._until[work]
            self._missed.discard(work)

    @property
    def _tick(self) -> float:
        return min(TICK, self._seconds / 4)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for work, until in self._until.items():
            if until > now:
                break
            if not work.done():
                self._missed.add(work)
                work.cancel()
        self._timer = loop.call_later(self._tick, self._look, loop) if self._until else None
