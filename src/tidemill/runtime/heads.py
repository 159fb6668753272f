"""What a bandit has learned of its actions: a Bayesian linear regression of the reward, one *head* an action.

The model of a package turns inputs into a representation *z*; a head says what its action earns for it, and how sure
that is. A network makes *z*, or *z* is the features themselves. Heads learn from one reward in microseconds, exactly:
what they know after rewards in any order is what they would know had all been there at first. That is what lets a
served policy learn between two cycles (Riquelme, Tucker and Snoek, *Deep Bayesian Bandits Showdown*, ICLR 2018).
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import PackageError

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[Any]

_ARRAYS = ("mean", "spread", "seen")


def represented(scores: npt.NDArray[np.float32]) -> Floats:
    """What a package's model gives, float32 ``[n, d]``, as what heads read: float64 ``[n, d + 1]``, the last one 1."""
    return np.concatenate([scores.astype(np.float64), np.ones((len(scores), 1))], axis=1)


@dataclass(frozen=True, slots=True)
class Heads:
    """Normal beliefs about the weights of *k* actions over *d* numbers; values, not to be changed in place.

    Attributes:
        actions: their names.
        mean: float64 ``[k, d]``: the expected weights.
        spread: float64 ``[k, d, d]``: their covariance, in units of ``noise`` squared.
        noise: the standard deviation of a reward around its expectation.
        seen: float64 ``[k]``: rewards that each head has learned from.
        shared: one head serves all actions, and each is told by its own features.
    """

    actions: tuple[str, ...]
    mean: Floats
    spread: Floats
    noise: float
    seen: Floats
    shared: bool = False

    @classmethod
    def blank(
        cls, actions: Sequence[str], width: int, *, ridge: float = 1.0, noise: float = 0.5, shared: bool = False
    ) -> Heads:
        """Heads that know nothing: weights around 0 with a variance of one over *ridge*."""
        k = 1 if shared else len(actions)
        spread = np.tile(np.eye(width) / ridge, (k, 1, 1))
        return cls(tuple(actions), np.zeros((k, width)), spread, noise, np.zeros(k), shared)

    @property
    def width(self) -> int:
        """Numbers of a representation."""
        return int(self.mean.shape[1])

    def expected(self, z: Floats) -> Floats:
        """What each head expects of each representation ``[n, d]``: float64 ``[n, k]``."""
        found: Floats = z @ self.mean.T
        return found

    def deviation(self, z: Floats) -> Floats:
        """The standard deviation of :meth:`expected`, float64 ``[n, k]``."""
        turned = z @ self.spread  # [k, n, d], without a copy of the spreads
        found: Floats = self.noise * np.sqrt(np.maximum(np.einsum("knd,nd->nk", turned, z), 0.0))
        return found

    def learned(
        self, z: Floats, action: Codes, reward: Floats, weight: Floats | None = None, *, memory: float = 1.0
    ) -> Heads:
        """Heads that have learned from rewards, too, one after the other.

        Args:
            z: representations ``[n, d]``.
            action: which head each reward speaks of, int ``[n]``.
            reward: float64 ``[n]``.
            weight: what each counts; 1 unless given.
            memory: what everything known before a reward still counts after it, for its head; below 1 the heads forget
                what is long past, and never know more than one over ``1 - memory`` rewards can tell.
        """
        mean, spread, seen = self.mean.copy(), self.spread.copy(), self.seen.copy()
        for row in range(len(z)):
            head, x = int(action[row]), z[row]
            w = 1.0 if weight is None else float(weight[row])
            if w <= 0:
                continue
            if memory < 1:
                spread[head] /= memory
                seen[head] *= memory
            turned = spread[head] @ x
            gain = w * turned / (1.0 + w * float(x @ turned))
            mean[head] += gain * (float(reward[row]) - float(mean[head] @ x))
            spread[head] -= np.outer(gain, turned)
            seen[head] += w
        if memory < 1:  # what is never seen again must not become endlessly unsure
            size = np.trace(spread, axis1=1, axis2=2) / self.width
            largest = np.maximum(np.trace(self.spread, axis1=1, axis2=2) / self.width, 1.0)
            spread *= np.minimum(1.0, largest / np.maximum(size, 1e-30))[:, None, None]
        return dataclasses.replace(self, mean=mean, spread=spread, seen=seen)

    def corrected(self, z: Floats, action: int, change: float) -> Heads:
        """Heads that have learned another reward from a choice they know: *change* is the new one less the old one.

        Nothing else than the expectation hangs on a reward's size, so nothing has to be learned again.
        """
        mean = self.mean.copy()
        mean[action] += self.spread[action] @ z * change
        return dataclasses.replace(self, mean=mean)

    @classmethod
    def fitted(
        cls,
        actions: Sequence[str],
        z: Floats,
        action: Codes,
        reward: Floats,
        weight: Floats | None = None,
        *,
        ridge: float = 1.0,
        shared: bool = False,
    ) -> Heads:
        """Heads that have learned from many rewards at once, as :meth:`learned` would have one after the other.

        The noise is what is left of the rewards around their expectations.
        """
        blank = cls.blank(actions, z.shape[1], ridge=ridge, shared=shared)
        mean, spread, seen = blank.mean.copy(), blank.spread.copy(), blank.seen.copy()
        w = np.ones(len(z)) if weight is None else np.asarray(weight, np.float64)
        left, total = 0.0, 0.0
        for head in range(len(mean)):
            rows = np.arange(len(z)) if shared else np.flatnonzero(action == head)
            x = z[rows]
            precision = ridge * np.eye(z.shape[1]) + (x * w[rows, None]).T @ x
            spread[head] = np.linalg.inv(precision)
            spread[head] = (spread[head] + spread[head].T) / 2
            mean[head] = spread[head] @ (x.T @ (w[rows] * reward[rows]))
            seen[head] = float(w[rows].sum())
            left += float((w[rows] * (reward[rows] - x @ mean[head]) ** 2).sum())
            total += float(w[rows].sum())
        noise = float(np.sqrt(left / total)) if total > 0 else blank.noise
        return dataclasses.replace(blank, mean=mean, spread=spread, seen=seen, noise=max(noise, 1e-3))

    def extended(self, names: Sequence[str]) -> Heads:
        """Heads for actions that were never seen, too: they know nothing, and are as unsure as heads are at first."""
        new = [name for name in names if name not in self.actions]
        if not new:
            return self
        if self.shared:
            return dataclasses.replace(self, actions=(*self.actions, *new))
        d = self.width
        return dataclasses.replace(
            self,
            actions=(*self.actions, *new),
            mean=np.concatenate([self.mean, np.zeros((len(new), d))]),
            spread=np.concatenate([self.spread, np.tile(np.eye(d), (len(new), 1, 1))]),
            seen=np.concatenate([self.seen, np.zeros(len(new))]),
        )

    def to_bytes(self) -> bytes:
        """As safetensors: float32 arrays, and the rest as JSON in the header."""
        from safetensors.numpy import save

        said = {"actions": list(self.actions), "noise": self.noise, "shared": self.shared}
        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in _ARRAYS}
        content: bytes = save(arrays, metadata={"heads": json.dumps(said, ensure_ascii=False)})
        return content

    @classmethod
    def from_bytes(cls, content: bytes, where: str = "state") -> Heads:
        """What :meth:`to_bytes` wrote.

        Raises:
            PackageError: it is no such state, is cut off, or holds numbers that are none.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = {name: array.astype(np.float64) for name, array in load(content).items()}
            (length,) = struct.unpack_from("<Q", content)
            said = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["heads"])
            found = cls(tuple(said["actions"]), noise=float(said["noise"]), shared=said["shared"] is True, **arrays)
            fault = found.fault()
        except (AttributeError, KeyError, TypeError, ValueError, struct.error, SafetensorError) as error:
            raise _broken(str(error), where) from error
        if fault is not None:
            raise _broken(fault, where)
        return found

    def fault(self) -> str | None:
        """Why these can be no heads, in words; ``None`` when they can."""
        k = 1 if self.shared else len(self.actions)
        d = self.mean.shape[-1]
        if (self.mean.shape, self.spread.shape, self.seen.shape) != ((k, d), (k, d, d), (k,)):
            return "its arrays do not fit one another"
        if not all(isinstance(name, str) for name in self.actions) or len(set(self.actions)) < len(self.actions):
            return "its actions are no names, each once"
        numbers = (self.mean, self.spread, self.seen, np.array(self.noise))
        if not all(np.isfinite(array).all() for array in numbers) or self.noise < 0:
            return "it holds what is no number"
        return None


def _broken(what: str, where: str) -> PackageError:
    mend = "Roll back to an earlier state, or run a cycle."
    return PackageError(f"the state cannot be read: {what[:200]}", where=where, mend=mend)
