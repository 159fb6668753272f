"""Requests that are sent again: under the same ``Idempotency-Key`` a caller gets the first answer, not a second one.

Each process remembers the answers that it gave under keys, for some minutes and within so many bytes. That is for the
retry that comes a moment later. Where it comes to another worker or after a restart, the answer is computed again, and
its predictions get the same ids as the first time (:func:`tidemill.store.repeated_prediction_id`), so none is stored
twice. A choice is drawn by its id (:func:`tidemill.store.secrets.choice_draw`), so one id is one action. Only when
another model has taken over meanwhile, or this one has learned, it is a new prediction, with the answer of now.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tidemill.errors import ConflictError, InputError
from tidemill.runtime.statements import MAX_NAME
from tidemill.serving.answering import Answer
from tidemill.serving.guard import RequestHead

SECONDS = 300.0
MOST_BYTES = 64 << 20
_BESIDE = 700  # bytes that a remembered answer takes besides its body

KEY = '^"?[!#-~]([ !#-~]*[!#-~])?"?$'
"""What the header may hold, as a regular expression."""
_KEY = re.compile(KEY[1:-1])

REPLAYED = ((b"idempotent-replayed", b"true"),)


@dataclass(frozen=True, slots=True)
class Once:
    """What makes two requests the same.

    Attributes:
        key: the caller's, from the header.
        caller: who sent it, and where to, so that nobody reads what another one was answered.
    """

    key: str
    caller: str

    @classmethod
    def of(cls, head: RequestHead, path: str) -> Once:
        """What the header ``Idempotency-Key`` of a request for *path* says.

        Raises:
            InputError: the key is none; see :func:`header_key`.
        """
        key = header_key(head) or ""
        said = b"\0".join((path.encode(), head.authorization or b""))
        return cls(key, hashlib.blake2b(said, digest_size=16).hexdigest())


@dataclass(frozen=True, slots=True)
class _Given:
    """What was answered to which content, or will be."""

    content: bytes
    answer: asyncio.Future[Answer]
    until: float

    @property
    def size(self) -> int:
        """What it takes, once it is answered."""
        return len(self.answer.result().body) + _BESIDE


class Repeats:
    """The answers that were given under keys. For one event loop.

    Args:
        seconds: that an answer is remembered.
        most_bytes: that all of them may take; the oldest are forgotten first.
        clock: tells the seconds.
    """

    def __init__(
        self, seconds: float = SECONDS, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = most_bytes
        self._clock = clock
        self._bytes = 0
        self._given: OrderedDict[Once, _Given] = OrderedDict()

    async def answer(self, once: Once, content: bytes, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """What was answered to *content* under this key, or else what *make* answers; a refusal is not remembered.

        One that comes while the first is still being answered waits for it.

        Raises:
            ConflictError: the key came with another content before.
        """
        self._forget_old()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        known = self._given.get(once)
        if known is not None:
            if known.content != digest:
                raise ConflictError(
                    f"the key {once.key!r} was used before with another body",
                    where="Idempotency-Key header",
                    mend="Send the same body to repeat a request, or a new key to make another one.",
                )
            first = await asyncio.shield(known.answer)
            return first._replace(headers=(*first.headers, *REPLAYED))
        given = _Given(digest, asyncio.get_running_loop().create_future(), self._clock() + self._seconds)
        self._given[once] = given
        try:
            answer = await make()
        except Exception as error:
            del self._given[once]
            given.answer.set_exception(error)
            given.answer.exception()  # nobody else waits for it, perhaps
            raise
        except asyncio.CancelledError:
            del self._given[once]
            given.answer.cancel()
            raise
        given.answer.set_result(answer)
        self._bytes += given.size
        return answer

    def _forget_old(self) -> None:
        """Those whose time is over, and the oldest while all of them take too much; what is being answered stays."""
        now = self._clock()
        while self._given:
            once, oldest = next(iter(self._given.items()))
            if not oldest.answer.done() or (oldest.until > now and self._bytes <= self._most):
                return
            del self._given[once]
            self._bytes -= oldest.size


def header_key(head: RequestHead) -> str | None:
    """The key in the header ``Idempotency-Key``, which may stand in quotes.

    Raises:
        InputError: it is not of 1 to 200 visible ASCII characters and blanks between them.
    """
    if head.idempotency_key is None:
        return None
    key = head.idempotency_key.decode("latin-1")
    if len(key) > MAX_NAME or _KEY.fullmatch(key) is None:
        raise InputError(
            "the key is no short text of ASCII characters",
            where="Idempotency-Key header",
            mend=f"Give 1 to {MAX_NAME} letters, digits and signs, such as a UUID.",
        )
    return key.strip('"')
