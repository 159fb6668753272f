"""What the tabular tasks share: the fields of a table, and the features of each kind of learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.data.schema import Field, Signature
from tidemill.data.sources import ColumnSummary, Summary
from tidemill.errors import SourceError
from tidemill.records import JSON, Recipe
from tidemill.tasks._recipes import network

MANY_LABELS = 50
"""A target of numbers with more distinct values than this is taken for a quantity, not for classes."""

TREE_SPACE: JSON = {
    "learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True},
    "num_leaves": {"type": "int", "low": 7, "high": 255, "log": True},
    "min_child_samples": {"type": "int", "low": 5, "high": 100, "log": True},
    "colsample_bytree": {"type": "float", "low": 0.4, "high": 1.0},
    "reg_lambda": {"type": "float", "low": 1e-3, "high": 10.0, "log": True},
}


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """Feature steps by what a learner can read.

    Attributes:
        coded: standardised numbers, with categories as codes.
        onehot: the same with a column a category, for linear models.
        raw: numbers as they are, missing ones too, for trees.
    """

    coded: tuple[JSON, ...]
    onehot: tuple[JSON, ...]
    raw: tuple[JSON, ...]


def quantity(column: ColumnSummary) -> bool:
    """Whether a target is a number to predict, not a class."""
    return column.type == "number" and (not column.integers or column.distinct > MANY_LABELS)


def table(source: Summary, target: str) -> bool:
    """Whether there is a column besides the target, and none of images."""
    columns = [c for c in source.columns if c.name != target]
    return bool(columns) and all(c.type != "image" for c in columns)


def table_fields(source: Summary, target: str) -> tuple[Field, ...]:
    """Every column but the target.

    Raises:
        SourceError: there is none.
    """
    columns = [c for c in source.columns if c.name != target]
    if not columns:
        raise SourceError(
            f"there is no column besides the target {target!r}", mend="Give a table with at least one input column."
        )
    return tuple(Field(name=c.name, type=c.type, optional=c.missing > 0) for c in columns)


def table_features(signature: Signature) -> TableFeatures:
    """The steps that read these inputs."""
    types = {f.type for f in signature.inputs}

    def steps(*wanted: tuple[str, JSON]) -> tuple[JSON, ...]:
        return tuple(step for kind, step in wanted if kind in types)

    dates: tuple[str, JSON] = ("date", {"step": "dates"})
    texts: tuple[str, JSON] = ("text", {"step": "text_vector"})
    codes: tuple[str, JSON] = ("category", {"step": "categories"})
    return TableFeatures(
        coded=steps(("number", {"step": "numbers"}), dates, texts, codes),
        onehot=steps(("number", {"step": "numbers"}), dates, texts, ("category", {"step": "onehot"})),
        raw=steps(("number", {"step": "numbers", "raw": True}), dates, texts, codes),
    )


def table_learners(task: str, features: TableFeatures) -> Sequence[Recipe]:
    """Boosted trees, and a network with embedded categories."""
    return (
        Recipe(name="lightgbm", task=task, learner="trees", features=features.raw, space=TREE_SPACE),
        network(
            task,
            "mlp",
            features.coded,
            learning_rate=(3e-4, 1e-2),
            weight_decay=(1e-4, 1e-1),
            dropout=[0.0, 0.1, 0.3],
            noise=[0.0, 0.05],
            mixup=[0.0, 0.2],
        ),
    )
