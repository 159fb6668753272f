"""Calls to the service, before they are sent and after they are answered: the same for both clients."""

from __future__ import annotations

import base64
import io
import itertools
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from tidemill.client.answers import Answer, Receipt
from tidemill.errors import InputError, NotFoundError, ServiceError, TooLargeError
from tidemill.records import new_id

TOKEN = "TIDEMILL_TOKEN"  # noqa: S105 - the variable's name
ROWS, BYTES = 500, 8_000_000
"""Rows of one request, and bytes of several in one; more are sent in several requests."""
STATEMENTS = 1000
"""Statements of feedback of one request."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: ``GET`` or ``POST``.
        path: below the service's address.
        content: the body, written once, so that each try sends the same.
        key: under which it may be sent again; ``None`` where that needs none.
        kind: the type of the body.
        lines: so many lines a whole answer has; 0 where it is no lines.
    """

    method: str
    path: str
    content: bytes | None = None
    key: str | None = None
    kind: str = "application/json"
    lines: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of this call alone."""
        said = {} if self.content is None else {"Content-Type": self.kind}
        return said if self.key is None else {**said, "Idempotency-Key": self.key}


def settings(url: str, token: str | None, timeout: float, ca: str | Path | None) -> dict[str, Any]:
    """What httpx is told about the service.

    Raises:
        InputError: the address or the token is none, or the file holds no certificates.
        NotFoundError: there is no such file.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no address of a service", where="url", mend="Give http://HOST:PORT or https://….")
    token = token if token is not None else os.environ.get(TOKEN)
    headers = {"Accept": "application/json", "User-Agent": f"tidemill/{version('tidemill')}"}
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InputError("the token is none", where="token", mend=f"Give tm_…, or set {TOKEN}.")
        headers["Authorization"] = f"Bearer {token}"
    return {"base_url": url, "headers": headers, "timeout": timeout, "verify": _trusted(ca)}


