"""Recipes that several tasks offer."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.data.schema import Signature
from tidemill.records import JSON, Recipe

PIXELS = ({"step": "pixels"},)
TOKENS = ({"step": "bpe"},)
_MOST_NGRAMS = 300_000  # of words, and as many of characters
_MOST_NUMBERS = 1 << 25


def closed_form_baselines(task: str, naive_bayes: Sequence[JSON], ridge: Sequence[JSON]) -> list[Recipe]:
    """Naive Bayes and ridge least squares, each on its own features: seconds, whatever the data."""
    return [
        Recipe(
            name=method,
            task=task,
            learner="closed_form",
            features=tuple(features),
            params={"method": method},
            baseline=True,
        )
        for method, features in (("naive-bayes", naive_bayes), ("ridge", ridge))
    ]


def ridge_baseline(task: str, features: Sequence[JSON]) -> Recipe:
    """Ridge least squares alone: the baseline where there are no classes for naive Bayes."""
    return Recipe(
        name="ridge",
        task=task,
        learner="closed_form",
        features=tuple(features),
        params={"method": "ridge"},
        baseline=True,
    )


def image_networks(task: str) -> list[Recipe]:
    """The textbook convolutional network, and a faster, better one."""
    return [
        Recipe(
            name="cnn-small",
            task=task,
            learner="gradient",
            features=PIXELS,
            network={"name": "cnn-small"},
            space={"learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True}},
        ),
        Recipe(
            name="cnn",
            task=task,
            learner="gradient",
            features=PIXELS,
            network={"name": "cnn"},
            space={
                "learning_rate": {"type": "float", "low": 1e-3, "high": 5e-2, "log": True},
                "weight_decay": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            },
        ),
    ]


def text_recipes(task: str, signature: Signature) -> list[Recipe]:
    """Two closed-form baselines on n-grams, a linear model, an embedding of n-grams, and a small Transformer.

    A linear model holds a number for every n-gram and label, so many labels have fewer n-grams.
    """
    most = max(10_000, min(_MOST_NGRAMS, _MOST_NUMBERS // max(1, len(signature.labels))))
    ngrams: tuple[JSON, ...] = ({"step": "ngrams", "max_features": most},)
    return [
        *closed_form_baselines(task, ngrams, ngrams),
        Recipe(
            name="linear",
            task=task,
            learner="linear",
            features=ngrams,
            space={
                "C": {"type": "float", "low": 0.02, "high": 1.0, "log": True},
                "floor": {"type": "float", "low": 0.05, "high": 1.0, "log": True},
            },
        ),
        Recipe(
            name="ngram-net",
            task=task,
            learner="gradient",
            features=ngrams,
            network={"name": "ngram"},
            space={"learning_rate": {"type": "float", "low": 1e-3, "high": 5e-2, "log": True}},
        ),
        Recipe(
            name="transformer",
            task=task,
            learner="gradient",
            features=TOKENS,
            network={"name": "transformer"},
            space={"learning_rate": {"type": "float", "low": 1e-4, "high": 3e-3, "log": True}},
        ),
    ]
