"""What a request must satisfy before anyone looks at it: where it comes from, what it is, and how large.

A service on a loopback port is not private: every page in a browser on the machine can send requests to it, and by
DNS rebinding (a name that first resolves to the attacker's server and then to 127.0.0.1) even read the answers. So
the ``Host`` must be a name of this machine, and an ``Origin``, which browsers always send with such requests, must be
one that was configured, or this machine's.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from tidemill.errors import TooLargeError
from tidemill.serving.answering import CLOSE, RequestError
from tidemill.serving.asgi import Message, Receive, Scope

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what it means to listen there is decided in server.py
SMALL_BODY = 64_000
_REMEMBERED = 1024


class RequestHead(NamedTuple):
    """The headers that serving reads; ``None`` where the request has none.

    Attributes:
        via: the name of the token that it shows, once the door has let it in.
    """

    host: bytes | None = None
    origin: bytes | None = None
    content_type: bytes | None = None
    content_length: bytes | None = None
    idempotency_key: bytes | None = None
    authorization: bytes | None = None
    json_length: bytes | None = None
    via: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> RequestHead:
        """The head of an ASGI request, read in one pass.

        Raises:
            RequestError: 400 where it says twice to whom it is addressed, or who sends it: a proxy in front may have
                looked at the other one.
        """
        host = origin = kind = length = key = authorization = head = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise _twice("Host")
                host = value
            elif name == b"content-type":
                kind = value
            elif name == b"content-length":
                length = value
            elif name == b"authorization":
                if authorization is not None:
                    raise _twice("Authorization")
                authorization = value
            elif name == b"origin":
                if origin is not None:
                    raise _twice("Origin")
                origin = value
            elif name == b"idempotency-key":
                key = value
            elif name == b"inference-header-content-length":
                head = value
        return cls(host, origin, kind, length, key, authorization, head)


def _twice(header: str) -> RequestError:
    return RequestError(
        400, f"the request has two {header} headers", where=f"{header} header", mend="Send one.", headers=CLOSE
    )


async def skip_small_body(scope: Scope, receive: Receive) -> None:
    """Read past a body that is hardly larger than its head: a caller who is refused while sending may lose the answer.

    Larger ones are left unread, and the connection is closed.
    """
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and 0 < int(length) <= SMALL_BODY:
        while (await receive()).get("more_body", False):
            pass


class Guard:
    """Checks requests and reads bodies within limits.

    Args:
        hosts: host names that requests may be addressed to, besides this machine's own names.
        origins: origins (``https://label.example.org``) whose pages may send requests, besides this machine's.
        max_body: bytes that a body may have.
        patience: seconds that a body may take to arrive.
        addresses: whether requests may be addressed to any IP address, on a service that listens on all of them. No
            page can rebind an address: browsers send the name that they looked up.
    """

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        max_body: int,
        patience: float = 30.0,
        addresses: bool = False,
    ) -> None:
        self._hosts = {host.lower().strip("[]").rstrip(".") for host in hosts}
        self._addresses = addresses
        self._origins = {origin.lower().rstrip("/").encode() for origin in origins}
        self._known_hosts: set[bytes] = set()
        self.max_body = max_body
        self._patience = patience

    def check(self, head: RequestHead, *, streams: bool = False) -> None:
        """Refuse what is addressed to another host, comes from a foreign page, or announces too large a body.

        Args:
            head: of the request.
            streams: its body is read in pieces, so it may be of any size.

        Raises:
            RequestError: 400 without a host, 403 for a foreign host or origin, 400 for a wrong Content-Length.
            TooLargeError: the announced body is over the limit.
        """
        if head.host not in self._known_hosts:
            self._check_host(head.host)
        if head.origin is not None and not (is_own(head) or self._may_come_from(head.origin)):
            origin = _shown(head.origin)
            raise RequestError(
                403,
                f"requests from pages of {origin} are not accepted",
                where="Origin header",
                mend=f"If you trust that site, add {origin} to serve.origins in tidemill.yaml.",
            )
        if head.content_length is not None:
            if not head.content_length.isdigit():
                raise RequestError(400, "Content-Length is not a number", mend="Send the body's length in bytes.")
            if int(head.content_length[:20]) > self.max_body and not streams:
                raise self._too_large()

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            raise RequestError(400, "the request has no Host header", mend="Send Host: 127.0.0.1, as clients do.")
        name = host_name(_shown(host))
        if name is None or not (_is_here(name) or name in self._hosts or (self._addresses and _is_address(name))):
            raise RequestError(
                403,
                f"this server does not answer to the name {_shown(host)!r}",
                where="Host header",
                mend="Address it as 127.0.0.1 or localhost, or add the name to serve.hosts in tidemill.yaml.",
            )
        if len(self._known_hosts) < _REMEMBERED:
            self._known_hosts.add(host)

    def _may_come_from(self, origin: bytes) -> bool:
        if origin.lower() in self._origins:
            return True
        scheme, _, place = _shown(origin).partition("://")
        name = host_name(place) if scheme in ("http", "https") else None
        return name is not None and _is_here(name)

    def require_json(self, head: RequestHead) -> None:
        """Refuse a body that is not declared as JSON.

        A page of another site can send forms and plain text without asking; JSON it cannot.

        Raises:
            RequestError: 415.
        """
        kind = head.content_type
        if kind == b"application/json":
            return
        essence = _shown(kind or b"").split(";")[0].strip().lower()
        if essence != "application/json":
            raise RequestError(
                415,
                f"the body is declared as {essence!r}" if essence else "the body's type is not declared",
                where="Content-Type header",
                mend="Send JSON, with the header Content-Type: application/json.",
            )

    async def read_body(self, receive: Receive) -> bytes:
        """The whole body; stops reading at the limit.

        Raises:
            TooLargeError: more bytes came than the limit allows, announced or not.
            RequestError: 408 when it did not arrive in time, 400 when the client went away in the middle.
        """
        message = await receive()  # a timer for every request would cost more than reading it: see Connection
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            if len(body) > self.max_body:
                raise self._too_large()
            return body
        try:
            async with asyncio.timeout(self._patience):
                return await self._gather(message, receive)
        except TimeoutError:
            raise self._too_slow() from None

    async def _gather(self, message: Message, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise RequestError(400, "the client went away before the whole body had arrived")
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()

    def limited(self, receive: Receive) -> Receive:
        """*receive* that hands on no more bytes than the limit allows, and waits for them no longer than the patience;
        for routes that read for themselves.
        """
        size, whole = 0, False
        until = asyncio.get_running_loop().time() + self._patience

        async def counted() -> Message:
            nonlocal size, whole
            if whole:  # what comes now is that the client goes away, and for that one may wait as long as one likes
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.max_body:
                raise self._too_large()
            return message

        return counted

    def _too_slow(self) -> RequestError:
        return RequestError(
            408,
            f"the body did not arrive within {self._patience:g} seconds",
            mend="Send it again, without pausing.",
            headers=CLOSE,
        )

    def _too_large(self) -> TooLargeError:
        limit = f"{self.max_body / 1_000_000:g} MB"
        return TooLargeError(
            f"the body is over the limit of {limit}",
            where="body",
            mend="Send fewer rows a request, or raise serve.max_body_mb in tidemill.yaml.",
        )


def is_own(head: RequestHead) -> bool:
    """Whether a request comes from a page of this very service, as the host that it is addressed to tells.

    >>> is_own(RequestHead(host=b"mill.example", origin=b"https://mill.example"))
    True
    >>> is_own(RequestHead(host=b"localhost:8321", origin=b"http://localhost:8322"))
    False
    """
    if head.origin is None or head.host is None:
        return False
    scheme, _, place = head.origin.lower().partition(b"://")
    return scheme in (b"http", b"https") and place == head.host.lower()


def host_name(host: str) -> str | None:
    """The name in ``name:port``, lower case and without brackets; ``None`` when it is malformed.

    >>> host_name("LOCALHOST:8321"), host_name("[::1]:80"), host_name("a b"), host_name("x:y")
    ('localhost', '::1', None, None)
    """
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        rest = rest.removeprefix(":") if bracket else "?"
    else:
        name, _, rest = host.partition(":")
    if not name or not host.isascii() or (rest and not rest.isdigit()):
        return None
    if any(letter.isspace() or letter in "/@\\?#" for letter in name):
        return None
    return name.lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether listening on *host* keeps the service on this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_here(name: str) -> bool:
    # Browsers resolve names under .localhost themselves, to loopback; nobody can own one.
    return is_loopback(name) or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    return value[:200].decode("latin-1")
