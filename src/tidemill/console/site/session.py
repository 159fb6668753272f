"""Who looks, and how they like it: signed cookies, and what tells our own forms from those of other pages.

A session is one cookie, ``RANDOM.TOKEN.EXPIRES.MAC``: its authentication code is keyed by the project's secret, so
nothing has to be kept here, and a token that is revoked closes its sessions within a second. The cookie carries the id
of a token and never its text. Everybody has one, also before they sign in, since the code that forms carry against
forged requests is made of it.

The cookie is ``HttpOnly`` and ``SameSite=Strict``. Browsers keep one jar for all ports of a host, so its name says of
which project it is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from tidemill.errors import AccessError
from tidemill.store.secrets import fingerprint

HOURS = 12
"""Hours after which one has to sign in again."""
LOOK = "tidemill_look"
"""The cookie that keeps language and colours."""
_YEAR = 365 * 24 * 3600
_MOST = 300

Language = Literal["en", "zh"]
Theme = Literal["auto", "light", "dark"]


@dataclass(frozen=True, slots=True)
class Session:
    """What a visitor's cookie says.

    Attributes:
        nonce: random; another one for each sign-in.
        token: the id of the token that was signed in with.
        expires: UTC seconds.
    """

    nonce: str
    token: str | None = None
    expires: int = 0


class Sessions:
    """Makes and reads sessions.

    Args:
        secret: the project's.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"tidemill console", "sha256")
        self.cookie = f"tidemill_{fingerprint(secret)[:8]}"

    def new(self, token: str | None = None) -> Session:
        """A fresh session."""
        return Session(secrets.token_urlsafe(18), token, int(time.time()) + HOURS * 3600)

    def read(self, text: str | None) -> Session | None:
        """The session of a cookie; ``None`` when there is none, or it is forged or over."""
        parts = (text or "")[:_MOST].split(".")
        if len(parts) != 4 or not hmac.compare_digest(self._code(".".join(parts[:3])).encode(), parts[3].encode()):
            return None
        nonce, token, expires = parts[:3]
        if int(expires) <= time.time():
            return None
        return Session(nonce, token or None, int(expires))

    def written(self, session: Session, *, secure: bool) -> str:
        """The ``Set-Cookie`` header that keeps *session*."""
        body = f"{session.nonce}.{session.token or ''}.{session.expires}"
        flags = f"Path=/; HttpOnly; SameSite=Strict; Max-Age={HOURS * 3600}{'; Secure' if secure else ''}"
        return f"{self.cookie}={body}.{self._code(body)}; {flags}"

    def form_code(self, session: Session) -> str:
        """What every form of this session carries."""
        return self._code(f"form {session.nonce} {session.token or ''}")

    def require_form(self, session: Session | None, code: str) -> None:
        """Refuse a form that was not made for this session.

        Raises:
            AccessError: 403.
        """
        if session is None or not hmac.compare_digest(self.form_code(session).encode(), code.encode()):
            raise AccessError(
                "this form is too old, or it does not come from this page",
                where="form",
                mend="Open the page again and repeat what you did; nothing was changed.",
            )

    def _code(self, text: str) -> str:
        return hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256").hex()[:40]


@dataclass(frozen=True, slots=True)
class Look:
    """How a visitor likes pages."""

    language: Language = "en"
    theme: Theme = "auto"

    @classmethod
    def of(cls, cookie: str | None, accepted: str) -> Look:
        """What was chosen, else what the browser asks for.

        >>> Look.of(None, "zh-CN,zh;q=0.9,en;q=0.8"), Look.of("en.dark", "zh")
        (Look(language='zh', theme='auto'), Look(language='en', theme='dark'))
        """
        language, _, theme = (cookie or "").partition(".")
        if language not in get_args(Language):
            wanted = [part.split(";")[0].strip().lower() for part in accepted.split(",")]
            language = next((name[:2] for name in wanted if name[:2] in get_args(Language)), "en")
        known = theme if theme in get_args(Theme) else "auto"
        return cls(
            "zh" if language == "zh" else "en", "light" if known == "light" else "dark" if known == "dark" else "auto"
        )

    def written(self, *, secure: bool) -> str:
        """The ``Set-Cookie`` header that keeps it."""
        flags = f"Path=/; HttpOnly; SameSite=Strict; Max-Age={_YEAR}{'; Secure' if secure else ''}"
        return f"{LOOK}={self.language}.{self.theme}; {flags}"


def digest(content: bytes) -> str:
    """What tells two contents of one file apart, for its address."""
    return hashlib.sha256(content).hexdigest()[:12]
