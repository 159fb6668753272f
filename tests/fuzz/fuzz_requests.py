"""What callers send: images, JSON, forms, tensors."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import itertools
import json
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from fuzz_base import MARK, Decoder, join, refusing, split
from PIL import Image

from tidemill.data import images
from tidemill.data.encode import encode, pixels
from tidemill.data.keys import content_keys
from tidemill.data.schema import Field, Signature
from tidemill.errors import TidemillError
from tidemill.records import Feedback, Prediction, from_json, to_json
from tidemill.runtime import Predictor, load
from tidemill.runtime.statements import parse_feedback
from tidemill.serving import bulk as bulk_door
from tidemill.serving.forms import parse_form, parse_image
from tidemill.serving.inference import parse_inference
from tidemill.serving.requests import PredictRequest, parse_json, parse_predict, require_few_pixels, require_short
from tidemill.serving.tensors import read_tensors
from tidemill.store.tables import mapping_of

ROWS, PIXELS, TEXT, LINE = 8, 100_000, 2000, 40
RELEASED = Path(__file__).resolve().parents[1] / "fixtures" / "packages" / "schema-1"
SHAPE = (8, 8, 1)
PICTURES = Signature(
    inputs=(Field(name="image", type="image", shape=SHAPE),), target="y", kind="classification", labels=("a", "b")
)
TIDES = Signature(
    inputs=(
        Field(name="size", type="number"),
        Field(name="tide", type="category", optional=True),
        Field(name="note", type="text", optional=True),
        Field(name="day", type="date", optional=True),
    ),
    target="y",
    kind="classification",
    labels=("a", "b"),
)
SPECS: tuple[dict[str, Any], ...] = (
    {"kind": "classification", "labels": ["ebb", "flood"]},
    {"kind": "multilabel", "labels": ["ebb", "flood"], "thresholds": [0.5, 0.5]},
    {"kind": "regression"},
)


@refusing
def image(data: bytes, _folder: Path) -> None:
    """As bytes, as base64, and as an address of data: the same pixels, and no more of them than allowed."""
    text = base64.b64encode(data).decode()
    try:
        shape = images.probe(data, max_pixels=PIXELS)
    except TidemillError:
        shape = None
    assert pixels(text) == 0 or shape is None or pixels(text) == shape[0] * shape[1] <= PIXELS
    whole = images.decode(data, max_pixels=PIXELS)
    assert shape is not None and sorted(whole.shape) == sorted(shape) and whole.dtype == np.uint8
    given = [
        encode(PICTURES, [{"image": value}], max_pixels=PIXELS)["image"]
        for value in (data, text, f"data:;base64,{text}")
    ]
    assert all(np.array_equal(one, given[0]) and one.shape == (1, *SHAPE) for one in given)


def files() -> Iterator[bytes]:
    """Every format and mode that Pillow writes, and a JPEG that lies on its side."""
    gradient = Image.linear_gradient("L").resize((11, 5))
    modes = {
        "PNG": "1 L LA P RGB RGBA I;16",
        "JPEG": "L RGB CMYK",
        "GIF": "L P",
        "BMP": "1 L RGB",
        "WEBP": "RGB RGBA",
        "PPM": "1 L RGB",
        "TIFF": "1 L RGB F CMYK",
    }
    for kind, mode in ((kind, mode) for kind, listed in modes.items() for mode in listed.split()):
        whole = io.BytesIO()
        (gradient.convert("I") if mode == "I;16" else gradient).convert(mode).save(whole, kind)
        yield whole.getvalue()
    whole = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient.save(whole, "JPEG", exif=exif)
    yield whole.getvalue()
    whole = io.BytesIO()
    Image.new("1", (1000, 1000)).save(whole, "PNG")
    yield whole.getvalue()


def _answerable(request: PredictRequest, signature: Signature) -> None:
    """What the service does with a request up to the model; what comes out of it can be journaled and read again."""
    assert 0 < len(request.records) <= ROWS
    request.content()
    require_short(request.records, signature, TEXT)
    require_few_pixels(request.records, signature, PIXELS, PIXELS)
    columns = encode(signature, request.records, max_pixels=PIXELS)
    keys = content_keys(columns, signature)
    assert len(keys) == len(request.records) == len(next(iter(columns.values())))
    for record in request.records:
        made = Prediction(
            id="pred_1", deployment="d", model_id="m", key="00", inputs=record, answer={}, caller=request.caller
        )
        journaled = orjson.loads(orjson.dumps(made, option=orjson.OPT_SERIALIZE_NUMPY))
        assert orjson.loads(orjson.dumps(from_json(Prediction, journaled))) == journaled
        assert mapping_of(Prediction).refused(made) is None


@refusing
def predict(data: bytes, _folder: Path) -> None:
    """A body of JSON, for a model of images and for one of a table."""
    signature = PICTURES if data[:1] == b"\0" else TIDES
    _answerable(parse_predict(data[1:], ROWS), signature)


def bodies() -> Iterator[bytes]:
    """Good ones, odd ones, and such as are nested."""
    row = {"size": 1.5, "tide": "ebb", "note": "schön 潮 \u202e", "day": "2024-02-29T12:00:00+02:00"}
    picture = base64.b64encode(next(files())).decode()
    for kind, inputs in (
        (b"\1", row), (b"\1", [row, {"size": 1}]), (b"\1", {"size": -0.0, "tide": None, "day": 1e9, "note": 3}),
        (b"\0", {"image": picture}), (b"\0", {"image": [[0, 255], [1.0, 2]]}), (b"\0", [{"image": [[[1, 2, 3]]]}]),
        (b"\0", {"image": list(range(64))}), (b"\0", {"image": f"data:image/png;base64,{picture}"}),
    ):  # fmt: skip
        yield kind + json.dumps({"inputs": inputs, "key": "k", "caller": "c"}).encode()
    yield b"\1" + b'{"inputs": ' + b"[" * 300 + b"]" * 300 + b"}"
    yield b"\1" + b'{"inputs": {"size": ' + b"[" * 300 + b"]" * 300 + b"}}"
    yield b"\1" + b'{"inputs": {"size": NaN, "tide": "\\ud800", "x": 1e999}}'
    yield b"\1" + b'{"inputs": {"size": 123456789012345678901234567890, "day": "99999-01-01"}}'


def known(identifier: str) -> bool:
    """As the check in an id lets nothing else through."""
    return identifier.startswith("pred_") and identifier.isascii() and identifier[5:].isalnum()


@refusing
def feedback(data: bytes, _folder: Path) -> None:
    """A statement, for each kind of answer; what is taken can be stored, and is the same when it is read again."""
    content = parse_json(data[1:])
    spec = SPECS[(data[0] if data else 0) % len(SPECS)]
    item = parse_feedback(content, "body", spec, known)
    assert mapping_of(Feedback).refused(item) is None
    assert from_json(Feedback, orjson.loads(orjson.dumps(to_json(item)))) == item


def statements() -> Iterator[bytes]:
    """Every kind, for every kind of answer."""
    values: dict[str, list[Any]] = {
        "confirmation": [None], "correction": ["ebb", ["flood"], 7, 1e308], "rating": [0.5, -0.0], "reward": [1],
        "comment": ["fine \u0000", "ü"], "preference": [{"over": "pred_2"}],
    }  # fmt: skip
    for kind, listed in values.items():
        for number, value in enumerate(listed):
            said = {"prediction": "pred_1", "kind": kind, "value": value, "author": "ann", "asked": True, "key": "k"}
            yield bytes([number % 3]) + json.dumps(said).encode()
    yield b"\0" + b'{"prediction": "pred_1", "kind": "correction", "value": "\\ud800"}'


@refusing
def form(data: bytes, _folder: Path) -> None:
    """A form, under a boundary that is part of the input."""
    boundary, _, body = data.partition(b"\n")
    kind = b"multipart/form-data; boundary=" + boundary[1:]
    signature = PICTURES if boundary[:1] == b"\0" else TIDES
    _answerable(parse_form(body, kind, signature, ROWS), signature)


def forms() -> Iterator[bytes]:
    """As browsers and curl write them, and torn."""

    def part(name: str, value: bytes, extra: str = "") -> bytes:
        return (
            b'--x\r\nContent-Disposition: form-data; name="'
            + name.encode()
            + b'"'
            + extra.encode()
            + b"\r\n\r\n"
            + value
            + b"\r\n"
        )

    file = '; filename="a.png"\r\nContent-Type: image/png'
    yield b"\1x\n" + part("size", b"1.5") + part("tide", b"ebb") + part("day", b"") + part("key", b"k") + b"--x--\r\n"
    yield b"\1x\n" + part("size", b"1") + part("size", b"2") + b"--x--\r\n"
    yield b"\0x\n" + part("image", next(files()), file) + b"--x--\r\n"
    yield b"\1x\n" + part("note", b"\xff") + b"--x"
    yield b'\1"x"; a=b\n' + part("size", b"1", "\r\nX: y") + b"--x--"
    yield b"\1\n" + b"----\r\n\r\n"


@refusing
def bare(data: bytes, _folder: Path) -> None:
    """An image as the whole body."""
    _answerable(parse_image(data, PICTURES), PICTURES)


@refusing
def bulk(data: bytes, _folder: Path) -> None:
    """Lines in the pieces in which they may arrive: each is as it stands in the whole, or too long to be kept."""
    *pieces, last = split(data[1:], most=100)
    whole = data[:1] != b"\0"
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": last, "more_body": not whole})
    messages.append({"type": "http.disconnect"})

    async def receive() -> Any:
        return messages.pop(0)

    async def gathered() -> list[bytes | None]:
        return [line async for batch in bulk_door._lines(receive) for line in batch]

    with unittest.mock.patch.object(bulk_door, "MAX_LINE", LINE):
        found = asyncio.run(gathered())
    expected = b"".join([*pieces, last]).split(b"\n")
    if not whole or not expected[-1]:
        expected.pop()  # what a caller who went away had left of a line is no line
    kept = [line if len(line) <= LINE else None for line in expected]
    if not whole and len(found) == len(kept) + 1:
        assert found.pop() is None, "one that is too long already is told at once"
    assert found == kept, (found, kept)


def streams() -> Iterator[bytes]:
    """Whole ones and torn ones, with lines of every length around the limit."""
    for kind in (b"\0", b"\1"):
        yield kind + b'{"a": 1}\n{"b": 2}'
        yield kind + join(b"12345", b"67\n\n", b"", b"x" * LINE, b"\n", b"y" * (LINE + 1), b"y\nz\n")
        yield kind + join(b"y" * (LINE - 1), b"y", b"y", b"\n" * 3)
        yield kind + b"\r\n\n" * 4


@refusing
def inference(data: bytes, _folder: Path) -> None:
    """A whole request of the Open Inference Protocol, of the model that the first byte says; then as any other."""
    head, *rest = split(data[1:], most=2)
    predictor = opened("image" if data[:1] == b"\0" else "table")
    request, _ = parse_inference(head + b"".join(rest), len(head) if rest else None, "default", predictor, ROWS)
    _answerable(request, predictor.signature)


@functools.cache
def opened(name: str) -> Predictor:
    """A released package."""
    return load(RELEASED / name)


def inferences() -> Iterator[bytes]:
    """Numbers, texts and pixels, in JSON and behind it, with what may be asked for."""

    def asked(kind: bytes, inputs: list[dict[str, Any]], *behind: bytes, **more: Any) -> bytes:
        return kind + join(json.dumps({"id": "7", "inputs": inputs, **more}).encode(), *behind)

    def tensor(name: str, datatype: str, shape: list[int], values: Any = None, size: int = 0) -> dict[str, Any]:
        given = {"data": values} if values is not None else {"parameters": {"binary_data_size": size}}
        return {"name": name, "datatype": datatype, "shape": shape, **given}

    age, since = tensor("age", "FP32", [2], [39, None]), tensor("since", "BYTES", [2], ["2024-01-01", "2024-01-02"])
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    yield asked(b"\1", [age, since, tensor("city", "BYTES", [2], ["Goes", ""])], outputs=outputs)
    yield asked(b"\1", [since], parameters={"binary_data_output": True, "caller": "c", "key": "k"})
    yield asked(b"\1", [tensor("since", "BYTES", [1], size=8)], b"\4\0\0\x002024")
    yield asked(b"\1", [tensor("age", "INT8", [0], []), tensor("since", "INT64", [0, 1], [])])
    yield asked(b"\0", [tensor("image", "UINT8", [1, 8, 8, 1], list(range(64)))])
    yield asked(b"\0", [tensor("image", "UINT8", [1, 8, 8, 1], size=64)], bytes(range(64)))
    yield asked(b"\0", [tensor("image", "BYTES", [1], size=4 + len(small := next(files())))], _counted(small))
    yield asked(b"\0", [tensor("image", "FP64", [2, 64], [[0.5] * 64] * 2)])


def _counted(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


@refusing
def tensors(data: bytes, _folder: Path) -> None:
    """JSON, and what stands behind it."""
    head, *rest = split(data, most=2)
    body = b"".join(rest)
    content = parse_json(head)
    found = read_tensors(content.get("inputs"), memoryview(body), ROWS)
    for tensor in found:
        count = int(np.prod(tensor.shape, dtype=object))
        if isinstance(tensor.values, np.ndarray):
            assert tensor.values.shape == tensor.shape
        else:
            assert len(tensor.values) == count
        assert count <= len(data), "more values than bytes"


def described() -> Iterator[bytes]:
    """Numbers and texts, in JSON and behind it."""

    def one(datatype: str, shape: list[int], values: Any = None, size: int | None = None) -> bytes:
        tensor: dict[str, Any] = {"name": "size", "shape": shape, "datatype": datatype}
        tensor |= {"data": values} if size is None else {"parameters": {"binary_data_size": size}}
        return json.dumps({"id": "1", "inputs": [tensor]}).encode()

    yield one("FP32", [2], [1, None])
    yield one("INT64", [2, 2], [[1, 2], [3, 4]])
    yield one("BOOL", [1], [True])
    yield one("BYTES", [2], ["ebb", "flood"])
    yield one("UINT8", [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], [])
    yield join(one("FP64", [2], size=16), bytes(16))
    yield join(one("FP16", [1, 2], size=4), bytes(4))
    yield join(one("BYTES", [2], size=11), b"\3\0\0\0ebb\0\0\0\0")
    yield join(one("INT8", [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], size=0), b"")


_IMAGE = (b"IHDR", b"IDAT", b"tRNS", b"\xff\xd8\xff", b"Exif\0\0", b"II*\0", b"RIFF", b"GIF89a", b"P6 ")
_JSON = (b'{"', b'":', b"[]", b"null", b"true", b"1e999", b"\\ud800", b"\\u0000", b"-0.0")
REQUESTS = [
    Decoder(
        "image",
        image,
        files,
        (b"IHDR", b"IDAT", b"tRNS", b"\xff\xd8\xff", b"Exif\0\0", b"II*\0", b"RIFF", b"P6 "),
        quick=400,
    ),
    Decoder("predict", predict, bodies, (*_JSON, b'"inputs"', b'"size"', b'"image"', b"data:;base64,")),
    Decoder("feedback", feedback, statements, (*_JSON, b'"kind"', b'"value"', b'"correction"', b'"over"')),
    Decoder("form", form, forms, (b"--x\r\n", b"--x--", b'name="', b'filename="', b"\r\n\r\n", b"size", b"image")),
    Decoder("bare-image", bare, lambda: itertools.islice(files(), 12), _IMAGE),
    Decoder("bulk", bulk, streams, (b"\n", b"\r\n", MARK, b"x" * LINE)),
    Decoder("inference", inference, inferences, (*_JSON, b'"shape"', b'"BYTES"', b"binary_data_size", b'"outputs"')),
    Decoder("tensors", tensors, described, (*_JSON, b'"shape"', b'"BYTES"', b'"FP32"', b"binary_data_size")),
]
