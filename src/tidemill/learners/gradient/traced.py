"""Graphs as ``torch.onnx.export`` traces them: for whatever has no nodes written by hand."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 18


class Unknown(Exception):  # noqa: N818 - a signal inside this folder, not an error
    """A layer that has no hand-written node, or a network that cannot be traced."""


def trace(
    network: nn.Module, example: Mapping[str, Tensor], free: Mapping[str, Mapping[int, Any]], output: str
) -> onnx.ModelProto:
    """The graph of a network, traced on *example*; some seconds.

    Args:
        network: takes the example's tensors by name.
        example: two rows or more.
        free: which axes of each input may have any length, with their ``torch.export.Dim``.
        output: what the result is called.

    Raises:
        Unknown: there is no graph.
        torch.onnx.OnnxExporterError: it cannot be converted.
    """
    with _hushed():
        program = torch.onnx.export(
            network.eval().cpu(),
            (),
            kwargs=dict(example),
            dynamic_shapes={name: dict(axes) for name, axes in free.items()},
            input_names=list(example),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise Unknown
    return program.model_proto


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """The exporter warns of its own internals, and of packages that nobody needs here."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
