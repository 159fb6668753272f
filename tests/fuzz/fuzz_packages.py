"""What Tidemill wrote itself, and somebody may have altered: packages, journal segments, backups."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from fuzz_base import Decoder, join, number, refusing, split

from tidemill.packages.manifest import Manifest, parsed
from tidemill.project.archive import members, read_header
from tidemill.records import Prediction
from tidemill.runtime import load
from tidemill.store import ingest, segments

RELEASED = sorted((Path(__file__).resolve().parents[1] / "fixtures" / "packages").glob("schema-*/*/"))


@refusing
def manifest(data: bytes, folder: Path) -> None:
    """A released package, in whose manifest some values are others: each part names a place, and what stands there."""
    first, *edits = split(data)
    package = RELEASED[number(first) % len(RELEASED)]
    content: Any = json.loads((package / "manifest.json").read_bytes())
    for edit in edits:
        places = list(_places(content))
        holder, key = places[number(edit) % len(places)]
        try:
            holder[key] = json.loads(edit[2:])
        except (ValueError, RecursionError):
            holder[key] = edit[2:].decode("utf-8", "replace")
    for name in content["files"] if isinstance(content.get("files"), dict) else ():
        if (package / name).is_file() and "/" not in name:
            shutil.copy(package / name, folder / name)
    (folder / "manifest.json").write_text(json.dumps(content))
    load(folder).warm_up()


def edits() -> Iterator[bytes]:
    """One edit of every place, each with another value."""
    values = [
        b"null",
        b"-1",
        b"1e308",
        b'""',
        b"[]",
        b"{}",
        b"[[]]",
        b"true",
        b"NaN",
        b'"torch"',
        b"99999999999",
        b"[0]",
    ]
    for index, package in enumerate(RELEASED):
        count = len(list(_places(json.loads((package / "manifest.json").read_bytes()))))
        for place in range(0, count, 2):
            yield join(index.to_bytes(2, "big"), place.to_bytes(2, "big") + values[place // 2 % len(values)])
    yield join(b"\0\0")


@refusing
def raw_manifest(data: bytes, folder: Path) -> None:
    """Any bytes as a manifest."""
    (folder / "manifest.json").write_bytes(data)
    load(folder)


def manifests() -> Iterator[bytes]:
    """The released ones, and what is none."""
    yield from ((package / "manifest.json").read_bytes() for package in RELEASED)
    yield from (b"{}", b"[]", b"\xff\xfe{\0}\0", b"[" * 3000, b'{"schema": 1, "schema": 99}')


@refusing
def graph(data: bytes, folder: Path) -> None:
    """Any bytes as the graph of a released package, with the right sum."""
    _with_model(RELEASED[0], "model.onnx", data, folder)
    load(folder).warm_up()


@refusing
def weights(data: bytes, folder: Path) -> None:
    """Any bytes as the weights of a small network, with the right sum."""
    network = {"runtime": "torch", "network": {"name": "mlp", "hidden": [2]}}
    _with_model(RELEASED[0], "model.safetensors", data, folder, **network)
    load(folder).warm_up()


def tensors() -> Iterator[bytes]:
    """The weights that fit, and others."""
    from safetensors.torch import save

    from tidemill.networks import build_network

    opened = Manifest.from_json(json.loads((RELEASED[0] / "manifest.json").read_bytes()), "")
    _, pipeline = parsed(opened, "")
    module = build_network({"name": "mlp", "hidden": [2]}, pipeline.info(), len(opened.answer["labels"]))
    content = save(module.state_dict())
    yield content
    yield content[:-1]
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for change in (
        {"dtype": "F64"},
        {"shape": [-1]},
        {"shape": [2**40]},
        {"data_offsets": [0, 2**62]},
        {"dtype": "BF16"},
    ):
        name = next(iter(head))
        changed = json.dumps({**head, name: {**head[name], **change}}).encode()
        yield len(changed).to_bytes(8, "little") + changed + content[8 + int.from_bytes(content[:8], "little") :]
    yield (2**63).to_bytes(8, "little") + b"{}"


def _with_model(package: Path, name: str, content: bytes, folder: Path, **changes: Any) -> None:
    facts = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}
    said = {**json.loads((package / "manifest.json").read_bytes()), **changes, "files": facts}
    (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(said))


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and its key or index there."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


@refusing
def journal(data: bytes, folder: Path) -> None:
    """A segment as it is, or made of records; closed or not. What comes out stands where it says it does."""
    kind = data[0] if data else 0
    content = data[1:]
    payloads = split(content) if kind & 1 else []
    if payloads:
        content = segments.HEADER + b"".join(map(segments.frame, payloads)) + bytes(kind >> 2 & 7)
    position, found = len(segments.HEADER), []
    for entry in segments.entries(content, position, closed=bool(kind & 2)):
        assert position <= entry.start < entry.end <= len(content)
        assert segments.frame(entry.payload) == content[entry.start : entry.end]
        position = entry.end
        found.append(entry)
    segments.is_torn(content[position:])
    if payloads:
        assert [entry.payload for entry in found] == payloads
    for entry in found:
        ingest._record(folder / "1.journal", entry)


def records() -> Iterator[bytes]:
    """Predictions and what is none, as they are and in parts."""
    made = Prediction(id="pred_1", deployment="d", model_id="m", key="00", inputs={"a": 1}, answer={"label": "x"})
    shadow = orjson.dumps({"id": "pred_1", "shadow": {"label": "y"}})
    good = [orjson.dumps(made), shadow, b"{}", b"[1]", b'{"id": 1}', b"\xff"]
    whole = segments.HEADER + b"".join(map(segments.frame, good))
    for kind in (0, 2):
        yield bytes([kind]) + whole
        yield bytes([kind]) + whole[:-3]
        yield bytes([kind]) + whole[:40] + b"\0" * 20 + whole[60:]
    yield b"\1" + join(*good)
    yield b"\7" + join(good[0], good[0])


@refusing
def backup(data: bytes, folder: Path) -> None:
    """An archive: as it is, or the tar that is packed in it."""
    path = folder / "backup.tar.zst"
    path.write_bytes(data[1:] if data[:1] == b"\0" else pa.compress(data[1:], "zstd", asbytes=True))
    read_header(path)
    for member in members(path):
        size = sum(map(len, member.chunks()))
        assert size == member.size and not member.name.startswith("/") and ".." not in member.name.split("/")


def backups() -> Iterator[bytes]:
    """A small one, and some whose members say other things."""
    header = orjson.dumps({"format": "tidemill-backup", "version": 1, "tidemill": "0"})
    for listed in (
        {"project/tidemill.yaml": b"schema: 1\n", "state/secret": b"00"},
        {"state/../../evil": b"x"},
        {"state/" + "long" * 60: b"x", "tables/runs.parquet": b"PAR1"},
    ):
        files = {"tidemill-backup.json": header, **listed}
        said = [{"name": n, "bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()]
        files["manifest.json"] = orjson.dumps({"members": said})
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        short = whole.getvalue().rstrip(b"\0")
        tar = short + bytes(1024 - len(short) % 512)
        yield b"\1" + tar
        yield b"\0" + pa.compress(tar, "zstd", asbytes=True)


PACKAGES = [
    Decoder(
        "manifest", manifest, edits, (b"null", b"[]", b"{}", b'"onnx"', b'"torch"', b"NaN", b"1e308"), 256, quick=250
    ),
    Decoder("raw-manifest", raw_manifest, manifests, (b'"schema": 1', b'"files"', b'"answer"', b"null")),
    Decoder(
        "graph", graph, lambda: [(p / "model.onnx").read_bytes() for p in RELEASED], (b"scores", b"Gemm"), quick=200
    ),
    Decoder("weights", weights, tensors, (b'"dtype":', b'"F32"', b'"shape":[', b'"data_offsets":['), quick=700),
    Decoder("journal", journal, records, (segments.HEADER, b"TMfr", b'"shadow"', b'{"id":')),
    Decoder("backup", backup, backups, (b"ustar", b"L", b"state/", b"../", b"manifest.json"), 8192),
]
