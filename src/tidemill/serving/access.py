"""The door: which tokens are good, what each path needs, and who has none.

Until a project has its first token, programs on this machine come in freely and nobody else can. From then on everybody
shows one, also on this machine (unless ``serve.open_loopback`` says otherwise), and also when all of them have been
revoked: taking back the last key must not open the house.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tidemill.config import Serve
from tidemill.errors import TidemillError
from tidemill.records import Scope, Token
from tidemill.serving import asgi
from tidemill.serving.answering import CLOSE, Headers, RequestError
from tidemill.serving.guard import RequestHead, is_loopback
from tidemill.serving.limits import RateError, Rates
from tidemill.serving.tokens import PREFIX
from tidemill.store import Store

logger = logging.getLogger("tidemill.serving")

INTERVAL = 0.2
_SAID_EVERY = 60.0
_TOKEN_IN_QUERY = re.compile(rb"(?:^|[&;])(?:access_)?token=|" + PREFIX.encode() + rb"[a-z2-7]{8}")
_BASIC = "/v1/label-studio/"  # Label Studio sends a name and a password, and cannot send a token otherwise
_LONGEST = 200  # bytes of a header that can hold a token; more is not even hashed

Need = Literal["open", "page", "any"] | Scope
"""What a path needs: nothing; a token where strangers can come; any token; or one with a scope."""

NEEDS: dict[str, Need] = {
    "/healthz": "open",
    "/readyz": "open",
    "/metrics": "admin",
    "/docs": "page",
    "/openapi.json": "page",
    "/v1/predict": "predict",
    "/v1/models": "predict",
    "/v1/feedback": "feedback",
    "/v1/feedback/bulk": "feedback",
    "/v1/annotation": "label",
    "/v1/questions": "label",
    "/v1/answers": "label",
    "/v1/answers/pass": "label",
    "/v1/answers/undo": "label",
    "/v2": "predict",
    "/v2/health/live": "open",
    "/v2/health/ready": "open",
}
NEEDS_BELOW: tuple[tuple[str, Need], ...] = (
    ("/v1/trace/", "admin"),
    ("/v1/label-studio/", "label"),
    ("/v2/models/", "predict"),
)


class UnauthenticatedError(RequestError):
    """There is no token, or none that is good."""


class ForbiddenError(RequestError):
    """The token does not open this."""


def _password(authorization: bytes) -> bytes:
    """What stands after the name in a header of basic authentication; nothing where it is none.

    >>> _password(b"Basic bWlsbDp0b2tlbg=="), _password(b"Bearer token")
    (b'token', b'')
    """
    scheme, _, text = authorization[:_LONGEST].partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(text.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def need_of(path: str) -> Need:
    """What *path* needs; a path that does not exist is only told to those who have a token.

    >>> need_of("/v1/predict"), need_of("/v1/trace/run_1"), need_of("/nothing")
    ('predict', 'admin', 'any')
    """
    return _named(path) or "any"


def require_needs(paths: Iterable[str]) -> None:
    """Make sure that each of *paths*, the routes of the service, stands in the lists above.

    Raises:
        LookupError: one does not, so that any token would open it.
    """
    forgotten = [path for path in paths if _named(path) is None]
    if forgotten:
        raise LookupError(f"serving/access.py does not say what {', '.join(forgotten)} needs")


def _named(path: str) -> Need | None:
    if path in NEEDS:
        return NEEDS[path]
    return next((need for start, need in NEEDS_BELOW if path.startswith(start)), None)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at pages.

    Attributes:
        token: the one that was signed in with; ``None`` where none is needed, or none was shown.
        free: none is needed: the service is open to programs on this machine, and it is one of them.
    """

    token: Token | None = None
    free: bool = False

    def may(self, need: Need) -> bool:
        """Whether *need* is met.

        >>> Visitor().may("open"), Visitor().may("page"), Visitor(free=True).may("admin")
        (True, False, True)
        """
        if self.free or need == "open":
            return True
        if self.token is None:
            return False
        return need in ("any", "page", *self.token.scopes) or "admin" in self.token.scopes


