"""Made-up rows, answers and statements of a project: what its page shows to be tried out.

They come from the signature alone, never from the data: who may ask a model need not see what it learned from.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from tidemill.data.images import encode_png
from tidemill.data.schema import Field, Signature

_ID = "pred_01m85cb0e5w8g3p7t1z6y2v4kq9x2f7a"


def row(signature: Signature) -> dict[str, Any]:
    """A row that the model takes.

    >>> fields = (Field(name="age", type="number"), Field(name="born", type="date"), Field(name="note", type="text"))
    >>> row(Signature(inputs=fields, target="y", kind="regression"))
    {'age': 1.5, 'born': '2026-01-31', 'note': 'A text to be read.'}
    """
    return {field.name: _value(field) for field in signature.asked if field.role == "input"}


def _value(field: Field) -> Any:
    if field.type == "image":
        png = encode_png(np.full(field.shape or (1, 1, 1), 128, np.uint8))
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"number": 1.5, "date": "2026-01-31", "text": "A text to be read."}.get(field.type, "a value")


def tensors(signature: Signature) -> list[dict[str, Any]]:
    """The same row as tensors.

    >>> tensors(Signature(inputs=(Field(name="age", type="number"),), target="y", kind="regression"))
    [{'name': 'age', 'shape': [1], 'datatype': 'FP64', 'data': [1.5]}]
    """
    kinds = {f.name: "FP64" if f.type == "number" else "BYTES" for f in signature.inputs}
    return [{"name": n, "shape": [1], "datatype": kinds[n], "data": [v]} for n, v in row(signature).items()]


def answered(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What such a row could be answered, in the form that the spec gives to answers."""
    return {
        "model": "model_01m85c7w6nq3t2v9f0y4k8x1ze",
        "deployment": "deploy_01m85c7xq2r6b1n5s9d3h7j0mk",
        "predictions": [{"id": _ID, **_answer(spec), "audit": False}],
    }


def _answer(spec: Mapping[str, Any]) -> dict[str, Any]:
    labels = list(spec.get("labels", ()))
    if spec["kind"] == "choice":
        even = {name: round(1 / max(1, len(labels)), 3) for name in labels}
        return {"action": labels[0], "propensity": even[labels[0]], "propensities": even, "expected": even}
    if spec["kind"] == "regression":
        if spec.get("interval") is None:
            return {"value": 3.2}
        return {"value": 3.2, "interval": [2.6, 4.1], "level": spec["interval"]["level"]}
    if spec["kind"] == "multilabel":
        return {"labels": labels[:1], "scores": {name: 0.1 if place else 0.9 for place, name in enumerate(labels)}}
    rest = 0.25 / max(1, len(labels) - 1)
    scores = {name: round(rest, 3) if place else 0.75 for place, name in enumerate(labels)}
    return {"label": labels[0], "score": 0.75, "scores": scores}


def stated(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A correction of such an answer.

    >>> stated({"kind": "multilabel", "labels": ["a", "b", "c"]})["value"]
    ['a', 'b']
    """
    labels = list(spec.get("labels", ()))
    if spec["kind"] == "choice":
        return {"prediction": _ID, "kind": "reward", "value": spec.get("rewards", [0, 1])[1], "author": "ada"}
    value = {"regression": 3.5, "multilabel": labels[:2], "classification": labels[-1] if labels else ""}[spec["kind"]]
    return {"prediction": _ID, "kind": "correction", "value": value, "author": "ada"}
