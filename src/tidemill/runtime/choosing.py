"""A package that chooses: a representation, heads that say what each action earns for it, and a policy over them.

An answer is ``{"action", "propensity", "propensities": {ACTION: probability}, "expected": {ACTION: reward}}`` over what
was offered; the action was drawn by these very probabilities. The heads may have learned since the package was made:
then they are of a state beside it, and no expectation lies further from the package's own than the answer spec's
``reach`` allows.

The answer spec is ``{"kind": "choice", "labels", "policy", "rewards": [least, greatest], "reach"}``; the last one is a
share of the rewards' range.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import images
from tidemill.data.arrays import Column, Columns, Ragged, length, take
from tidemill.data.encode import encode
from tidemill.data.keys import mix
from tidemill.data.offers import FEATURE, OFFER, SLATE, offers_of
from tidemill.data.schema import Signature
from tidemill.errors import ConfigError, PackageError
from tidemill.features.pipeline import Pipeline
from tidemill.packages.manifest import Manifest
from tidemill.runtime.answers import Answers
from tidemill.runtime.backend import Backend
from tidemill.runtime.heads import Floats, Heads, represented
from tidemill.runtime.policies import Policy, draw
from tidemill.runtime.predictor import Predictor, load


@dataclass(frozen=True, slots=True)
class ChoiceSpec:
    """The answer spec of a package that chooses, checked.

    Attributes:
        labels: the actions that it was made with.
        policy: how it chooses.
        rewards: the least and the greatest.
        reach: how far expectations may have moved since it was made, in the rewards' unit.
    """

    labels: tuple[str, ...]
    policy: Policy
    rewards: tuple[float, float]
    reach: float

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> ChoiceSpec:
        """The spec as a manifest carries it.

        Raises:
            PackageError: it makes no sense.
        """
        try:
            low, high = (float(value) for value in spec.get("rewards", (0.0, 1.0)))
            policy = Policy.of(spec.get("policy", {}))
            reach = float(spec.get("reach", 1.0)) * (high - low)
            labels = tuple(str(label) for label in spec["labels"])
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise _broken(str(error)) from error
        if not low < high or not 0 <= reach < float("inf") or len(set(labels)) < len(labels):
            raise _broken("its rewards, reach or labels are none")
        return cls(labels, policy, (low, high), reach)


def _broken(what: str) -> PackageError:
    return PackageError(f"the answer spec is wrong: {what}", where="manifest.json", mend="Export the model again.")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of each action in some rows, before anything is chosen.

    Attributes:
        names: the actions, one a column.
        mean: what each is expected to earn, float64 ``[n, k]``.
        deviation: how unsure that is, float64 ``[n, k]``.
        offered: bool ``[n, k]``.
        shares: the policy's probabilities, float64 ``[n, k]``; 0 for what is not offered.
    """

    names: tuple[str, ...]
    mean: Floats
    deviation: Floats
    offered: npt.NDArray[np.bool_]
    shares: Floats


