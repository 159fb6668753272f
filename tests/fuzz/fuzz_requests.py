"""What callers send: images, JSON, forms, tensors."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from fuzz_base import Decoder, join, refusing, split
from PIL import Image

from tidemill.data import images
from tidemill.data.encode import encode, pixels
from tidemill.data.keys import content_keys
from tidemill.data.schema import Field, Signature
from tidemill.errors import TidemillError
from tidemill.records import Feedback, Prediction, from_json, to_json
from tidemill.runtime.statements import parse_feedback
from tidemill.serving.forms import parse_form, parse_image
from tidemill.serving.requests import PredictRequest, parse_json, parse_predict, require_few_pixels, require_short
from tidemill.serving.tensors import read_tensors
from tidemill.store.tables import mapping_of

ROWS, PIXELS, TEXT = 8, 100_000, 2000
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
    require_short(request.records, signature, TEXT)
    require_few_pixels(request.records, signature, PIXELS, PIXELS)
    columns = encode(signature, request.records, max_pixels=PIXELS)
    keys = content_keys(columns, signature)
    assert len(keys) == len(request.records) == len(next(iter(columns.values())))
    for record in request.records:
        made = Prediction(
            id="pred_1", deployment="d", model_id="m", key="00", inputs=record, answer={}, caller=request.caller
        )
        assert from_json(Prediction, orjson.loads(orjson.dumps(made))) == made
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
    Decoder("tensors", tensors, described, (*_JSON, b'"shape"', b'"BYTES"', b'"FP32"', b"binary_data_size")),
]
