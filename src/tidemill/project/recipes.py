"""Recipes of the project's own: a scikit-learn estimator or an ``nn.Module`` in ten lines.

>>> from sklearn.ensemble import ExtraTreesClassifier
>>> @recipe("extra-trees", learner="sklearn", features=[{"step": "numbers"}])
... def extra_trees():
...     return ExtraTreesClassifier(n_estimators=50, random_state=0)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tidemill.config import Config
from tidemill.errors import ConfigError
from tidemill.records import JSON, Recipe
from tidemill.tasks import Task, load_file

Factory = TypeVar("Factory", bound=Callable[..., Any])
_MARK = "__tidemill_recipe__"


def recipe(
    name: str,
    *,
    learner: str,
    features: Sequence[JSON],
    space: JSON | None = None,
    network: JSON | None = None,
    init: JSON | None = None,
    **params: Any,
) -> Callable[[Factory], Factory]:
    """Offer a function or class of ``recipes.py`` as a recipe.

    Args:
        name: unique in the project.
        learner: ``sklearn`` for a factory of a scikit-learn estimator, ``gradient`` for one of an ``nn.Module``. The
            module's ``forward`` takes the features by keyword and returns logits ``[n, classes]``; its factory may name
            ``info`` and ``classes`` as arguments.
        features: the steps of its feature pipeline, for example ``[{"step": "pixels"}]``.
        space: its search space, as in :class:`tidemill.records.Recipe`.
        network: one of the shipped networks, such as ``{"name": "cnn"}``, instead of what the function would make.
        init: ``{"model": ID}``: a model of the project whose weights and features its networks start from.
        params: defaults of the learner's parameters, for example ``epochs=5``.
    """

    def mark(factory: Factory) -> Factory:
        setattr(factory, _MARK, (name, learner, tuple(features), space or {}, network, init, params))
        return factory

    return mark


def load_recipes(files: Sequence[Path], task: Task) -> list[Recipe]:
    """The recipes that the project's files offer, in the order of the files and of definition.

    Raises:
        ConfigError: a file cannot be imported.
    """
    found: list[Recipe] = []
    for file in files:
        module = load_file(file)
        for attribute, member in vars(module).items():
            mark = getattr(member, _MARK, None)
            if mark is None or inspect.getmodule(member) not in (module, None):
                continue
            name, learner, features, space, network, init, params = mark
            ref = f"{file.resolve()}:{attribute}"
            found.append(
                Recipe(
                    name=name,
                    task=task.name,
                    learner=learner,
                    features=features,
                    network=network or {"name": "module", "ref": ref},
                    params=params,
                    space=space,
                    init=init,
                    origin="user",
                )
            )
    return found


def chosen_recipes(offered: Sequence[Recipe], config: Config, withheld: Sequence[str] = ()) -> tuple[Recipe, ...]:
    """The recipes that a cycle tries: baselines always, the others as ``recipes`` in ``tidemill.yaml`` says.

    Args:
        withheld: names that may be meant though nobody offers them now.

    Raises:
        ConfigError: it names a recipe that nobody offers, or two recipes share a name.
    """
    names = [r.name for r in offered]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"two recipes are named {twice[0]!r}", mend="Rename the one in your recipes file.")
    wanted = config.recipes.include
    for name in (*(wanted or ()), *config.recipes.exclude):
        if name not in (*names, *withheld):
            raise ConfigError(
                f"there is no recipe {name!r}",
                where="tidemill.yaml, recipes",
                mend=f"Known recipes: {', '.join(names)}.",
            )
    return tuple(
        r
        for r in offered
        if r.baseline or ((wanted is None or r.name in wanted) and r.name not in config.recipes.exclude)
    )