class Tokens:
    """The store's tokens in memory, read again whenever there is a new one or one fewer.

    Args:
        store: whose tokens.
        interval: seconds between two looks at it.

    Attributes:
        any: whether there is, or ever was, a token.
    """

    def __init__(self, store: Store, *, interval: float = INTERVAL) -> None:
        self._store = store
        self._interval = interval
        self._good: dict[bytes, Token] = {}
        self._by_id: dict[str, Token] = {}
        self._seen: tuple[int, int] | None = None
        self._fault: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.any = False

    def start(self) -> None:
        """Read the tokens, then follow them.

        Raises:
            StoreError: they cannot be read.
        """
        self.look()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="tidemill-tokens", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Follow them no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Read the tokens again if they have changed.

        Raises:
            StoreError: they cannot be read.
        """
        seen = (self._store.count(Token), self._store.count(Token, revoked=None))
        if seen != self._seen:
            good = {bytes.fromhex(token.digest): token for token in self._store.find(Token, revoked=None)}
            self._by_id = {token.id: token for token in good.values()}
            self._good, self.any, self._seen = good, seen[0] > 0, seen

    def find(self, authorization: bytes) -> Token | None:
        """The good token in an ``Authorization`` header.

        An unknown, a revoked and an expired one are the same here. What the look-up compares is a SHA-256 digest, of
        which a caller cannot choose a part, so its time tells nothing about any token.
        """
        scheme, _, text = authorization[:_LONGEST].partition(b" ")
        digest = hashlib.sha256(text.strip()).digest()
        token = self._good.get(digest)
        if token is None or scheme.lower() != b"bearer" or not hmac.compare_digest(digest.hex(), token.digest):
            return None
        return _living(token)

    def named(self, identifier: str) -> Token | None:
        """The good token with this id: of somebody who has shown its text before."""
        return _living(self._by_id.get(identifier))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.look()
                self._fault = None
            except TidemillError as error:
                if self._fault != str(error):
                    logger.error("the tokens cannot be read, so those last seen stay good: %s", error)  # noqa: TRY400
                self._fault = str(error)


class Door:
    """Lets requests in, or says why not.

    Args:
        store: whose tokens open it.
        settings: the limits, and whether this machine needs a token.
        exposed: whether other machines can reach the service.
    """

    def __init__(self, store: Store, settings: Serve, *, exposed: bool) -> None:
        self.tokens = Tokens(store)
        self._rates = Rates(settings.rate, settings.address_rate)
        self._open_loopback = settings.open_loopback
        self._exposed = exposed
        self._here: dict[str | None, bool] = {}
        self._failures = 0
        self._said = -_SAID_EVERY

    def enter(self, scope: asgi.Scope, head: RequestHead) -> Token | None:
        """Let a request in; its token, or ``None`` where none is needed.

        Raises:
            UnauthenticatedError: 401, there is no token or none that is good.
            ForbiddenError: 403, the token lacks the scope.
            RateError: 429, the address or the token asks too often.
            RequestError: 400, a token stands in the address, where logs would keep it.
        """
        query = scope["query_string"]
        if query and _TOKEN_IN_QUERY.search(query):
            raise _in_query()
        if self._is_open(scope):
            return None
        address = _address(scope)
        self._rates.address(address)
        need = need_of(scope["path"])
        if need == "open" or (need == "page" and self._is_here(scope)):
            return None
        if head.authorization is None:
            raise _unauthenticated("this needs a token", b"Bearer")
        token = self.tokens.find(head.authorization)
        if token is None and scope["path"].startswith(_BASIC):
            token = self.tokens.find(b"Bearer " + _password(head.authorization))
        if token is None:
            raise self._failure(address)
        if need not in ("any", "page") and need not in token.scopes and "admin" not in token.scopes:
            raise _forbidden(need)
        self._rates.token(token.id, need)
        return token

    def visitor(self, scope: asgi.Scope, identifier: str | None, need: Need) -> Visitor:
        """Who asks for a page that needs *need*, by the id of the token that they once signed in with.

        Raises:
            RateError: 429, the address or the token asks too often.
            RequestError: 400, a token stands in the address.
        """
        query = scope["query_string"]
        if query and _TOKEN_IN_QUERY.search(query):
            raise _in_query()
        if self._is_open(scope):
            return Visitor(free=True)
        self._rates.address(_address(scope))
        token = None if identifier is None else self.tokens.named(identifier)
        if token is not None:
            self._rates.token(token.id, need)
        return Visitor(token)

    def sign_in(self, scope: asgi.Scope, text: str) -> Token:
        """The token that somebody typed.

        Raises:
            UnauthenticatedError: 401, it is not known, or not valid any more.
            RateError: 429, the address has shown too many that are not.
        """
        token = self.tokens.find(b"Bearer " + text.strip().encode())
        if token is None:
            raise self._failure(_address(scope))
        return token

    def needs_token(self) -> bool:
        """Whether programs on this machine, too, need a token."""
        return self._exposed or (self.tokens.any and not self._open_loopback)

    def _is_open(self, scope: asgi.Scope) -> bool:
        return not self.needs_token() and self._is_here(scope)

    def _is_here(self, scope: asgi.Scope) -> bool:
        """Whether a request came over this machine's own addresses, which only this machine reaches."""
        if self._exposed:
            return False
        server = scope.get("server")
        name = server[0] if server else None
        known = self._here.get(name)
        if known is None:
            known = self._here[name] = name is not None and is_loopback(name)
        return known

    def _failure(self, address: str) -> RequestError:
        self._failures += 1
        now = time.monotonic()
        if now - self._said >= _SAID_EVERY:
            said = "%d requests with a token that is not good, the last one from %s"
            logger.warning(said, self._failures, address)
            self._failures, self._said = 0, now
        try:
            self._rates.failure(address)
        except RateError as error:
            return error
        return _unauthenticated("the token is not known here, or not valid any more", b'Bearer error="invalid_token"')


def _address(scope: asgi.Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _living(token: Token | None) -> Token | None:
    expired = token is not None and token.expires is not None and token.expires <= time.time()
    return None if expired else token


def _unauthenticated(what: str, challenge: bytes) -> UnauthenticatedError:
    headers: Headers = ((b"www-authenticate", challenge), *CLOSE)
    mend = "Send Authorization: Bearer tm_…; `tidemill token new NAME` makes one."
    return UnauthenticatedError(401, what, where="Authorization header", mend=mend, headers=headers)


def _forbidden(scope: str) -> ForbiddenError:
    headers: Headers = ((b"www-authenticate", f'Bearer error="insufficient_scope", scope="{scope}"'.encode()), *CLOSE)
    return ForbiddenError(
        403,
        f"the token does not have the scope {scope}",
        where="Authorization header",
        mend=f"Use one that has: `tidemill token new NAME --scope {scope}`.",
        headers=headers,
    )


def _in_query() -> RequestError:
    return RequestError(
        400,
        "a token in the address is not taken: logs and histories keep addresses",
        where="query",
        mend="Send it as a header, Authorization: Bearer …, and revoke the one that you sent.",
        headers=CLOSE,
    )
