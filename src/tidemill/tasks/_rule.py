"""What a project's ``decision`` makes of its task: the metric that judges, and the answer spec that models carry."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.config import Bandit, Config, DecisionRule, parse_duration
from tidemill.data.schema import Signature
from tidemill.data.spelling import label_form
from tidemill.errors import ConfigError
from tidemill.tasks._base import Task


def metric_of(task: Task, rule: DecisionRule) -> str:
    """What the gate judges: the task's metric, or the utility where wrong answers or silence have a price."""
    return "utility" if rule.costs or rule.abstain_cost is not None else task.metric


def selection_of(task: Task, rule: DecisionRule) -> str:
    """What tuning maximises and recipes are chosen by: the task's selection, or the utility likewise."""
    metric = metric_of(task, rule)
    return task.selection if metric == task.metric else metric


def answer_spec(task: Task, signature: Signature, config: Config) -> dict[str, Any]:
    """The task's answer spec with the project's costs, abstention and level of intervals, or its policy of choices.

    Raises:
        ConfigError: the rule names a label that there is not, or does not fit the kind of task.
    """
    spec, rule = task.answer(signature), config.decision
    if signature.kind == "regression":
        spec["interval"] = {"level": rule.level, "offset": 0.0}
    asked = [key for key in ("costs", "abstain_cost", "min_precision") if getattr(rule, key)]
    if asked and signature.kind != "classification":
        raise ConfigError(
            f"{' and '.join(asked)} can be set where one of several labels is answered, and {task.name} "
            f"answers {_ANSWERED[signature.kind]}",
            where="tidemill.yaml, decision",
            mend="Remove them.",
        )
    if signature.kind == "choice":
        spec |= choice_spec(config.bandit)
    if rule.abstain_cost is not None and rule.min_precision is not None:
        raise ConfigError(
            "abstain_cost and min_precision are two rules for the same decision",
            where="tidemill.yaml, decision",
            mend="Keep one of them.",
        )
    if rule.costs or rule.abstain_cost is not None:
        spec["costs"] = cost_matrix(rule, signature.labels)
    if rule.abstain_cost is not None:
        spec["abstain_cost"] = rule.abstain_cost
    if rule.min_precision is not None:
        spec["min_precision"] = rule.min_precision
    return spec


_ANSWERED = {"regression": "numbers", "multilabel": "any number of labels", "choice": "actions and learns rewards"}


def choice_spec(bandit: Bandit) -> dict[str, Any]:
    """How a project's models choose, as their answer spec carries it."""
    policy = {"name": bandit.policy}
    policy |= {name: getattr(bandit, name) for name in ("floor", "epsilon", "alpha", "scale", "temperature")}
    horizon = None if bandit.horizon is None else parse_duration(bandit.horizon)
    return {"policy": policy, "rewards": list(bandit.rewards), "reach": bandit.reach, "horizon": horizon}


def stated_spec(task: Task, signature: Signature, config: Config) -> dict[str, Any]:
    """What people's statements are checked against where no model is at hand."""
    return task.answer(signature) | (choice_spec(config.bandit) if signature.kind == "choice" else {})


def cost_matrix(rule: DecisionRule, labels: Sequence[str]) -> list[list[float]]:
    """What each answer (column) costs where each label (row) is true; right answers cost nothing.

    A label may be written in another variant than the data's most frequent one, as it may in the data.

    Raises:
        ConfigError: a label in the costs is not one of *labels*, a right answer has a cost, or all costs are 0.

    >>> cost_matrix(DecisionRule(costs={"spam": {"ham": 0.2}}), ("Ham.", "spam"))
    [[0.0, 1.0], [0.2, 0.0]]
    """
    place = {label: code for code, label in enumerate(labels)}
    matrix = [[float(row != column) for column in range(len(labels))] for row in range(len(labels))]
    for true, answers in rule.costs.items():
        where = f"tidemill.yaml, decision.costs.{true}"
        row = _place(true, place, where)
        for answered, cost in answers.items():
            column = _place(answered, place, where)
            if row == column and cost:
                mend = "Give only the costs of other answers."
                raise ConfigError(f"the right answer {true!r} has a cost", where=where, mend=mend)
            matrix[row][column] = cost
    if not any(any(row) for row in matrix):
        raise ConfigError("every answer costs 0", where="tidemill.yaml, decision.costs", mend="Let one cost more.")
    return matrix


def _place(label: str, place: Mapping[str, int], where: str) -> int:
    """The code of a label, or of the only one that is a variant of it."""
    variants = [known for known in place if label_form(known) == label_form(label)]
    if label in place or len(variants) == 1:
        return place[label] if label in place else place[variants[0]]
    near = difflib.get_close_matches(label, list(place), 1)
    mend = f"Did you mean {near[0]!r}?" if near else f"The labels are {', '.join(list(place)[:20])}."
    raise ConfigError(f"there is no label {label!r}", where=where, mend=mend)
