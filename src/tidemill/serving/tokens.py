"""Tokens: what a caller shows at the door. A token's text is shown once, when it is made; the store keeps a digest.

The text holds 256 random bits, so its plain SHA-256 is enough: nothing is left to guess that a slow hash would
protect, and a request is checked in a microsecond.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Any, get_args

from tidemill.errors import ConflictError, InputError, NotFoundError
from tidemill.records import JSON, Scope, Token, new_id, to_json
from tidemill.store import Store

PREFIX = "tm_"
SCOPES: tuple[str, ...] = get_args(Scope)
_MAX_NAME = 100


def new_text() -> str:
    """The text of a new token: a prefix that scanners for leaked secrets can know it by, and 256 random bits.

    >>> len(new_text()), new_text() != new_text()
    (55, True)
    """
    return PREFIX + base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()


def digest(text: bytes) -> str:
    """What the store keeps of a token's text."""
    return hashlib.sha256(text).hexdigest()


def make_token(
    store: Store, name: str, scopes: Sequence[str], *, lifetime: float | None = None, text: str | None = None
) -> tuple[Token, str]:
    """A new token: its record, and its text, which nothing can show again.

    Args:
        store: where the record goes.
        name: whose it is; no other living token may have it.
        scopes: what it opens, of :data:`SCOPES`.
        lifetime: seconds after which it opens nothing; for ever unless given.
        text: its text, for tests; random unless given.

    Raises:
        InputError: the name is empty or too long, or a scope is unknown.
        ConflictError: a living token has this name.
    """
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InputError(f"{name!r:.120} is no name", where="name", mend=f"Give 1 to {_MAX_NAME} printable letters.")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        what = f"there is no scope {unknown[0]!r}" if unknown else "a token without scopes opens nothing"
        raise InputError(what, where="scope", mend=f"Give one or more of {', '.join(SCOPES)}.")
    text = text or new_text()
    now = time.time()
    token = Token(
        id=new_id(Token.prefix),
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        digest=digest(text.encode()),
        expires=None if lifetime is None else now + lifetime,
    )
    with store.transaction():
        if any(_lives(other, now) for other in store.find(Token, name=name, revoked=None)):
            mend = "Choose another name, or revoke that one first."
            raise ConflictError(f"a token with the name {name!r} exists already", where="name", mend=mend)
        store.insert(token)
    return token, text


def revoke_token(store: Store, which: str) -> Token:
    """Take a token back; every serving process refuses it within a second.

    Args:
        store: where the record lies.
        which: its id or its name.

    Raises:
        NotFoundError: no token that has not been revoked is called so.
    """
    with store.transaction():
        is_id = which.startswith(f"{Token.prefix}_")
        good = store.find(Token, newest_first=True, revoked=None)
        found = [token for token in good if which == (token.id if is_id else token.name)]
        if not found:
            raise NotFoundError(
                f"there is no token {which!r} that could be revoked", mend="`tidemill token list` shows them."
            )
        revoked = dataclasses.replace(found[0], revoked=time.time())
        store.update(revoked)
    return revoked


def list_tokens(store: Store) -> list[JSON]:
    """All tokens, newest first, without their digests; see :func:`token_json`."""
    return [token_json(token) for token in store.find(Token, newest_first=True)]


def token_json(token: Token) -> dict[str, Any]:
    """A token as people may see it, with its ``state``: ``valid``, ``expired`` or ``revoked``."""
    shown = {name: value for name, value in to_json(token).items() if name != "digest"}
    state = "revoked" if token.revoked is not None else "valid" if _lives(token, time.time()) else "expired"
    return {**shown, "state": state}


def _lives(token: Token, now: float) -> bool:
    return token.revoked is None and (token.expires is None or token.expires > now)
