"""Devices that run out of memory: what says so, how it is given back, and what is said where nothing can be halved."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tidemill.errors import TrainingError

_NO_MEMORY = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What the errors of the CPU's allocator and of cuBLAS say, which have no class of their own."""
_NO_CODE = "could not create a primitive"
"""What oneDNN says when it has no memory for the code of an operation that it has just agreed to."""


def out_of_memory(error: BaseException) -> bool:
    """Whether *error* says that a device, or the machine, has not enough memory for what was asked of it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return said == _NO_CODE or any(words in said for words in _NO_MEMORY)


def given_back(device: torch.device) -> None:
    """Give memory that nothing needs any more back to *device*, so that smaller pieces find a place."""
    gc.collect(1)  # the step that failed is young; a look at everything takes 0.2 s
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def memory_told(what: str) -> Iterator[None]:
    """Say in plain words when there is too little memory for what cannot be done in smaller pieces.

    Raises:
        TrainingError: there is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"there is too little memory for {what}",
            where=(str(error).splitlines() or ["memory"])[0][:160],
            mend="Use a smaller network, or end what else uses the device.",
        ) from error
