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
        network(task, "cnn-small", PIXELS, learning_rate=(3e-4, 1e-2)),
        network(
            task,
            "cnn",
            PIXELS,
            learning_rate=(1e-3, 5e-2),
            weight_decay=(1e-4, 1e-1),
            label_smoothing=[0.0, 0.1],
            dropout=[0.0, 0.2],
            randaugment=[0.0, 0.2, 0.5],
            mixup=[0.0, 0.2],
            cutmix=[0.0, 1.0],
        ),
    ]


def text_recipes(task: str, signature: Signature) -> list[Recipe]:
    """Two closed-form baselines on n-grams, a linear model, an embedding of n-grams, and a small Transformer.

    A linear model holds a number for every n-gram and label, so many labels have fewer n-grams.
    """
    most = max(10_000, min(_MOST_NGRAMS, _MOST_NUMBERS // max(1, len(signature.labels))))
    ngrams: tuple[JSON, ...] = ({"step": "ngrams", "max_features": most},)
    linear = Recipe(
        name="linear", task=task, learner="linear", features=ngrams, space=_powers(C=(0.02, 1.0), floor=(0.05, 1.0))
    )
    return [
        *closed_form_baselines(task, ngrams, ngrams),
        linear,
        network(task, "ngram-net", ngrams, named="ngram", learning_rate=(1e-3, 5e-2), dropout=[0.0, 0.3, 0.5]),
        network(
            task,
            "transformer",
            TOKENS,
            learning_rate=(1e-4, 3e-3),
            dropout=[0.1, 0.3],
            token_dropout=[0.0, 0.1, 0.2],
            token_swap=[0.0, 0.1],
        ),
    ]


def network(
    task: str,
    name: str,
    features: Sequence[JSON],
    *,
    named: str | None = None,
    **space: tuple[float, float] | list[float],
) -> Recipe:
    """A network by its name (or *named* so), with what is searched: a range on a log scale, or a list of choices."""
    ranges = {key: values for key, values in space.items() if isinstance(values, tuple)}
    choices = {key: values for key, values in space.items() if isinstance(values, list)}
    return Recipe(
        name=name,
        task=task,
        learner="gradient",
        features=tuple(features),
        network={"name": named or name},
        space=_powers(**ranges) | {key: {"type": "categorical", "choices": list(v)} for key, v in choices.items()},
    )


def _powers(**space: tuple[float, float]) -> JSON:
    return {name: {"type": "float", "low": low, "high": high, "log": True} for name, (low, high) in space.items()}
