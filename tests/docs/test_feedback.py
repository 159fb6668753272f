"""What docs/feedback.md tells people to type, typed, in a project that is served."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.records import Annotation, Feedback
from tidemill.serving.server import serve

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "feedback.md"
PARCEL = {"distance_km": 12.0, "weight_kg": 1.0, "carrier": "cart", "depot": "Ostend", "day": "Thu"}


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "".join(blocks).replace("\\\n", " ").splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tidemill.Project]:
    shutil.copy(ROOT / "docs" / "quickstart" / "parcels.csv", tmp_path)
    made = tidemill.init(tmp_path / "parcels", data=tmp_path / "parcels.csv", target="late", recipes={"include": []})
    with contextlib.closing(made.store):
        made.cycle(max_trials=0)
        yield made


@contextlib.contextmanager
def served(project: tidemill.Project) -> Iterator[str]:
    ready: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(project, "127.0.0.1", 0, ready.put, stop))
    thread.start()
    try:
        yield f"localhost:{ready.get(timeout=60)}"
    finally:
        stop.set()
        thread.join()


def tidemill_command(arguments: list[str], folder: Path) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        left = stack.enter_context(pytest.raises(SystemExit))
        main(arguments)
    assert not left.value.code, f"{arguments}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


def test_every_command_of_the_page_runs(project: tidemill.Project) -> None:
    typed, folder = commands(), project.dir
    assert len(typed) >= 14
    said: dict[str, str] = {}
    with served(project) as address:
        body = {"inputs": [{**PARCEL, "weight_kg": number / 7} for number in range(8)]}
        answers = httpx.post(f"http://{address}/v1/predict", json=body).raise_for_status().json()["predictions"]
        ids = [answer["id"] for answer in answers]
        statement = {"kind": "comment", "value": "on time"}
        lines = [json.dumps({"prediction": one, **statement}) for one in ids[:5]]
        (folder / "statements.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        (folder / "answers.jsonl").write_text(json.dumps({"subject": ids[6], "label": "no"}) + "\n", "utf-8")
        for line in typed:
            spare = iter(ids[5:] + ids[:5])  # a pair is of two
            command = re.sub(r"pred_…", lambda _, left=spare: next(left), line)
            command = command.replace("localhost:8321", address).replace("model_…", str(project.model().id))
            if command.startswith("curl "):
                command = command.replace("curl -s", "curl -sS --fail-with-body")
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
                said[line] = done.stdout
            else:
                words, _, target = command.partition(" > ")
                name, *arguments = shlex.split(words)
                assert name == "tidemill", line
                said[line] = tidemill_command(arguments, folder)
                if target:
                    (folder / target).write_text(said[line], "utf-8")
    bulk = next(text for line, text in said.items() if "bulk" in line)
    assert bulk.count('"status":"accepted"') == 5
    assert "12.5" in next(text for line, text in said.items() if "episode:" in line)
    assert "ann" in said["tidemill feedback authors"]
    kinds = {item.kind for item in project.store.find(Feedback)}
    assert kinds == {"correction", "confirmation", "reward", "preference", "comment"}
    questions = json.loads((folder / "questions.json").read_text("utf-8"))
    assert {question["purpose"] for question in questions} == {"settle"}, "the labels that the one cycle doubted"
    assert [item.author for item in project.store.find(Annotation)] == ["ada"]


def test_the_table_of_authors_has_the_columns_that_the_page_shows(project: tidemill.Project) -> None:
    shown = re.findall(r"^```text\n(author .*?)\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    with served(project) as address:
        answer = httpx.post(f"http://{address}/v1/predict", json={"inputs": PARCEL}).json()["predictions"][0]
        assert tidemill_command(["feedback", "authors"], project.dir).strip() == "nobody has stated a label yet"
        project.feedback(answer["id"], "no", author="ann")
        printed = tidemill_command(["feedback", "authors"], project.dir)
    columns = re.split(r"\s{2,}", printed.splitlines()[0].strip())
    assert [re.split(r"\s{2,}", line.strip()) for line in shown] == [columns]
