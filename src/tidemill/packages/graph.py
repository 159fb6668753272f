"""Opening an ONNX graph under the house's rules: few threads, no spinning, nothing from outside the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tidemill.errors import PackageError
from tidemill.features._base import Feature, FeatureInfo, Features, Sparse

_TYPES = {
    "tensor(float)": "float32",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}

_PARTS: dict[str, tuple[str, Callable[[Sparse], npt.NDArray[Any]]]] = {
    "": ("int64", lambda rows: rows.indices.astype(np.int64)),
    "_values": ("float32", lambda rows: np.ascontiguousarray(rows.values)),
    "_rows": ("int64", Sparse.rows),
    "_offsets": ("int64", lambda rows: np.ascontiguousarray(rows.offsets[:-1])),
}
"""What a graph reads of a sparse feature: the suffix of the input's name, its dtype, and the array.

Indices ``[nnz]``, values ``[nnz]``, the row of each value ``[nnz]``, and where each row starts ``[n]``.
"""

# what onnxruntime raises, each of a class of its own; the module they live in is private to onnxruntime
REFUSALS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,  # what it says is no UTF-8
    *(
        getattr(ort.capi.onnxruntime_pybind11_state, name)
        for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    ),
)


def open_graph(
    graph: bytes,
    info: Mapping[str, FeatureInfo],
    *,
    threads: int = 1,
    where: str = "model.onnx",
    outputs: Sequence[str] = ("scores",),
) -> Any:
    """An ``onnxruntime.InferenceSession`` over *graph*.

    Args:
        graph: the serialised model. It is given as bytes, not as a path, so that it cannot draw in other files.
        info: the features it may ask for.
        threads: threads within one operator. Idle ones sleep instead of spinning, so that neighbours can work.
        where: what an error names.
        outputs: what it gives.

    Raises:
        PackageError: it is no graph, or its inputs and output are not as :class:`tidemill.learners._base.Export` says.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise PackageError(
            f"onnxruntime cannot open the graph ({str(error).splitlines()[0][:200]})",
            where=where,
            mend="Export the model again.",
        ) from error
    inputs = input_types(info)
    for node in session.get_inputs():
        wanted = inputs.get(node.name)
        if wanted is None or _TYPES.get(node.type) != wanted:
            offered = ", ".join(f"{name} ({dtype})" for name, dtype in inputs.items())
            raise PackageError(
                f"the graph asks for {node.name} as {node.type}, and the features are {offered}",
                where=where,
                mend="Export the model again.",
            )
    if [node.name for node in session.get_outputs()] != list(outputs):
        said = "no single output 'scores'" if len(outputs) == 1 else f"other outputs than {', '.join(outputs)}"
        raise PackageError(f"the graph has {said}", where=where, mend="Export the model again.")
    return session


def input_types(info: Mapping[str, FeatureInfo]) -> dict[str, str]:
    """The inputs that a graph over these features may have, with their dtypes.

    A sparse feature ``NAME`` is up to four: ``NAME``, ``NAME_values``, ``NAME_rows`` and ``NAME_offsets``.

    >>> list(input_types({"x": FeatureInfo("float32", (3,)), "ngrams": FeatureInfo("sparse", (9,))}))
    ['x', 'ngrams', 'ngrams_values', 'ngrams_rows', 'ngrams_offsets']
    """
    types = {}
    for name, item in info.items():
        if item.dtype == "sparse":
            types.update({name + suffix: dtype for suffix, (dtype, _) in _PARTS.items()})
        else:
            types[name] = item.dtype
    return types


def tensors(features: Features, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays that a graph's inputs called *names* read from *features*.

    Raises:
        KeyError: there is no such feature.
    """
    return {name: _tensor(features, name) for name in names}


def _tensor(features: Features, name: str) -> npt.NDArray[Any]:
    feature: Feature | None = features.get(name)
    if isinstance(feature, np.ndarray):
        return feature
    stem, _, suffix = name.rpartition("_")
    for whole, part in ((name, ""), (stem, f"_{suffix}")):
        rows = features.get(whole)
        if isinstance(rows, Sparse) and part in _PARTS:
            return _PARTS[part][1](rows)
    raise KeyError(name)
