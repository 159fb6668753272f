"""A user's own ``nn.Module``, found by file and name."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo


def load_module(*, ref: str, info: Mapping[str, FeatureInfo], classes: int, **arguments: Any) -> nn.Module:
    """The module that a factory in a user's file makes.

    Args:
        ref: ``FILE.py:NAME``; NAME is a function or a class. It is called with those of ``info`` and ``classes``
            that it names, and with *arguments*.
        info: the features that the module's ``forward`` will be given by keyword.
        classes: how many logits it must return.
        arguments: the other keys of the recipe's network.

    Raises:
        TrainingError: the file or the name is not there, or what it makes is no ``nn.Module``.
    """
    path, _, name = ref.rpartition(":")
    mend = "Give ref as FILE.py:NAME, where NAME is a function or class that returns an nn.Module."
    if not path or not Path(path).is_file():
        raise TrainingError(f"there is no file {path!r}", where=f"network ref {ref!r}", mend=mend)
    spec = importlib.util.spec_from_file_location(f"tidemill_user_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise TrainingError(f"{path} is not a Python file", where=f"network ref {ref!r}", mend=mend)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise TrainingError(f"{path} has no function or class {name!r}", where=f"network ref {ref!r}", mend=mend)
    offered = {"info": info, "classes": classes}
    named = inspect.signature(factory).parameters
    network = factory(**{k: v for k, v in offered.items() if k in named}, **arguments)
    if not isinstance(network, nn.Module):
        raise TrainingError(f"{ref} made a {type(network).__name__}, not an nn.Module", where="network", mend=mend)
    return network
