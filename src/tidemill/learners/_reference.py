"""A user's own code, found by reference."""

from __future__ import annotations

import importlib
from typing import Any

from tidemill.errors import TrainingError
from tidemill.networks.faults import fault, run_file

_MEND = "Give ref as FILE.py:NAME or MODULE:NAME, where NAME is a class or a function that returns an estimator."


def resolve(ref: str) -> Any:
    """What ``FILE.py:NAME`` or ``MODULE:NAME`` names, for example ``sklearn.ensemble:RandomForestClassifier``.

    Raises:
        TrainingError: there is no such file, module or name, or it fails while it is imported.

    >>> resolve("sklearn.naive_bayes:GaussianNB").__name__
    'GaussianNB'
    """
    place, _, name = ref.rpartition(":")
    where = f"ref {ref!r}"
    if place.endswith(".py"):
        module = run_file(place, where, _MEND)
    else:
        try:
            module = importlib.import_module(place)
        except (ImportError, ValueError) as error:
            raise TrainingError(f"there is no module {place!r} ({error})", where=where, mend=_MEND) from error
        except Exception as error:  # of somebody else's code: anything
            raise fault(error, ref, f"{place} cannot be imported", _MEND) from error
    if not hasattr(module, name):
        raise TrainingError(f"{place} has no {name!r}", where=where, mend=_MEND)
    return getattr(module, name)