class ChoicePredictor(Predictor):
    """See the module's head. Its methods take what :class:`Predictor`'s take.

    Attributes:
        spec: how it chooses.
        heads: what it knows now.
        state_id: the state that these are of; ``None`` for the package's own.
    """

    def __init__(
        self, manifest: Manifest, signature: Signature, pipeline: Pipeline, backend: Backend, heads: Heads
    ) -> None:
        super().__init__(manifest, signature, pipeline, backend, Answers({"kind": "regression"}))
        self.spec = ChoiceSpec.of(manifest.answer)
        self.base = heads
        self.heads = heads
        described = tuple(f for f in signature.inputs if f.role == "action")
        self._described = Signature(inputs=described, target=signature.target, kind="choice") if described else None
        if heads.shared != (self._described is not None):
            raise _broken("its heads are of another kind than its inputs")
        self._rng = np.random.default_rng()

    def with_heads(self, heads: Heads, state_id: str | None) -> ChoicePredictor:
        """The same package with what was learned since.

        Raises:
            PackageError: the heads read another representation.
        """
        if heads.width != self.base.width or heads.shared != self.base.shared:
            raise PackageError(
                f"the state reads {heads.width} numbers, and the model gives {self.base.width}",
                where=state_id,
                mend="Roll back to an earlier state, or run a cycle.",
            )
        other = copy.copy(self)
        other.heads, other.state_id = heads, state_id
        return other

    def representation(self, columns: Columns) -> Floats:
        """What the heads read, float64 ``[n, d]``: of the context, or with described actions of the chosen one."""
        return represented(self.scores(columns))

    def outlook(self, columns: Columns) -> Outlook:
        """What each action is expected to earn in each row, and how likely it is chosen."""
        offers = self._offers(columns)
        new = [action["name"] for offer in offers if offer is not None for action in offer]
        names = tuple(dict.fromkeys([*self.heads.actions, *new]))
        place = {name: code for code, name in enumerate(names)}
        n = length(columns)
        offered = np.ones((n, len(names)), np.bool_)
        offered[:, len(self.heads.actions) :] = False
        for row, offer in enumerate(offers):
            if offer is not None:
                offered[row] = False
                offered[row, [place[action["name"]] for action in offer]] = True
        if self._described is None:
            mean, deviation = self._told(self.representation(columns), names)
        else:
            mean, deviation = self._described_told(columns, offers, names, place, self._described)
        return Outlook(names, mean, deviation, offered, self.spec.policy.shares(mean, deviation, offered))

    def _offers(self, columns: Columns) -> list[list[dict[str, Any]] | None]:
        column = columns.get(OFFER)
        if not isinstance(column, Ragged):
            return [None] * length(columns)
        return offers_of(column.to_arrow().to_pylist())

    def _told(self, z: Floats, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Expectations and their deviations, the former no further from the package's own than allowed."""
        heads, base = self.heads.extended(names), self.base
        mean = heads.expected(z)
        if self.heads is not base:
            own = base.expected(z)
            known = [code for code, name in enumerate(heads.actions) if name in base.actions]
            places = [base.actions.index(heads.actions[code]) for code in known]
            bounded = own[:, places]
            mean[:, known] = np.clip(mean[:, known], bounded - self.spec.reach, bounded + self.spec.reach)
        unsure = self.spec.policy.name in ("linucb", "thompson")
        return mean, heads.deviation(z) if unsure else np.zeros_like(mean)

    def _described_told(
        self,
        columns: Columns,
        offers: Sequence[list[dict[str, Any]] | None],
        names: Sequence[str],
        place: Mapping[str, int],
        described: Signature,
    ) -> tuple[Floats, Floats]:
        """The same where every action has features: each offered one is scored with its context."""
        every = [{"name": name} for name in self.heads.actions]
        pairs = [(row, action) for row, offer in enumerate(offers) for action in (offer or every)]
        rows = np.array([row for row, _ in pairs], np.int64)
        codes = [place[action["name"]] for _, action in pairs]
        records = [{f.name: action.get(f.name.removeprefix(FEATURE)) for f in described.inputs} for _, action in pairs]
        paired: dict[str, Column] = {**take(columns, rows), **encode(described, records, logged=True)}
        z = self.representation(paired)
        mean = np.zeros((len(offers), len(names)))
        deviation = np.zeros_like(mean)
        told = self.heads.expected(z)[:, 0]
        if self.heads is not self.base:
            own = self.base.expected(z)[:, 0]
            told = np.clip(told, own - self.spec.reach, own + self.spec.reach)
        mean[rows, codes] = told
        deviation[rows, codes] = self.heads.deviation(z)[:, 0]
        return mean, deviation

    def choose(self, columns: Columns, points: Floats | None = None) -> list[dict[str, Any]]:
        """One answer a row, its action drawn by the policy; rows of one slate draw different ones while there are any.

        Args:
            columns: the rows.
            points: what decides each row, drawn evenly from 0 up to 1; freshly drawn unless given.

        Raises:
            ArithmeticError: the model gave what is not finite.
        """
        outlook = self.outlook(columns)
        if not np.isfinite(outlook.mean).all():
            raise ArithmeticError(f"{self.manifest.id} gave scores that are not finite")
        points = self._rng.random(len(outlook.mean)) if points is None else points
        shares = outlook.shares
        drawn = draw(shares, points)
        slate = columns.get(SLATE)
        if isinstance(slate, Ragged):
            texts = slate.to_arrow().to_pylist()
            if any(texts):
                shares, drawn = self._without_repeats(outlook, texts, drawn, points)
        return _answers(outlook, shares, drawn)

    def _without_repeats(
        self, outlook: Outlook, slates: Sequence[str], drawn: npt.NDArray[np.int64], points: Floats
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Probabilities and draws where each row of a slate chooses among what those above it have left."""
        shares, drawn = outlook.shares.copy(), drawn.copy()
        taken: dict[str, list[int]] = {}
        for row, name in enumerate(slates):
            if not name:
                continue
            before = taken.setdefault(name, [])
            left = outlook.offered[row].copy()
            left[before] = False
            if before and left.any():
                one = slice(row, row + 1)
                shares[one] = self.spec.policy.shares(outlook.mean[one], outlook.deviation[one], left[None])
                drawn[row] = draw(shares[one], points[one])[0]
            before.append(int(drawn[row]))
        return shares, drawn

    def predict(
        self,
        records: Sequence[Mapping[str, Any]],
        *,
        max_pixels: int = images.MAX_PIXELS,
        places: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """One answer for each record, drawn by its place and so alike each time; see :meth:`Predictor.predict`."""
        if not records:
            return []
        points = points_at(range(len(records)) if places is None else places)
        return self.choose(self.encode(records, max_pixels=max_pixels), points)

    def answer(self, columns: Columns, points: Floats | None = None) -> list[dict[str, Any]]:
        """One answer a row; see :meth:`choose`."""
        return self.choose(columns, points)

    def probabilities(self, columns: Columns) -> npt.NDArray[np.float32]:
        """The policy's probabilities of the actions that the package was made with, float32 ``[n, k]``."""
        outlook = self.outlook(columns)
        codes = [outlook.names.index(label) for label in self.spec.labels]
        return outlook.shares[:, codes].astype(np.float32)

    def warm_up(self) -> None:
        """Choose for one made-up row; see :meth:`Predictor.warm_up`.

        Raises:
            PackageError: the model cannot be computed, or gives no finite numbers of the right shape.
        """
        scores = self.blank_scores()
        if scores.shape != (1, self.base.width - 1) or not np.isfinite(scores).all():
            raise PackageError(
                f"a row of zeros gets scores of shape {scores.shape}, not {(1, self.base.width - 1)} finite numbers",
                where=self.manifest.id,
                mend="Export the model again.",
            )
        z = represented(scores)
        mean = self.heads.expected(z)
        self.spec.policy.shares(mean, self.heads.deviation(z))


def points_at(places: Sequence[int]) -> Floats:
    """What decides the choice at each place, drawn evenly from 0 up to 1: the same wherever a file is cut.

    >>> bool((points_at([7, 8]) == points_at(range(9))[7:]).all())
    True
    """
    drawn = mix(mix(np.array(places, np.uint64)))
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def load_choosing(folder: Path, state: bytes, state_id: str, *, threads: int = 1) -> ChoicePredictor:
    """A package that chooses, with what it has learned since it was made.

    Args:
        folder: the package's folder.
        state: the content of a snapshot.
        state_id: its id.
        threads: threads that one prediction may use.

    Raises:
        PackageError: the package or the snapshot cannot be read, or they do not fit one another.
    """
    predictor = load(folder, threads=threads)
    if not isinstance(predictor, ChoicePredictor):
        raise PackageError("it does not choose", where=str(folder), mend="Roll back to an earlier deployment.")
    return predictor.with_heads(Heads.from_bytes(state, state_id), state_id)


def _answers(outlook: Outlook, shares: Floats, drawn: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    names = outlook.names
    likely, expected, offered = shares.tolist(), outlook.mean.tolist(), outlook.offered.tolist()
    found = []
    for row, chosen in enumerate(drawn.tolist()):
        there = [code for code, is_in in enumerate(offered[row]) if is_in]
        found.append(
            {
                "action": names[chosen],
                "propensity": likely[row][chosen],
                "propensities": {names[code]: likely[row][code] for code in there},
                "expected": {names[code]: expected[row][code] for code in there},
            }
        )
    return found
