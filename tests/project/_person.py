"""A small project in which one person has left traces everywhere, and how to look for them, byte by byte.

As a program it forgets that person again and again, in copies, and is killed in the middle: ``python _person.py FOLDER
KILLS``; or once, there, at a certain call: ``python _person.py FOLDER 1 CALL``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import tidemill
from tidemill.data.dataset import open_dataset
from tidemill.data.encode import encode
from tidemill.data.keys import content_keys, key_text
from tidemill.records import Prediction, QueueItem, new_id
from tidemill.store import JournalWriter, new_prediction_id
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

TEXT = "text-classification"
NAME = "Ann Zyxomma"
MARK = "Zyxomma"
OTHER = "Quagga"
"""What the person wrote, and what somebody else did."""
QUICK: dict[str, Any] = {"include": []}
OLD = 200 * 86_400


def asked(project: tidemill.Project, inputs: dict[str, Any], **fields: Any) -> Prediction:
    """A prediction as the service makes it."""
    columns = encode(project.signature, [inputs])
    fields = {"key": key_text(content_keys(columns, project.signature)[0]), **fields}
    return Prediction(
        id=new_prediction_id(project.store.secret),
        deployment="default",
        model_id=project.champion_deployment().model_id,
        inputs=inputs,
        answer=project.predict(inputs)[0],
        **fields,
    )


def live(folder: Path) -> dict[str, Any]:
    """Make the project in ``folder/p``; the ids of what the person gave, by what it is."""
    records = get_task(TEXT).sample_data(0, 120)
    records[7]["text"] += f" {OTHER} in the source"
    data = write_records(folder / "data", records)
    project = tidemill.init(folder / "p", data=data, target="label", recipes=QUICK, keep={"predictions_days": 100})
    with contextlib.closing(project.store) as store:
        project.cycle(max_trials=0)
        writer = JournalWriter(store.root)
        hers = [asked(project, {"text": f"late parcel {MARK} {i}"}, caller=NAME) for i in range(3)]
        same = asked(project, hers[0].inputs, caller="bob")
        his = [asked(project, {"text": f"my refund {OTHER} {i}"}, caller="bob") for i in range(2)]
        aged = [asked(project, {"text": f"{m} long ago"}, created=time.time() - OLD, caller=n)
                for m, n in ((MARK, NAME), (OTHER, "bob"))]  # fmt: skip
        writer.submit(*hers, same, *his, *aged).result()
        writer.close()
        label = project.signature.labels[0]
        project.status()  # folds the journal
        project.gc()
        said = [project.feedback(p.id, label, author=NAME, key=f"{MARK}-{p.id}")["feedback"] for p in hers[:2]]
        said.append(project.feedback(his[0].id, f"{MARK} says no", kind="comment", author=NAME)["feedback"])
        about = project.feedback(hers[0].id, f"{MARK} is wrong", kind="comment", author="bob")["feedback"]
        project.feedback(his[1].id, label, author="bob")
        arrays = open_dataset(store.root, project.dataset)  # type: ignore[arg-type]
        sample = arrays.sample_id(7)
        question = QueueItem(id=new_id("ask"), subject=sample, purpose="useful", rank=0.0, reason="r", inputs={})
        store.insert(question)
        note = project.answer(sample, label, author=NAME, note=f"{MARK} was here")
        project.promote(project.champion_deployment().model_id, reason="a test", author=NAME)
        project.cycle(max_trials=0)
        project.data(search=False)
        project.report_html(store.root / "report-champion.html")
        for name in ("label-errors.json", ".label-errors.json.torn"):
            (store.root / arrays_path(project) / name).write_text(f"[{MARK}]", encoding="utf-8")
        (store.root / "crash-1.txt").write_text(f"Traceback {MARK}", encoding="utf-8")
        (store.root / "cycles.log").write_text(f"warning: {MARK}\n", encoding="utf-8")
        pending = [asked(project, {"text": f"just now {MARK}"}, caller=NAME)]
        writer = JournalWriter(store.root)
        writer.submit(*pending).result()
        writer.close()
    return {
        "predictions": [p.id for p in [*hers, aged[0], *pending]],
        "aged": aged[0].id,
        "same": same.id,
        "feedback": [f["id"] for f in said],
        "about": about["id"],
        "labels": [note["id"]],
        "sample": sample,
        "his": [p.id for p in his],
    }


def arrays_path(project: tidemill.Project) -> str:
    """Where the newest dataset version lies."""
    assert project.dataset is not None
    return project.dataset.path


def traces(root: Path, *needles: str | bytes) -> set[str]:
    """The files below *root* that hold one of the *needles*, by their paths; Parquet is unpacked."""
    sought = [n.encode() if isinstance(n, str) else n for n in needles]
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 20
    return {str(path.relative_to(root)) for path in files if any(n in content(path) for n in sought)}


def content(path: Path) -> bytes:
    if path.suffix == ".parquet":
        return path.read_bytes() + json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode()
    return path.read_bytes()


def rooms(found: set[str]) -> set[str]:
    """The first folder of each path, or its name."""
    return {path.partition("/")[0] for path in found}


def pictures(pixels: np.ndarray[Any, Any]) -> list[bytes]:
    """How an image, uint8 ``[h, w, c]``, may lie in a file: raw, and as the PNG of a preview in a page."""
    from tidemill.data import images

    return [pixels.tobytes(), base64.b64encode(images.encode_png(pixels))]


WATCHED = (
    "tidemill/project/forgetting/",
    "tidemill/data/erasing.py",
    "tidemill/store/erasing.py",
    "tidemill/store/store.py",
)


def calls(work: Callable[[], None], stop_at: int | None = None) -> int:
    """Do *work*, counting calls of the functions that erase; at call *stop_at* the process kills itself."""
    count = 0

    def called(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        if event == "call" and any(part in frame.f_code.co_filename for part in WATCHED):
            count += 1
            if count == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def forget(folder: Path) -> None:
    project = tidemill.open(folder)
    with contextlib.closing(project.store):
        project.forget(author=NAME)


def resume(folder: Path) -> None:
    tidemill.open(folder).store.close()


def in_child(work: Callable[[], int]) -> int:
    """The status of a forked process, which need not import everything again, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        os._exit(work())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def kills(folder: Path, places: int) -> Iterator[tuple[Path, int]]:
    """Copies of the project, each with the forgetting killed at another place, twice: the second time later on."""
    whole = shutil.copytree(folder, folder.parent / "whole")
    counted = folder.parent / "calls"
    in_child(lambda: counted.write_text(str(calls(lambda: forget(whole)))) * 0)
    total = int(counted.read_text())
    for n in range(places):
        copy = shutil.copytree(folder, folder.parent / f"killed{n}")
        first = 1 + (2 * n + 1) * total // (2 * places)
        status = in_child(lambda copy=copy, first=first: calls(lambda: forget(copy), first) * 0)  # type: ignore[misc]
        if n % 2:  # whoever goes on is killed, too
            in_child(lambda copy=copy: calls(lambda: resume(copy), total // 3) * 0)  # type: ignore[misc]
        yield copy, status


def main(arguments: Sequence[str]) -> None:
    folder, places, *at = Path(arguments[0]), *map(int, arguments[1:])
    if at:
        print(json.dumps(in_child(lambda: calls(lambda: forget(folder), at[0]) * 0)))
    else:
        print(json.dumps([[str(copy), status] for copy, status in kills(folder, places)]))


if __name__ == "__main__":
    main(sys.argv[1:])
