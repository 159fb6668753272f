"""The bulk door: statements by the million in one request, a line each, committed while they arrive.

The answers come while the statements go, a line each and in their order, so a caller whose connection breaks knows how
far it came. Memory stays the same however long the request is: a few batches are at work, and answers that the caller
does not read yet lie in a file. Most HTTP clients read nothing until they have sent everything: if the answers stayed
in memory it would grow without end, and if they held up the reading, both would wait for the other for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from tidemill.errors import InputError, StoreError, TidemillError, TooLargeError
from tidemill.records import Feedback
from tidemill.runtime.statements import kind_of, parse_feedback, require_answer
from tidemill.serving.answering import SECURE, Headers, RequestError
from tidemill.serving.asgi import Receive, Send
from tidemill.serving.feedback import AT_ONCE, conflict, told
from tidemill.serving.guard import RequestHead
from tidemill.serving.repeats import header_key
from tidemill.serving.service import Service
from tidemill.store import FeedbackOutcome

TYPES = (b"application/x-ndjson", b"application/jsonl", b"application/jsonlines", b"application/x-jsonlines")
MAX_LINE = 1_000_000
"""Bytes of one statement."""
IN_MEMORY, MOST_UNREAD = 1_000_000, 256_000_000
"""Bytes of answers that wait for their reader: in memory, and in all before nothing more is read."""
_AT_WORK = 2
"""Batches of one caller: while one is committed the next one is read."""
_CHUNK = 65_536
_HEADERS: Headers = ((b"content-type", TYPES[0]), *SECURE)


@dataclass(slots=True)
class _Line:
    """One line: its number, and its statement or why there is none."""

    number: int
    item: Feedback | None = None
    error: TidemillError | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines that were handed over together; *done* resolves to an outcome for each that is a statement."""

    lines: list[_Line]
    done: asyncio.Future[list[FeedbackOutcome]]


class BulkDoor:
    """Answers ``POST /v1/feedback/bulk``."""

    async def answer(self, service: Service, head: RequestHead, receive: Receive) -> BulkAnswer:
        """Begin to take statements; everything else happens while the answer is sent.

        Raises:
            RequestError: 415, the body is not declared as lines of JSON.
            InputError: the idempotency key is none.
            NotReadyError: nothing is known yet that could be corrected.
        """
        kind = (head.content_type or b"").partition(b";")[0].strip().lower()
        if kind not in TYPES:
            raise RequestError(
                415,
                f"the body is declared as {kind[:200].decode('latin-1')!r}" if kind else "the body's type is missing",
                where="Content-Type header",
                mend="Send one JSON object a line, with the header Content-Type: application/x-ndjson.",
            )
        return BulkAnswer(service, service.follower.feedback_spec(), header_key(head), head.via, receive)


