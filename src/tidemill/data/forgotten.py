"""Samples that were erased and must not come back: a source that still holds them is read without them.

They are known by keyed digests of their content keys alone. Whoever has no secret of the project cannot tell from a
digest what was erased, not even by trying every possible content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tidemill.data.keys import Keys, key_array, key_text
from tidemill.data.targets import Mask
from tidemill.records import Erasure
from tidemill.store import Store

SAMPLE = "smp_"
GONE = "smp~"
"""What the ids of samples begin with, and what their digests begin with once they were erased."""
WHAT = "samples that were forgotten were left out"
"""How preparation counts them."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The erased samples of a project.

    Attributes:
        secret: the project's.
        digests: sorted, uint64.
    """

    secret: bytes
    digests: Keys

    @classmethod
    def of(cls, store: Store) -> Forgotten:
        """Those of *store*; also of an erasure that is under way."""
        found = {s for erasure in store.find(Erasure) for s in erasure.subjects if s.startswith((SAMPLE, GONE))}
        return cls(store.secret, np.unique(key_array(digest_of(store.secret, s)[len(GONE) :] for s in found)))

    def __bool__(self) -> bool:
        return len(self.digests) > 0

    def mask(self, content: Keys) -> Mask:
        """Which of some content keys are those of erased samples, bool ``[n]``; about a microsecond each."""
        if not self:
            return np.zeros(len(content), bool)
        return np.asarray(np.isin(digests(self.secret, content), self.digests), np.bool_)


def digests(secret: bytes, keys: Keys) -> Keys:
    """Keyed digests of content keys, uint64 ``[n]``: what stands for them once they were erased.

    >>> a, b, c = digests(b"k" * 32, np.array([1, 2, 1], np.uint64)).tolist()
    >>> a == c, a == b, a == 1
    (True, False, False)
    """
    start = hashlib.blake2b(b"gone sample", key=secret, digest_size=8)
    raw = keys.astype("<u8").tobytes()
    found = bytearray()
    for place in range(0, len(raw), 8):
        one = start.copy()
        one.update(raw[place : place + 8])
        found += one.digest()
    return np.frombuffer(bytes(found), "<u8").astype(np.uint64)


def digest_of(secret: bytes, sample: str) -> str:
    """The digest of a sample's id, which says nothing of its content; a digest as it is.

    >>> digest_of(b"k" * 32, digest_of(b"k" * 32, "smp_00000000000000ff"))[:4]
    'smp~'
    """
    if sample.startswith(GONE):
        return sample
    return GONE + key_text(digests(secret, key_array([sample.removeprefix(SAMPLE)]))[0])


def veiled(values: Iterable[str], secret: bytes) -> tuple[str, ...]:
    """Digests of texts: as many different ones, of which none can be read."""
    return tuple(hashlib.blake2b(v.encode(), key=secret, digest_size=8).hexdigest() for v in values)
