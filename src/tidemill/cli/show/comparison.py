"""Models side by side: means of per-row scores, of which larger is always better, as the metrics that people know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.cli.show import units


def score(mean: float | None, name: str) -> str:
    """A mean of row scores as its metric: errors, which scores negate, without their sign.

    >>> score(0.914, "accuracy"), score(-1.25, "mae"), score(None, "r2")
    ('91.4 %', '1.2500', '–')
    """
    return units.quality(-mean if mean is not None and units.smaller_is_better(name) else mean, name)


def unseen_columns(names: Sequence[str]) -> list[str]:
    """The heads of the columns that :func:`unseen` fills.

    >>> unseen_columns(["accuracy", "log_loss"])
    ['>validation accuracy ↑', '>log-loss ↓']
    """
    return [f">{'' if place else 'validation '}{units.metric_column(name)}" for place, name in enumerate(names)]


def unseen(metrics: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What a model did on rows that it had not learned from; of a refit, on those that each fold left out.

    >>> unseen({"validation": {"accuracy": 0.9}}, ["accuracy"]), unseen({"out_of_fold": {"r2": 0.5}}, ["r2"])
    (['90.0 %'], ['0.5000 (folds)'])
    """
    held_out = metrics.get("validation") or {}
    folds = metrics.get("out_of_fold") or {}
    return [
        f"{score(folds[name], name)} (folds)"
        if name in folds and name not in held_out
        else score(held_out.get(name), name)
        for name in names
    ]
