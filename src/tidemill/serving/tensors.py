"""Tensors as the Open Inference Protocol sends them: in JSON, flat or nested, or as bytes behind the JSON.

The bytes follow the protocol's binary extension: little-endian, row by row, without gaps; of texts (``BYTES``) each has
its length before it, in four bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.runtime.statements import kind_of, nearest
from tidemill.serving.requests import require_rows

NUMBERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
TEXT = "BYTES"
MOST_SIDES = 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a request.

    Attributes:
        name: of the input.
        datatype: a name of :data:`NUMBERS`, or :data:`TEXT`.
        shape: its sides.
        values: an array of that shape, or the texts in a flat list: ``str`` from JSON, ``bytes`` from behind it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | list[Any]


def read_tensors(inputs: Any, binary: memoryview, max_rows: int) -> list[Tensor]:
    """The tensors that ``inputs`` of a request describes.

    Args:
        inputs: the JSON value.
        binary: what stands behind the JSON; each byte of it must belong to a tensor.
        max_rows: that a tensor may have.

    Raises:
        InputError: one is not what it says of itself; the message names it.
        TooLargeError: one has more rows.
    """
    if not isinstance(inputs, list) or not inputs:
        what = "there are no inputs" if inputs in (None, []) else f"inputs are {kind_of(inputs)}"
        mend = 'Give {"inputs": [{"name": …, "shape": […], "datatype": …, "data": […]}, …]}.'
        raise InputError(what, where="inputs", mend=mend)
    rest = binary
    found: dict[str, Tensor] = {}
    for place, described in enumerate(inputs):
        tensor, rest = _read(described, f"inputs[{place}]", rest, max_rows)
        if tensor.name in found:
            raise InputError("the input is given twice", where=f"input {tensor.name[:200]!r}", mend="Give it once.")
        found[tensor.name] = tensor
    if rest:
        raise InputError(
            f"{len(rest)} bytes behind the JSON belong to no input",
            where="body",
            mend="Say of each binary input how many bytes it has, in its parameter binary_data_size.",
        )
    return list(found.values())


def _read(described: Any, place: str, binary: memoryview, max_rows: int) -> tuple[Tensor, memoryview]:
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        mend = 'Give {"name": …, "shape": […], "datatype": …, "data": […]}.'
        raise InputError("the input is no object with a name", where=place, mend=mend)
    name, datatype = described["name"], described.get("datatype")
    where = f"input {name[:200]!r}"
    if not isinstance(datatype, str) or (datatype not in NUMBERS and datatype != TEXT):
        hint = nearest(str(datatype)[:20].upper(), [*NUMBERS, TEXT])
        mend = f"Use one of {', '.join(NUMBERS)}, {TEXT}."
        raise InputError(f"there is no datatype {str(datatype)[:40]!r}.{hint}", where=where, mend=mend)
    shape = _shape(described.get("shape"), where)
    require_rows(shape[0], max_rows, where)
    if datatype == TEXT and math.prod(shape) != shape[0]:
        raise InputError(f"shape is {list(shape)}", where=where, mend=f"Give one text a row: [{shape[0]}].")
    parameters = described.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return Tensor(name, datatype, shape, _from_json(described.get("data"), datatype, shape, where)), binary
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary):
        raise InputError(
            f"binary_data_size is {str(size)[:40]}, and {len(binary)} bytes are left behind the JSON",
            where=where,
            mend="Send so many bytes behind the JSON; Inference-Header-Content-Length is the length of the JSON alone.",
        )
    if "data" in described:
        raise InputError("it has both data and binary_data_size", where=where, mend="Give one of them.")
    return Tensor(name, datatype, shape, _from_bytes(binary[:size], datatype, shape, where)), binary[size:]


def _shape(shape: Any, where: str) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) <= MOST_SIDES
        or not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**31 for side in shape)
    ):
        mend = f"Give one to {MOST_SIDES} whole numbers, of which the first is the number of rows."
        raise InputError(f"shape is {str(shape)[:80]}", where=where, mend=mend)
    return tuple(shape)


def _from_json(data: Any, datatype: str, shape: tuple[int, ...], where: str) -> npt.NDArray[Any] | list[Any]:
    if not isinstance(data, list):
        what = "it has no data" if data is None else f"data is {kind_of(data)}"
        raise InputError(what, where=where, mend="Give a list, flat or nested by shape.")
    if datatype == TEXT:
        texts = list(_flat(data, where))
        _require_count(len(texts), shape, where)
        if not all(isinstance(text, str) for text in texts):
            odd = next(text for text in texts if not isinstance(text, str))
            raise InputError(f"data holds {kind_of(odd)}", where=where, mend=f"Give texts, as {TEXT} says.")
        return texts
    array = _array(data, datatype, where)
    _require_count(array.size, shape, where)
    if array.ndim > 1 and array.shape != shape:
        what = f"data is nested as {list(array.shape)}, and shape is {list(shape)}"
        raise InputError(what, where=where, mend="Nest it by shape, or not at all.")
    return _converted(array, datatype, where).reshape(shape)


def _flat(data: list[Any], where: str, depth: int = 0) -> Iterator[Any]:
    if depth > MOST_SIDES:
        raise InputError("data is nested too deeply", where=where, mend="Nest it by shape, or not at all.")
    for item in data:
        if isinstance(item, list):
            yield from _flat(item, where, depth + 1)
        else:
            yield item


def _array(data: list[Any], datatype: str, where: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(data)
        if array.dtype.kind == "O" and datatype.startswith("FP"):  # where null says that there is no value
            array = np.asarray([math.nan if value is None else value for value in data])
    except (ValueError, OverflowError):
        raise InputError("data is nested unevenly", where=where, mend="Nest it by shape, or not at all.") from None
    wanted = "b" if datatype == "BOOL" else "iuf" if datatype.startswith("FP") else "iu"
    if array.size and array.dtype.kind not in wanted:
        kinds = {"b": "true or false", "f": "fractions", "U": "texts", "i": "numbers", "u": "numbers"}
        held = kinds.get(array.dtype.kind, "something else")
        raise InputError(f"data holds {held}", where=where, mend=f"Give what {datatype} says, without quotes.")
    return array


def _converted(array: npt.NDArray[Any], datatype: str, where: str) -> npt.NDArray[Any]:
    """*array* in its datatype, or a wider one where that can hold more of what arithmetic is done with."""
    dtype = NUMBERS[datatype]
    if dtype.kind in "iu" and array.size:
        limits, low, high = np.iinfo(dtype), int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            odd = low if low < limits.min else high
            mend = f"Give numbers from {limits.min} to {limits.max}, or another datatype."
            raise InputError(f"data holds {odd}, which is no {datatype}", where=where, mend=mend)
    return array.astype(np.float64 if dtype.kind == "f" else dtype, copy=False)


def _from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> npt.NDArray[Any] | list[Any]:
    if datatype == TEXT:
        return _texts(data, shape, where)
    dtype = NUMBERS[datatype]
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InputError(
            f"it has {len(data)} bytes, and {datatype} of shape {list(shape)} takes {wanted}",
            where=where,
            mend="Send each value in its datatype's own size, little-endian, row by row.",
        )
    if datatype == "BOOL":
        truths: npt.NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        return truths.reshape(shape)
    array: npt.NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(np.float32) if datatype == "FP16" else array


def _texts(data: memoryview, shape: tuple[int, ...], where: str) -> list[bytes]:
    texts: list[bytes] = []
    at, most = 0, math.prod(shape)
    while at < len(data) and len(texts) <= most:
        end = at + 4 + (_LENGTH.unpack_from(data, at)[0] if at + 4 <= len(data) else len(data))
        if end > len(data):
            mend = "Send before each text its length in four bytes, little-endian."
            raise InputError("its bytes end within a text", where=where, mend=mend)
        texts.append(bytes(data[at + 4 : end]))
        at = end
    _require_count(len(texts), shape, where)
    return texts


def _require_count(count: int, shape: tuple[int, ...], where: str) -> None:
    if count != math.prod(shape):
        what = f"it has {count} values, and its shape {list(shape)} says {math.prod(shape)}"
        raise InputError(what, where=where, mend="Give as many values as the shape says.")


@dataclass(frozen=True, slots=True)
class Output:
    """One output of an answer.

    Attributes:
        name: of the output.
        datatype: a name of :data:`NUMBERS`, or :data:`TEXT`.
        width: values a row where each row is a list of them; ``None`` where it is one value.
        labels: whose values they are, where each value is a label's.
    """

    name: str
    datatype: str
    width: int | None = None
    labels: tuple[str, ...] = ()

    def shape(self, rows: int) -> list[int]:
        """Its sides for so many rows; -1 where any number will do."""
        return [rows] if self.width is None else [rows, self.width]

    def describe(self) -> dict[str, Any]:
        """What the model's metadata says of it."""
        said: dict[str, Any] = {"name": self.name, "datatype": self.datatype, "shape": self.shape(-1)}
        return {**said, "parameters": {"labels": list(self.labels)}} if self.labels else said


def write_tensor(output: Output, values: Sequence[Any], rows: int, *, binary: bool) -> tuple[Mapping[str, Any], bytes]:
    r"""One output: its JSON, and what stands behind the JSON.

    >>> write_tensor(Output("label", "BYTES"), ["ebb"], 1, binary=True)[1]
    b'\x03\x00\x00\x00ebb'
    """
    said: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.shape(rows)}
    if not binary:
        return {**said, "data": values}, b""
    if output.datatype == TEXT:
        texts = [str(value).encode() for value in values]
        content = b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    else:
        content = np.asarray(values, NUMBERS[output.datatype]).tobytes()
    return {**said, "parameters": {"binary_data_size": len(content)}}, content
