"""What the project's secret keys: the check in prediction ids, and the random draws of the audit.

A keyed hash makes a draw that nobody outside can foresee, and that comes out the same in every worker.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
from pathlib import Path
from typing import Literal

from tidemill.errors import StoreError
from tidemill.records import Prediction, new_id

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # as in the ids of tidemill.records
_TIMED = re.compile(rf"(?<![a-z0-9])([0-7][{_LETTERS}]{{9}})[{_LETTERS}]{{16}}$")
_CHECK = 6  # letters of 5 bits: a guessed id passes once in 2**30
_PAIRS = [first + second for second in _LETTERS for first in _LETTERS]


def make_secret(root: Path, secret: bytes | None = None) -> None:
    """Write ``root/secret``: 32 bytes as hex, readable by its owner only. An existing one is kept.

    Args:
        root: the project's ``.tidemill`` folder.
        secret: random unless given; a given one makes the audit's draws repeatable, for demonstrations and tests.
    """
    draft = root / f".secret-{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, (secret or os.urandom(32)).hex().encode())
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):  # linked when whole, so never seen half-written
            os.link(draft, root / "secret")
    finally:
        os.close(descriptor)
        draft.unlink()


def read_secret(root: Path) -> bytes:
    """The project's secret.

    Raises:
        StoreError: the file is missing or not what :func:`make_secret` wrote.
    """
    path = root / "secret"
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise StoreError(f"the project's secret cannot be read ({error})", where=str(path), mend=_RESTORE) from error
    if len(secret) != 32:
        raise StoreError(f"the project's secret has {len(secret)} bytes instead of 32", where=str(path), mend=_RESTORE)
    return secret


def fingerprint(secret: bytes) -> str:
    """What says that a database and a folder belong together, and gives nothing of the secret away."""
    return hashlib.blake2b(b"project", key=secret, digest_size=16).hexdigest()


_RESTORE = "Restore it from a backup: without it feedback on earlier predictions cannot be accepted."


def new_prediction_id(secret: bytes) -> str:
    """A new sortable prediction id that ends in six keyed check letters.

    >>> made = new_prediction_id(b"k" * 32)
    >>> check_prediction_id(b"k" * 32, made), check_prediction_id(b"x" * 32, made)
    (True, False)
    """
    body = new_id(Prediction.prefix)
    return body + _check(secret, body)


def repeated_prediction_id(secret: bytes, key: str, *parts: str) -> str:
    """The id of a prediction that may be asked for again: the same in every process for the same arguments.

    So whoever sends a request again, to another worker or after a restart, makes no second prediction of it: the
    ingester keeps one of each id.

    Args:
        secret: the store's.
        key: the caller's, the same whenever the request is sent. Where it ends as :func:`~tidemill.records.new_id`
            ends, the id begins with its time: ids in their order are quicker to fold.
        parts: who asks, and what must not change: the model, its state, the content, the row.

    >>> made = repeated_prediction_id(b"k" * 32, "order 7", "model_1", "0")
    >>> made == repeated_prediction_id(b"k" * 32, "order 7", "model_1", "0"), check_prediction_id(b"k" * 32, made)
    (True, True)
    >>> made == repeated_prediction_id(b"k" * 32, "order 7", "model_2", "0")
    False
    """
    said = "\0".join(("once", key, *parts)).encode()
    value = int.from_bytes(hashlib.blake2b(said, key=secret, digest_size=17).digest(), "big")
    letters = "".join(_LETTERS[value >> shift & 31] for shift in range(0, 130, 5))
    timed = _TIMED.search(key)
    body = f"{Prediction.prefix}_{letters if timed is None else timed[1] + letters[10:]}"
    return body + _check(secret, body)


def check_prediction_id(secret: bytes, identifier: str) -> bool:
    """Whether *identifier* was made with *secret*, so that its prediction may be known before it is folded in."""
    body, check = identifier[:-_CHECK], identifier[-_CHECK:]
    return (
        len(identifier) == len(Prediction.prefix) + 1 + 26 + _CHECK
        and identifier.isascii()
        and body.startswith(f"{Prediction.prefix}_")
        and hmac.compare_digest(check, _check(secret, body))
    )


def audit_draw(secret: bytes, generation: int, key: str, rate: float) -> bool:
    """Whether the split key *key* is drawn for the audit: with probability *rate*, the same in every process.

    >>> audit_draw(b"k" * 32, 1, "00ff", 1.0), audit_draw(b"k" * 32, 1, "00ff", 0.0)
    (True, False)
    """
    return _uniform(secret, f"audit:{generation}:{key}") < rate * 2**64


def audit_split(secret: bytes, key: str) -> Literal["recent-validation", "recent-test"]:
    """Which of the two recent sets an audited key belongs to: half and half, once and for good."""
    return "recent-validation" if _uniform(secret, f"split:{key}") < 2**63 else "recent-test"


def canary_draw(secret: bytes, rollout: str, caller: str, share: float) -> bool:
    """Whether a caller is among the *share* whom the canary of *rollout* answers: the same in every process.

    A larger share keeps those whom a smaller one has; another roll-out draws anew.

    >>> canary_draw(b"k" * 32, "roll_1", "ann", 1.0), canary_draw(b"k" * 32, "roll_1", "ann", 0.0)
    (True, False)
    """
    return _uniform(secret, f"canary:{rollout}:{caller}") < share * 2**64


def choice_draw(secret: bytes, identifier: str) -> float:
    """What decides the choice of the prediction *identifier*: evenly from 0 up to 1, the same in every process.

    >>> choice_draw(b"k" * 32, "pred_1") == choice_draw(b"k" * 32, "pred_1") != choice_draw(b"k" * 32, "pred_2")
    True
    """
    return (_uniform(secret, f"choice:{identifier}") >> 11) * 2.0**-53


def _uniform(secret: bytes, message: str) -> int:
    return int.from_bytes(hashlib.blake2b(message.encode(), key=secret, digest_size=8).digest(), "big")


def _check(secret: bytes, body: str) -> str:
    value = _uniform(secret, f"id:{body}")
    return _PAIRS[value & 1023] + _PAIRS[value >> 10 & 1023] + _PAIRS[value >> 20 & 1023]