def _trusted(ca: str | Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca))
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=str(ca), mend="Give a PEM file of certificates.") from None
    except (OSError, ssl.SSLError) as error:
        what = f"the file holds no certificates ({error})"
        raise InputError(what, where=str(ca), mend="Give a PEM file of certificates.") from None


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one request: as JSON, the number of the first, and what tells its key from those of the others."""

    rows: Sequence[bytes]
    first: int
    place: str

    def halves(self) -> tuple[_Part, _Part]:
        """The same in two requests."""
        middle, place = len(self.rows) // 2, self.place or "0"
        return (
            _Part(self.rows[:middle], self.first, f"{place}.0"),
            _Part(self.rows[middle:], self.first + middle, f"{place}.1"),
        )


class PredictCalls:
    """The requests that ask for answers to all rows, each of them with a key of its own.

    How much the service takes at once is its own affair: what it finds too large is halved (:meth:`halve`).

    Args:
        inputs: the rows; they are read bit by bit.
        key: the split key of all of them.
        caller: who asks.
        idempotency_key: what the keys begin with; new ones unless given.
    """

    def __init__(
        self, inputs: Iterable[Mapping[str, Any]], key: str | None, caller: str | None, idempotency_key: str | None
    ) -> None:
        said = {"key": key, "caller": caller}
        self._said = b"".join(
            b',"%s":%s' % (name.encode(), encoded(value)) for name, value in said.items() if value is not None
        )
        self._key = idempotency_key
        self._rest = _parts(inputs)
        self._again: list[_Part] = []
        self._last = _Part((), 0, "")

    def __iter__(self) -> Iterator[Call]:
        while (part := self._again.pop() if self._again else next(self._rest, None)) is not None:
            self._last = part
            body = b'{"inputs":[%s]%s}' % (b",".join(part.rows), self._said)
            yield Call("POST", "/v1/predict", body, self._key_of(part))

    def halve(self, error: TooLargeError) -> None:
        """The last request was too large: its rows come again, in two.

        Raises:
            TooLargeError: it was one row; the message names it.
        """
        part = self._last
        if len(part.rows) == 1:
            row = f"row {part.first + 1}" if part.place or part.first else None
            where = ", ".join(filter(None, (row, error.where)))
            raise TooLargeError(error.what, where=where or None, mend=error.mend) from None
        self._again += reversed(part.halves())

    def _key_of(self, part: _Part) -> str:
        if self._key is None:
            return new_id("call")
        return f"{self._key}#{part.place}" if part.place else self._key


def _parts(inputs: Iterable[Mapping[str, Any]]) -> Iterator[_Part]:
    """So many rows, or so many bytes, at a time: the same whenever the rows are the same."""
    rows: list[bytes] = []
    first = size = 0
    places = itertools.count()
    for row in map(encoded, inputs):
        if rows and (len(rows) >= ROWS or size + len(row) > BYTES):
            yield _Part(rows, first, _place(next(places)))
            first, rows, size = first + len(rows), [], 0
        rows.append(row)
        size += len(row)
    if rows:
        yield _Part(rows, first, _place(next(places)))


def _place(number: int) -> str:
    return str(number) if number else ""


def statement(
    prediction: Answer | str, kind: str, value: Any, author: str | None, key: str | None, *, asked: bool
) -> dict[str, Any]:
    """One statement of feedback on a prediction."""
    said: dict[str, Any] = {"prediction": identifier(prediction), "kind": kind}
    if value is not None:
        said["value"] = value
    if author is not None:
        said["author"] = author
    if asked:
        said["asked"] = True
    return {**said, "key": key or new_id("call")}


def identifier(prediction: Answer | str) -> str:
    """The id of a prediction, given by its answer or as it is."""
    return prediction.id if isinstance(prediction, Answer) else prediction


def feedback_call(said: Mapping[str, Any]) -> Call:
    """The request that gives one statement; its key stands in the body."""
    return Call("POST", "/v1/feedback", encoded(said))


def bulk_calls(statements: Iterable[Mapping[str, Any]]) -> Iterator[Call]:
    """The requests that give many statements, each under a key of its own, so that all may be sent again."""
    rest = iter(statements)
    while part := list(itertools.islice(rest, STATEMENTS)):
        keyed = [one if one.get("key") is not None else {**one, "key": new_id("call")} for one in part]
        content = b"\n".join(map(encoded, keyed))
        yield Call("POST", "/v1/feedback/bulk", content, kind="application/x-ndjson", lines=len(part))


def encoded(content: Any) -> bytes:
    """JSON, in which a :class:`~pathlib.Path`, bytes or a picture is an image file in base64, and an array is a list.

    >>> encoded({"image": b"abc", "when": Path})
    Traceback (most recent call last):
    tidemill.errors.InputError: a type cannot be sent. Give texts, numbers, bytes, paths or arrays.
    >>> encoded({"image": b"abc"})
    b'{"image":"YWJj"}'
    """
    try:
        return orjson.dumps(content, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, InputError | NotFoundError):
            raise error.__cause__ from None
        raise InputError(f"the inputs cannot be written as JSON: {error}", mend="Give texts, numbers, lists.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Path):
        try:
            return base64.b64encode(value.read_bytes()).decode()
        except OSError as error:
            what = f"the file cannot be read ({error.strerror})"
            raise NotFoundError(what, where=str(value), mend="Check the path.") from None
    if hasattr(value, "tolist"):  # an array that is not in one piece, a tensor, a number of NumPy
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "save") and hasattr(value, "mode"):  # a picture of Pillow's
        file = io.BytesIO()
        value.save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()
    what = f"a {type(value).__name__} cannot be sent"
    raise InputError(what, mend="Give texts, numbers, bytes, paths or arrays.")


def content_of(response: httpx.Response) -> Any:
    """The JSON of a good answer.

    Raises:
        ServiceError: it is none, so it is not the service that answers there.
    """
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        raise ServiceError(
            "the answer is not JSON", where=str(response.url), mend="Check that `tidemill serve` answers there."
        ) from None


def receipts_of(response: httpx.Response) -> list[Receipt]:
    """What became of the statements of one request."""
    return [Receipt.of(orjson.loads(line)) for line in response.content.splitlines()]


def path_of_trace(identifier: str) -> str:
    """Where the line of an id is told."""
    return f"/v1/trace/{quote(identifier, safe='')}"
