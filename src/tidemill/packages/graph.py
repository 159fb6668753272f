"""Opening an ONNX graph under the house's rules: few threads, no spinning, nothing from outside the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from tidemill.errors import PackageError
from tidemill.features._base import FeatureInfo

_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(uint8)": "uint8"}

# one of these classes each; the module they live in is private to onnxruntime
_REFUSALS = (
    RuntimeError,
    *(
        getattr(ort.capi.onnxruntime_pybind11_state, name)
        for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    ),
)


def open_graph(graph: bytes, info: Mapping[str, FeatureInfo], *, threads: int = 1, where: str = "model.onnx") -> Any:
    """An ``onnxruntime.InferenceSession`` over *graph*.

    Args:
        graph: the serialised model. It is given as bytes, not as a path, so that it cannot draw in other files.
        info: the features it may ask for.
        threads: threads within one operator. Idle ones sleep instead of spinning, so that neighbours can work.
        where: what an error names.

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
    except _REFUSALS as error:
        raise PackageError(
            f"onnxruntime cannot open the graph ({str(error).splitlines()[0][:200]})",
            where=where,
            mend="Export the model again.",
        ) from error
    for node in session.get_inputs():
        wanted = info.get(node.name)
        if wanted is None or _TYPES.get(node.type) != wanted.dtype:
            offered = ", ".join(f"{name} ({item.dtype})" for name, item in info.items())
            raise PackageError(
                f"the graph asks for {node.name} as {node.type}, and the features are {offered}",
                where=where,
                mend="Export the model again.",
            )
    if [node.name for node in session.get_outputs()] != ["scores"]:
        raise PackageError("the graph has no single output 'scores'", where=where, mend="Export the model again.")
    return session
