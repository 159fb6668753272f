"""Where and in which number format a fit runs, and how many threads it uses while neighbours are busy."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tidemill.errors import TrainingError


def pick_device(name: str) -> torch.device:
    """The device by its name; ``auto`` is the first CUDA device where there is one, else the CPU.

    Raises:
        TrainingError: this machine, or this build of torch, does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(
            f"there is no device {name!r}", where="device", mend="Use auto, cpu, cuda or cuda:1."
        ) from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise TrainingError(
            f"there is no device {name!r} here", where="device", mend="Use cpu, or install a torch build with CUDA."
        )
    return device


def bfloat16_pays(device: torch.device, network: nn.Module) -> bool:
    """Whether convolutions in bfloat16 are faster here than in float32.

    A rule on what the hardware has, not a timing, so that the same machine always takes the same format: CPUs that
    multiply bfloat16 pairs (AVX512-BF16, AMX) ran 3×3 convolutions forward and backward 2 to 4 times as fast, while
    dense layers of tabular networks lost more in conversions than they gained. See "MNIST" in docs/benchmarks.md.
    """
    if not any(isinstance(module, nn.Conv2d) or getattr(module, "wide", False) is True for module in network.modules()):
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001


VALUES_FOR_TWO = 40_000


def useful_threads(threads: int, values: int) -> int:
    """One thread for steps so small that more do not pay, else as many as there may be.

    A rule and no timing, so that the same fit takes as many threads again. Beside other work a second thread made steps
    on fewer than 40,000 input values two to five times as slow, and steps on 100,000 a quarter faster.

    Args:
        threads: how many the fit may use.
        values: rows of a batch times values of a row.

    >>> useful_threads(2, 32 * 8 * 8), useful_threads(2, 128 * 28 * 28)
    (1, 2)
    """
    return threads if values >= VALUES_FOR_TWO else 1


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep what one step frees for the next step, on Linux with glibc; elsewhere, nothing.

    By default every activation of some hundred kilobytes is mapped afresh and unmapped again, and each of its pages
    faults once a step: a third of a convolutional network's time. What was kept goes back to the system at the end.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        libc.mallopt(M_TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)
