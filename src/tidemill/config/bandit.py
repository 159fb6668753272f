"""``bandit`` in ``tidemill.yaml``: how choices are made, what their rewards are, and where logs say so."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tidemill.config._base import Duration, Float, Int, Section, Share, Text


class Bandit(Section):
    """Bandit: how a project of the task `contextual-bandit` chooses and learns."""

    policy: Literal["thompson", "linucb", "epsilon", "softmax"] = Field(
        default="thompson", description="how the service chooses by what it expects of each action"
    )
    floor: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=0.02, description="share of the choices that are made blindly, so that every action has a chance"
    )
    epsilon: Share = Field(default=0.05, description="of epsilon: share of further blind choices")
    alpha: Annotated[Float, Field(ge=0)] = Field(default=1, description="of linucb: how strongly it hopes")
    scale: Annotated[Float, Field(ge=0)] = Field(
        default=1, description="of thompson: factor of how unsure it is; 0 always takes the best"
    )
    temperature: Annotated[Float, Field(gt=0)] = Field(
        default=0.1, description="of softmax: how much less reward is e times less likely to be chosen"
    )
    rewards: tuple[Float, Float] = Field(default=(0.0, 1.0), description="the least and the greatest reward")
    horizon: Duration | None = Field(
        default=None,
        description="how long a reward may take; then the choice earned `silence`, and a later reward is refused; "
        "null: for ever, and choices without a reward teach nothing",
    )
    silence: Float = Field(default=0.0, description="what a choice earned of which nothing was heard for so long")
    action: Text | None = Field(default=None, description="the column of the chosen action; null: as it is named")
    propensity: Text | None = Field(
        default=None, description="the column of the probability of that choice; null: as it is named"
    )
    offered: Text | None = Field(
        default=None, description="the column of what was offered, names parted by | or JSON; null: everything"
    )
    action_features: tuple[Text, ...] = Field(
        default=(), description="columns that describe the chosen action, not the context"
    )
    fast: bool = Field(default=True, description="let the served policy learn from rewards between cycles")
    fast_seconds: Annotated[Float, Field(ge=0.05, le=3600)] = Field(
        default=0.25, description="seconds between two looks for rewards"
    )
    reach: Annotated[Float, Field(ge=0, le=1)] = Field(
        default=0.5,
        description="how far, as a share of the rewards' range, it may move what is expected of an action from what "
        "the gate saw",
    )
    updates: Annotated[Int, Field(ge=0)] = Field(
        default=100_000, description="rewards that it may learn from until the next cycle"
    )
    memory: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=1.0, description="what is known counts this much after each further reward; below 1 for changing worlds"
    )
    min_choices: Annotated[Float, Field(ge=1)] = Field(
        default=50,
        description="how many of a challenger's own choices logged ones must be worth for the gate to judge by them",
    )
    snapshots: Annotated[Int, Field(ge=2)] = Field(
        default=20, description="newest states of each model that are kept, beside those that deployments name"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Bandit:
        low, high = self.rewards
        if not low < high:
            raise PydanticCustomError("rewards", "rewards must be the least and the greatest, such as [0, 1]")
        if not low <= self.silence <= high:
            raise PydanticCustomError("rewards", "silence must lie within rewards")
        return self
