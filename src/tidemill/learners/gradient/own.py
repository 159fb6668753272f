"""A user's own network while it trains and answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from tidemill.errors import TidemillError
from tidemill.features._memory import out_of_memory
from tidemill.networks.faults import fault
from tidemill.networks.user import ref_of


@contextlib.contextmanager
def faults_told(network: nn.Module) -> Iterator[None]:
    """Say in plain words what a user's own network raises; what says that memory is short, and all else, passes.

    Raises:
        TrainingError: it raised something.
    """
    try:
        yield
    except TidemillError:
        raise
    except Exception as error:  # of somebody else's code: anything
        ref = ref_of(network)
        if ref is None or out_of_memory(error):
            raise
        raise fault(error, ref, f"the network {ref.rpartition(':')[2]!r} failed") from error