class BulkAnswer:
    """Reads statements, commits them, and answers each with a line.

    Args:
        service: commits them.
        spec: of the answers that they may correct.
        header: the key that stands for the whole request; each line without its own gets its place in it.
        via: the name of the caller's token.
        receive: gives the body.

    Attributes:
        status: of the answer, which begins before all is read.
    """

    status = 200

    def __init__(
        self, service: Service, spec: dict[str, Any], header: str | None, via: str | None, receive: Receive
    ) -> None:
        self._service = service
        self._spec = spec
        self._header = header
        self._via = via
        self._receive = receive
        self._number = 0
        self._free = asyncio.Semaphore(_AT_WORK)

    async def send(self, send: Send) -> None:
        """Take everything, and answer; ends early when the caller goes away or the store cannot keep its promise."""
        batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        outbox = _Outbox(send)
        reading = asyncio.ensure_future(self._read(batches))
        sending = asyncio.ensure_future(outbox.run())
        try:
            while (batch := await batches.get()) is not None:
                lines, broken = await self._answered(batch)
                self._free.release()
                await outbox.put(lines)
                if broken:
                    break
        finally:
            outbox.end()
            await sending
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            while not batches.empty():
                if (batch := batches.get_nowait()) is not None:
                    batch.done.cancel()  # nobody is told of it

    async def _read(self, batches: asyncio.Queue[_Batch | None]) -> None:
        """Hand over every batch as soon as it has come."""
        try:
            async for arrived in _lines(self._receive):
                for start in range(0, len(arrived), AT_ONCE):
                    await self._free.acquire()
                    lines = self._parse(arrived[start : start + AT_ONCE])
                    await self._require_answers(lines)
                    done = await self._submit([line.item for line in lines if line.item])
                    batches.put_nowait(_Batch(lines, done))
        finally:
            batches.put_nowait(None)

    def _parse(self, arrived: list[bytes | None]) -> list[_Line]:
        lines = []
        for text in arrived:
            self._number += 1
            if text is None or text.strip():
                line = _Line(self._number)
                try:
                    line.item = self._statement(text, f"line {line.number}")
                except TidemillError as error:
                    line.error = error
                lines.append(line)
        return lines

    def _statement(self, text: bytes | None, where: str) -> Feedback:
        if text is None:
            what = f"the line has more than {MAX_LINE / 1e6:g} MB"
            raise TooLargeError(what, where=where, mend="Put one statement on a line.")
        try:
            content = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InputError(f"not JSON: {error}", where=where, mend="Write one JSON object a line.") from None
        if not isinstance(content, dict):
            raise InputError(f"{kind_of(content)}, not an object", where=where, mend="Write one JSON object a line.")
        item = parse_feedback(content, where, self._spec, self._service.knows, via=self._via)
        if self._header is not None and content.get("key") is None:
            return dataclasses.replace(item, key=f"{self._header}#{self._number}")
        return item

    async def _require_answers(self, lines: list[_Line]) -> None:
        """Refuse confirmations of what the model did not answer, as far as the tables tell."""
        confirming = [line for line in lines if line.item is not None and line.item.kind == "confirmation"]
        if not confirming or not self._service.may_abstain():
            return
        asked = asyncio.wrap_future(self._service.given({line.item.subject for line in confirming if line.item}))
        try:
            answers = await self._service.deadlines.keep(asked)
        except TidemillError as error:
            for line in confirming:
                line.item, line.error = None, error
            return
        for line in confirming:
            try:
                require_answer(answers.get(line.item.subject if line.item else ""), f"line {line.number}.kind")
            except InputError as error:
                line.item, line.error = None, error

    async def _submit(self, items: list[Feedback]) -> asyncio.Future[list[FeedbackOutcome]]:
        """Hand *items* to the writer, behind no more than a few batches of others: lone statements wait there, too."""
        if not items:
            done: asyncio.Future[list[FeedbackOutcome]] = asyncio.get_running_loop().create_future()
            done.set_result([])
            return done
        await self._service.bulk_turns.acquire()
        try:
            done = asyncio.wrap_future(self._service.feedback.submit_all(items))
        except StoreError as error:  # the service is going down
            done = asyncio.get_running_loop().create_future()
            done.set_exception(error)
        done.add_done_callback(lambda _: self._service.bulk_turns.release())
        return done

    async def _answered(self, batch: _Batch) -> tuple[bytes, bool]:
        """The lines that tell of a batch, and whether it could not be committed."""
        broken: TidemillError | None = None
        outcomes: list[FeedbackOutcome] = []
        try:
            outcomes = await self._service.deadlines.keep(batch.done)
        except TidemillError as error:
            broken = error
        following = iter(outcomes)
        said: list[dict[str, Any]] = []
        for line in batch.lines:
            refused = line.error or broken
            if refused is not None:
                said.append({"line": line.number, "status": "refused", **refused.to_json()})
                continue
            outcome = next(following)
            answer = {"line": line.number, **told(outcome)}
            if outcome.status == "conflict":
                answer |= conflict(outcome, f"line {line.number}.key").to_json()
            said.append(answer)
        return b"".join([orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE) for answer in said]), broken is not None


class _Outbox:
    """Answers on their way: whoever writes them never waits for whoever reads them, unless a great deal is unread."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by run
        self._written = self._sent = 0
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._ended = False

    async def put(self, data: bytes) -> None:
        """Add to what is to be sent."""
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)
        self._more.set()
        while self._written - self._sent > MOST_UNREAD:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more is to be sent."""
        self._ended = True
        self._more.set()

    async def run(self) -> None:
        """Send everything, until the end."""
        with self._file:
            await self._more.wait()
            await self._send({"type": "http.response.start", "status": BulkAnswer.status, "headers": _HEADERS})
            while True:
                if self._sent < self._written:
                    self._file.seek(self._sent)
                    data = self._file.read(_CHUNK)
                    self._sent += len(data)
                    self._room.set()
                    await self._send({"type": "http.response.body", "body": data, "more_body": True})
                elif self._ended:
                    break
                else:
                    self._file.seek(0)
                    self._file.truncate()
                    self._written = self._sent = 0
                    self._more.clear()
                    await self._more.wait()
            await self._send({"type": "http.response.body", "body": b""})


async def _lines(receive: Receive) -> AsyncIterator[list[bytes | None]]:
    """The lines of a body as they arrive, those of one message at a time; ``None`` for one that is too long.

    What a caller who went away had left of a line is no line.
    """
    begun: list[bytes] = []
    size, skipping = 0, False
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        found: list[bytes | None] = []
        if b"\n" in body or not more:
            *whole, rest = b"".join([*begun, body]).split(b"\n")
            found += whole[1:] if skipping else whole
            skipping = skipping and not whole
            if not more and rest and not skipping:
                found.append(rest)
            begun, size = [rest], len(rest)
        elif not skipping:
            begun.append(body)
            size += len(body)
        if skipping:
            begun, size = [], 0
        elif size > MAX_LINE and more:
            found.append(None)
            begun, size, skipping = [], 0, True
        lines = [line if line is None or len(line) <= MAX_LINE else None for line in found]
        if lines:
            yield lines
        if not more:
            return
