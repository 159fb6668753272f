"""Answers to files: every format in and out, rows that do not fit, and runs that were killed and went on."""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import fcntl
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tidemill
from tidemill.errors import (
    BusyError,
    InputError,
    NotFoundError,
    NotReadyError,
    StoreError,
    TidemillError,
    TooLargeError,
)
from tidemill.project import predicting
from tidemill.records import Model, Prediction
from tidemill.store import seam

ROWS = 60


def table(rows: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(rows)
    size = rng.normal(size=rows).round(3).tolist()
    tide = [("ebb", "flood", "slack")[n % 3] for n in range(rows)]
    day = [datetime.date(2026, 1, 1) + datetime.timedelta(days=n % 300) for n in range(rows)]
    return {
        "id": list(range(rows)),
        "size": size,
        "tide": tide,
        "day": day,
        "late": ["yes" if s > 0 else "no" for s in size],
    }


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tidemill.Project]:
    folder = tmp_path_factory.mktemp("boats")
    data = write_csv(folder / "boats.csv", table(300))
    made = tidemill.init(folder / "p", data=data, target="late", ignore=["id"], recipes={"include": ["ridge"]})
    with contextlib.closing(made.store):
        assert made.cycle(max_trials=0)["decision"]["outcome"] == "promoted"
        yield made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "rows.csv", table(ROWS))


