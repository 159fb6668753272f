"""Features as the tensors that a network's ``forward`` takes by keyword."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidemill.features._base import Feature, Features, Sparse


def token_counts(tokens: Feature) -> npt.NDArray[np.int64]:
    """How long each row is without its padding, int64 ``[n]``.

    >>> token_counts(np.array([[5, 6, 0], [0, 0, 0]]))
    array([2, 0])
    """
    filled = np.asarray(tokens) != 0
    return np.where(filled.any(axis=1), filled.shape[1] - filled[:, ::-1].argmax(axis=1), 0)


def sparse_inputs(name: str, rows: Sparse) -> dict[str, npt.NDArray[Any]]:
    """A sparse feature as a network takes it: ``NAME`` int64 ``[nnz]``, ``NAME_values`` float32 ``[nnz]`` and
    ``NAME_offsets`` int64 ``[n]``, where each row begins.
    """
    return {
        name: rows.indices.astype(np.int64),
        f"{name}_values": np.array(rows.values, np.float32),
        f"{name}_offsets": np.array(rows.offsets[:-1], np.int64),
    }


def network_inputs(features: Features, rows: slice) -> dict[str, Tensor]:
    """Some consecutive rows as a network takes them, on the CPU; tokens only as far as the longest row goes."""
    tensors: dict[str, Tensor] = {}
    for name, array in features.items():
        part = array[rows]
        if isinstance(part, Sparse):
            tensors |= {key: torch.from_numpy(value) for key, value in sparse_inputs(name, part).items()}
        elif name == "tokens":
            longest = int(token_counts(part).max(initial=1))
            tensors[name] = torch.from_numpy(np.array(part[:, :longest]))
        else:
            tensors[name] = torch.from_numpy(np.array(part))  # a copy: what is mapped read-only cannot be a tensor
    return tensors
