"""A user's own code, found by reference."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from tidemill.errors import TrainingError

_MEND = "Give ref as FILE.py:NAME or MODULE:NAME, where NAME is a class or a function that returns an estimator."


def resolve(ref: str) -> Any:
    """What ``FILE.py:NAME`` or ``MODULE:NAME`` names, for example ``sklearn.ensemble:RandomForestClassifier``.

    Raises:
        TrainingError: there is no such file, module or name.

    >>> resolve("sklearn.naive_bayes:GaussianNB").__name__
    'GaussianNB'
    """
    place, _, name = ref.rpartition(":")
    where = f"ref {ref!r}"
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise TrainingError(f"there is no file {place}", where=where, mend=_MEND)
        spec = importlib.util.spec_from_file_location(f"tidemill_user_{Path(place).stem}", place)
        if spec is None or spec.loader is None:
            raise TrainingError(f"{place} is not a Python file", where=where, mend=_MEND)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(place)
        except (ImportError, ValueError) as error:
            raise TrainingError(f"there is no module {place!r} ({error})", where=where, mend=_MEND) from error
    if not hasattr(module, name):
        raise TrainingError(f"{place} has no {name!r}", where=where, mend=_MEND)
    return getattr(module, name)