def expected(project: tidemill.Project, columns: dict[str, list[Any]]) -> list[Any]:
    keys = ("size", "tide", "day")
    inputs = [
        {key: columns[key][n].isoformat() if key == "day" else columns[key][n] for key in keys}
        for n in range(len(columns["size"]))
    ]
    return [(answer["label"], answer["score"]) for answer in project.predict(inputs)]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a written file, whatever its format."""
    plain = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in plain.splitlines()]
    delimiter = "\t" if name.endswith(".tsv") else ","
    return list(csv.DictReader(plain.decode().splitlines(), delimiter=delimiter))


def write(folder: Path, kind: str, columns: dict[str, list[Any]]) -> Path:
    path = folder / f"rows{kind}"
    if kind == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif kind.startswith(".jsonl"):
        lines = [
            json.dumps(dict(zip(columns, row, strict=True)), default=str) for row in zip(*columns.values(), strict=True)
        ]
        text = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
    else:
        write_csv(path, columns)
    return path


@pytest.mark.parametrize(
    ("source", "output"),
    [
        (".csv", ".csv"), (".csv", ".parquet"), (".csv", ".jsonl"), (".parquet", ".csv.gz"), (".parquet", ".parquet"),
        (".parquet", ".jsonl"), (".jsonl", ".tsv"), (".jsonl", ".parquet"), (".jsonl.gz", ".jsonl.gz"),
    ],
)  # fmt: skip
def test_every_format_in_and_out(project: tidemill.Project, tmp_path: Path, source: str, output: str) -> None:
    columns = table(ROWS)
    file, target = write(tmp_path, source, columns), tmp_path / f"answers{output}"
    seen: list[dict[str, Any]] = []
    done = project.predict_file(file, target, keep_inputs=True, on_event=seen.append)
    assert project.champion is not None
    said = {"output": str(target), "rows": ROWS, "rejected": 0, "rejects": None, "resumed": 0}
    assert done == {"model": project.champion["id"], **said}
    found = read(target)
    assert list(found[0]) == [*columns, "origin", "predicted_label", "predicted_score"]
    assert [(row["predicted_label"], float(row["predicted_score"])) for row in found] == expected(project, columns)
    assert [str(row["id"]) for row in found] == [str(n) for n in range(ROWS)]
    assert [str(row["day"]) for row in found] == [str(day) for day in columns["day"]]
    assert "7" in found[6]["origin"] and file.name in found[6]["origin"]
    if output == source == ".parquet":
        assert pq.read_schema(target).field("day").type == pa.date32()
    assert seen[-1]["done"] == ROWS and (seen[-1]["total"] is None or abs(seen[-1]["total"] - ROWS) <= 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, target.name])
    assert project.store.count(Prediction) == 0, "they are no predictions of the service"


def test_answers_alone_and_with_the_probability_of_each_label(project: tidemill.Project, rows: Path) -> None:
    target = rows.with_name("answers.jsonl")
    project.predict_file(rows, target)
    assert list(read(target)[0]) == ["origin", "predicted_label", "predicted_score"]
    project.predict_file(rows, target, scores=True)
    first = read(target)[0]
    assert first["predicted_score_no"] + first["predicted_score_yes"] == pytest.approx(1, abs=1e-6)


def test_cells_as_other_programs_write_them(project: tidemill.Project, tmp_path: Path) -> None:
    columns = {
        "size": pa.array([decimal.Decimal("0.5"), None], pa.decimal128(5, 2)),
        "tide": ["ebb", "flood"],
        "day": pa.array([datetime.datetime(2026, 1, 31, 12), None], pa.timestamp("us")),  # noqa: DTZ001
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    project.predict_file(tmp_path / "rows.parquet", tmp_path / "a.jsonl", skip_bad=True)
    assert len(read(tmp_path / "a.jsonl")) + len(read(tmp_path / "a.jsonl.rejects.jsonl")) == 2
    nan = {"size": [0.5, float("nan")], "tide": ["ebb", "ebb"], "day": ["2026-01-31", "2026-01-31"]}
    pq.write_table(pa.table(nan), tmp_path / "nan.parquet")
    project.predict_file(tmp_path / "nan.parquet", tmp_path / "b.jsonl", skip_bad=True)
    (reject,) = read(tmp_path / "b.jsonl.rejects.jsonl")
    assert "has no value" in reject["what"] and "'size'" in reject["where"]


def test_a_row_that_does_not_fit_ends_it_or_is_named_and_left_out(project: tidemill.Project, tmp_path: Path) -> None:
    columns = table(ROWS)
    columns["size"][10], columns["tide"][20] = "wide", ""
    file, target = write_csv(tmp_path / "rows.csv", columns), tmp_path / "answers.csv"
    with file.open("a", encoding="utf-8") as stream:
        stream.write("1,2,3,4,5,6,7,8\n")
    for _ in range(2):
        with pytest.raises(InputError) as refused:
            project.predict_file(file, target)
        assert "--skip-bad" in str(refused.value.mend)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"], "nothing is left behind"
    done = project.predict_file(file, target, skip_bad=True)
    rejects = read(Path(done["rejects"]))
    assert (done["rows"], done["rejected"]) == (ROWS - 2, 3)
    assert {(reject["where"].partition(", ")[2]) for reject in rejects} == {
        "row 11, size",
        "row 21, field 'tide'",
        "row 61",
    }
    assert all(set(reject) == {"code", "what", "where", "mend"} for reject in rejects)
    origins = [row["origin"] for row in read(target)]
    assert "rows.csv, row 11" not in origins and "rows.csv, row 12" in origins
    project.predict_file(write_csv(tmp_path / "rows.csv", table(ROWS)), target)
    assert not Path(done["rejects"]).exists(), "those of an earlier run say nothing of this one"


def test_columns_that_are_no_inputs(project: tidemill.Project, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", {**table(5), "berth": list("abcde")})
    with pytest.raises(InputError, match="berth"):
        project.predict_file(file, tmp_path / "a.csv")
    project.predict_file(file, tmp_path / "a.csv", ignore=["berth"], keep_inputs=True)
    assert [row["berth"] for row in read(tmp_path / "a.csv")] == list("abcde")
    clash = write_csv(tmp_path / "clash.csv", {**table(5), "predicted_label": list("abcde")})
    with pytest.raises(InputError, match="predicted_label"):
        project.predict_file(clash, tmp_path / "a.csv", ignore=["predicted_label"], keep_inputs=True)


def test_lines_with_other_fields(project: tidemill.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "PART_ROWS", 2)
    rows = [{"size": 1.5, "tide": "ebb", "day": "2026-01-31", "id": n} for n in range(3)]
    rows[2]["note"] = {"deep": [1]}
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    project.predict_file(file, tmp_path / "a.jsonl", ignore=["note"], keep_inputs=True)
    assert read(tmp_path / "a.jsonl")[2]["note"] == {"deep": [1]}
    with pytest.raises(InputError, match="no field 'note'") as refused:
        project.predict_file(file, tmp_path / "a.csv", ignore=["note"], keep_inputs=True)
    assert refused.value.where == "rows.jsonl, line 3"
    rows[2] = {**rows[0], "id": "seven"}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match="'seven' is no int64") as refused:
        project.predict_file(file, tmp_path / "a.parquet", keep_inputs=True)
    assert refused.value.where == "rows.jsonl, line 3, id"


def test_images_by_folder_and_by_path(tmp_path: Path) -> None:
    for n in range(40):
        folder = tmp_path / "set" / ("dark", "bright")[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 + 150 * (n % 2) + n, np.uint8)).save(folder / f"{n:02}.png")
    project = tidemill.init(
        tmp_path / "p", data=tmp_path / "set", recipes={"include": ["ridge"]}, limits={"image_megapixels": 0.0001}
    )
    with contextlib.closing(project.store):
        model = project.cycle(max_trials=0)["candidates"][0]["model"]
        project.predict_file(tmp_path / "set", tmp_path / "a.parquet", model=model, keep_inputs=True)
        found = read(tmp_path / "a.parquet")
        assert set(found[0]) == {"label", "origin", "predicted_label", "predicted_score"}
        assert sum(row["label"] == row["predicted_label"] for row in found) > 30
        lines = [json.dumps({"image": row["origin"]}) for row in found]
        Image.fromarray(np.zeros((11, 11), np.uint8)).save(tmp_path / "set" / "large.png")
        lines += [json.dumps({"image": name}) for name in ("set/none.png", "set/large.png")]
        (tmp_path / "paths.jsonl").write_text("\n".join(lines), encoding="utf-8")
        done = project.predict_file(tmp_path / "paths.jsonl", tmp_path / "b.csv", model=model, skip_bad=True)
        assert [row["predicted_label"] for row in read(tmp_path / "b.csv")] == [row["predicted_label"] for row in found]
        missing, large = read(Path(done["rejects"]))
        assert "no such image file" in missing["what"] and "11 x 11 pixels" in large["what"]
        with pytest.raises(TooLargeError, match="11 x 11"):
            project.predict({"image": (tmp_path / "set" / "large.png").read_bytes()}, model=model)


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(
    project: tidemill.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "PART_ROWS", 7)
    columns = table(ROWS)
    columns["size"][30] = "wide"
    file = write_csv(tmp_path / "rows.csv", columns)
    for suffix in (".csv", ".jsonl.gz", ".parquet"):
        whole, target = tmp_path / f"whole{suffix}", tmp_path / f"answers{suffix}"
        project.predict_file(file, whole, keep_inputs=True, skip_bad=True)
        resumed = []
        for stop in range(7, ROWS, 13):

            def listen(event: dict[str, Any], stop: int = stop) -> None:
                if event["done"] >= stop:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                project.predict_file(file, target, keep_inputs=True, skip_bad=True, on_event=listen)
            resumed.append(len(list(target.with_name(f"{target.name}.parts").glob("*.json"))) - 1)
            assert not target.exists()
        assert resumed == sorted(set(resumed)) and resumed[0] >= 1
        done = project.predict_file(file, target, keep_inputs=True, skip_bad=True)
        assert done["resumed"] > 30 and (done["rows"], done["rejected"]) == (ROWS - 1, 1)
        assert target.read_bytes() == whole.read_bytes()
        rejects = [path.with_name(f"{path.name}.rejects.jsonl").read_bytes() for path in (target, whole)]
        assert rejects[0] == rejects[1] and b"row 31" in rejects[0]
        assert not target.with_name(f"{target.name}.parts").exists()


def test_what_another_run_left_is_gone_on_with_only_where_it_fits(
    project: tidemill.Project, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "PART_ROWS", 7)
    target = rows.with_name("answers.csv")

    def interrupted(**options: Any) -> None:
        def listen(event: dict[str, Any]) -> None:
            if event["done"] >= 14:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            project.predict_file(rows, target, on_event=listen, **options)

    interrupted()
    assert project.predict_file(rows, target)["resumed"] == 14
    interrupted()
    assert project.predict_file(rows, target, scores=True)["resumed"] == 0, "other columns"
    interrupted()
    os.utime(rows, (1, 1))
    assert project.predict_file(rows, target)["resumed"] == 0, "another file"
    assert project.champion is not None
    began, other = (
        project.champion["id"],
        next(m.id for m in project.store.find(Model) if m.id != project.champion["id"]),
    )
    interrupted()
    project.promote(other, reason="a test")
    try:
        done = project.predict_file(rows, target)
        assert (done["resumed"], done["model"]) == (14, began), "one file, one model"
        interrupted()
        done = project.predict_file(rows, target, model=began)
        assert (done["resumed"], done["model"]) == (0, began), "another one was asked for"
    finally:
        project.promote(began, reason="a test")
    interrupted()
    marker = target.with_name("answers.csv.parts") / "000001.json"
    marker.write_bytes(b"{")  # as no run leaves it
    assert project.predict_file(rows, target)["resumed"] == 0
    with pytest.raises(NotFoundError, match="model_nothing"):
        project.predict_file(rows, target, model="model_nothing")


def test_two_at_once_and_a_full_disk(project: tidemill.Project, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = rows.with_name("answers.csv")
    target.write_text("as it was", encoding="utf-8")
    parts = target.with_name("answers.csv.parts")
    parts.mkdir()
    with (parts / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"answers\.csv"):
            project.predict_file(rows, target)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(seam, "sync", full)
        with pytest.raises(StoreError, match="No space left"):
            project.predict_file(rows, target)
    assert target.read_text(encoding="utf-8") == "as it was"
    project.predict_file(rows, target)
    assert len(read(target)) == ROWS


@pytest.mark.parametrize(
    ("output", "kind"),
    [("answers.xlsx", InputError), ("answers.parquet.gz", InputError), ("none/answers.csv", NotFoundError)],
)
def test_where_it_cannot_be_written(
    project: tidemill.Project, rows: Path, output: str, kind: type[TidemillError]
) -> None:
    with pytest.raises(kind) as refused:
        project.predict_file(rows, rows.with_name("x").parent / output)
    assert refused.value.mend


def test_what_cannot_be_read(project: tidemill.Project, tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"size": 1}\n' * 99)[:-9])
    (tmp_path / "empty.jsonl").touch()
    for name, words in (("none.csv", "no such"), ("cut.jsonl.gz", "damaged"), ("empty.jsonl", "no row")):
        with pytest.raises(TidemillError, match=words):
            project.predict_file(tmp_path / name, tmp_path / "answers.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.jsonl.gz", "empty.jsonl"]
    fresh = tidemill.init(tmp_path / "p", data="sklearn:iris")
    with contextlib.closing(fresh.store), pytest.raises(NotReadyError):
        fresh.predict_file(tmp_path / "empty.jsonl", tmp_path / "answers.csv")


def test_a_killed_process_goes_on(project: tidemill.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "PART_ROWS", 500)
    file = write_csv(tmp_path / "rows.csv", table(10_000))
    target, whole = tmp_path / "answers.csv", tmp_path / "whole.csv"
    program = "import sys, tidemill, tidemill.project.predicting as p; p.PART_ROWS = 500\n"
    program += "tidemill.open(sys.argv[1]).predict_file(*sys.argv[2:])"
    command = [sys.executable, "-c", program, str(project.dir), str(file), str(target)]
    child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (tmp_path / "answers.csv.parts" / "000003.json").exists():
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not target.exists()
    done = project.predict_file(file, target)
    assert done["resumed"] >= 1500 and done["rows"] == 10_000
    project.predict_file(file, whole)
    assert target.read_bytes() == whole.read_bytes()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    project.predict_file(write_csv(tmp_path / "more.csv", table(30_000)), whole)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 20_000, "thrice the rows take no more memory"
