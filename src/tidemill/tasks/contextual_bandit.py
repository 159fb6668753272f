"""One of several actions for a context, of which only the reward of the chosen one ever comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.config import Config
from tidemill.data.offers import ACTION, FEATURE, LOGGED, OFFER, PROPENSITY, SLATE
from tidemill.data.schema import Field, FieldType, Kind, Role, Signature
from tidemill.data.sources import ColumnSummary, Source, Summary
from tidemill.data.sources.choices import ACTIONS, PROPENSITIES, ChoiceSource, names_in
from tidemill.errors import SourceError
from tidemill.records import JSON, Feedback, Prediction, Recipe
from tidemill.tasks._base import Claim, Task

TOPICS = ("news", "sport", "culture")
REWARD_KINDS = ("reward", "rating")


class ContextualBandit(Task):
    """Numbers, categories and texts of a context; a policy that chooses; and rewards.

    A classifier whose users rate its answers instead of correcting them is the same: its labels are the actions.
    """

    name: ClassVar[str] = "contextual-bandit"
    summary: ClassVar[str] = "one of several actions for a context, learned from rewards"
    kind: ClassVar[Kind] = "choice"
    metric: ClassVar[str] = "reward"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits logs that say what was chosen, with which probability, and what it earned."""
        names, column = [c.name for c in source.columns], source.column(target)
        action = next((name for name in ACTIONS if name in names), None)
        propensity = next((name for name in PROPENSITIES if name in names), None)
        if column is None or column.type != "number" or action is None or propensity is None:
            return None
        reason = f"{action!r} was chosen with the probability {propensity!r}, and earned {target!r}"
        return Claim(confidence=0.95, reason=reason)

    def open(self, source: Source, config: Config) -> Source:
        """The source as logged choices.

        Raises:
            SourceError: it does not say what was chosen, or with which probability.
        """
        batch = next(iter(source.batches(1)), None)
        if batch is None:
            raise SourceError("there is no row in it.", where=source.name, mend="Give logged choices.")
        bandit = config.bandit
        names = names_in(
            list(batch.columns),
            action=bandit.action,
            propensity=bandit.propensity,
            offered=bandit.offered,
            features=bandit.action_features,
        )
        return ChoiceSource(source, names)

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The context, what describes actions, and what a log says of each choice."""
        fields = [_field(column) for column in source.columns if column.name != target]
        there = {field.name for field in fields}
        fields += [
            Field(name=name, type="text", optional=True, role="offer") for name in (OFFER, SLATE) if name not in there
        ]
        if not any(field.role in ("input", "action") for field in fields):
            raise SourceError("there is no column of a context.", where="inputs", mend="Give at least one.")
        described = any(field.role == "action" for field in fields)
        if len(labels) < 2 and not described:
            raise SourceError(
                f"{len(labels)} action was ever chosen, so there is nothing to choose between.",
                where=ACTION,
                mend="Give logs of several actions, or name further ones under `labels` in tidemill.yaml.",
            )
        return Signature(inputs=tuple(fields), target=target, kind="choice", labels=tuple(labels))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """The mean reward of each action, a linear model of rewards, and one on what a network makes of the context."""
        types = {f.type for f in signature.inputs if f.role in ("input", "action")}
        steps: dict[str, JSON] = {
            "number": {"step": "numbers"},
            "date": {"step": "dates"},
            "text": {"step": "text_vector"},
            "category": {"step": "onehot"},
            "image": {"step": "pixels"},
        }
        features = tuple(step for kind, step in steps.items() if kind in types)
        space: JSON = {
            "targets": {"type": "categorical", "choices": ["dr", "iw", "direct"]},
            "ridge": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
        }
        network: JSON = {"name": "cnn-small" if types == {"image"} else "mlp"}
        return [
            Recipe(
                name="means",
                task=self.name,
                learner="bandit",
                features=features,
                params={"reward": "constant", "targets": "direct"},
                baseline=True,
            ),
            Recipe(
                name="linear",
                task=self.name,
                learner="bandit",
                features=features,
                params={"reward": "linear"},
                space=space,
                baseline=True,
            ),
            Recipe(
                name="network",
                task=self.name,
                learner="bandit",
                features=features,
                network=network,
                params={"reward": "network"},
                space={**space, "learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True}},
            ),
        ]

    def answer(self, signature: Signature) -> dict[str, Any]:
        """The actions; the project's settings add how it chooses between them."""
        return {"kind": "choice", "labels": list(signature.labels)}

    def label(self, feedback: Feedback, prediction: Prediction) -> float | None:
        """The reward that a reward or a rating states."""
        return float(feedback.value) if feedback.kind in REWARD_KINDS else None

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Stories that were shown blindly to readers of an age, in the morning or evening, and whether they clicked."""
        rng = np.random.default_rng(seed)
        age = rng.integers(15, 80, rows)
        evening = rng.random(rows) < 0.5
        shown = rng.integers(0, len(TOPICS), rows)
        liked = np.where(age < 35, 1, np.where(evening, 2, 0))
        clicks = rng.random(rows) < np.where(shown == liked, 0.8, 0.1)
        return [
            {
                "age": int(age[row]),
                "time": "evening" if evening[row] else "morning",
                "action": TOPICS[shown[row]],
                "propensity": round(1 / len(TOPICS), 6),
                "label": float(clicks[row]),
            }
            for row in range(rows)
        ]


def _field(column: ColumnSummary) -> Field:
    if column.name in LOGGED:
        kind: FieldType = "number" if column.name == PROPENSITY else "text"  # an action may be called "none"
        return Field(name=column.name, type=kind, optional=True, role="log")
    if column.name in (OFFER, SLATE):
        return Field(name=column.name, type="text", optional=True, role="offer")
    role: Role = "action" if column.name.startswith(FEATURE) else "input"
    optional = column.missing > 0 or role == "action"
    return Field(name=column.name, type=column.type, shape=column.shape, optional=optional, role=role)
