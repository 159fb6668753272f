"""A user's own ``nn.Module``, found by file and name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from tidemill.errors import TidemillError, TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Scaled
from tidemill.networks.faults import fault, run_file

_REF = "_tidemill_ref"  # an attribute, so that copies keep it


def load_module(*, ref: str, info: Mapping[str, FeatureInfo], classes: int, **arguments: Any) -> nn.Module:
    """The module that a factory in a user's file makes.

    Args:
        ref: ``FILE.py:NAME``; NAME is a function or a class. It is called with those of ``info`` and ``classes``
            that it names, and with *arguments*.
        info: the features that the module's ``forward`` will be given by keyword.
        classes: how many logits it must return.
        arguments: the other keys of the recipe's network.

    Raises:
        TrainingError: the file or the name is not there, its code raises something, or what it makes is no
            ``nn.Module``.
        TypeError: it does not take the arguments.
    """
    path, _, name = ref.rpartition(":")
    where = f"network ref {ref!r}"
    mend = "Give ref as FILE.py:NAME, where NAME is a function or class that returns an nn.Module."
    factory = getattr(run_file(path, where, mend), name, None)
    if not callable(factory):
        raise TrainingError(f"{path} has no function or class {name!r}", where=where, mend=mend)
    offered = {"info": info, "classes": classes}
    signature = inspect.signature(factory)
    given = {**{k: v for k, v in offered.items() if k in signature.parameters}, **arguments}
    signature.bind(**given)
    try:
        network = factory(**given)
    except TidemillError:
        raise
    except Exception as error:  # of somebody else's code: anything
        raise fault(error, ref, f"{name} made no network", "Mend this code.") from error
    if not isinstance(network, nn.Module):
        raise TrainingError(f"{ref} made a {type(network).__name__}, not an nn.Module", where="network", mend=mend)
    setattr(network, _REF, ref)
    return network


def ref_of(network: nn.Module) -> str | None:
    """The ``FILE.py:NAME`` that made a network, also one whose outputs are scaled; ``None`` for one of ours."""
    body = network.network if isinstance(network, Scaled) else network
    return getattr(body, _REF, None)
