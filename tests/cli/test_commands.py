"""Every command on a real project: one small cycle on iris, then all that can be asked of it."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

import tidemill
from tidemill.cli.main import main
from tidemill.records import Annotation, Prediction, QueueItem, Turn

PROGRAM = [sys.executable, "-c", "from tidemill.cli.main import main; main()"]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
VALUES = [5.1, 3.5, 1.4, 0.2]
FLOWER = [f"{name}={value}" for name, value in zip(NAMES, VALUES, strict=True)]


def _configure(folder: Path, **sections: dict[str, Any]) -> None:
    """Set keys of whole sections."""
    path = folder / "tidemill.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**said, **sections}), encoding="utf-8")


def _succeed(*arguments: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0, arguments


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first cycle is done. Every fifth flower has no label, so there is something to ask."""
    from sklearn.datasets import load_iris

    iris = load_iris()
    rows = [
        [*map(str, values), "" if n % 5 == 0 else str(iris.target_names[code])]
        for n, (values, code) in enumerate(zip(iris.data, iris.target, strict=True))
    ]
    folder = tmp_path_factory.mktemp("cli") / "iris"
    data = folder.parent / "iris.csv"
    data.write_text("\n".join(",".join(row) for row in [[*NAMES, "species"], *rows]) + "\n", encoding="utf-8")
    _succeed("init", str(folder), "--data", str(data), "--target", "species")
    config = folder / "tidemill.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("# include: null ", "include: [ridge]", 1), encoding="utf-8")
    _succeed("cycle", "-C", str(folder), "--max-trials", "1", "--max-epochs", "3", "--seed", "1")
    return folder


def test_init_says_what_it_found_and_leaves_an_explained_file(run: Any, tmp_path: Path) -> None:
    result = run("init", tmp_path / "a", "--data", "sklearn:iris", "--target", "target")
    assert result.code == 0
    assert "tabular-classification: " in result.out and "150 rows" in result.out and "tidemill cycle -C" in result.out
    text = (tmp_path / "a" / "tidemill.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=.tidemill/config.schema.json\n")
    schema = json.loads((tmp_path / "a" / ".tidemill" / "config.schema.json").read_text(encoding="utf-8"))
    assert schema["title"] == "tidemill.yaml"
    again = run("init", tmp_path / "a", "--data", "sklearn:iris", "--target", "target", "--json")
    assert (again.code, again.json["error"]["code"]) == (2, "conflict")
    error = run("init", tmp_path / "b", "--data", "sklearn:iris", "--target", "targt", "--json").json["error"]
    assert "'targt'" in error["what"] and "'target'" in error["mend"]
    assert not (tmp_path / "b" / "tidemill.yaml").exists()


def test_plan_changes_nothing(run: Any, project: Path) -> None:
    before = sorted(project.rglob("*"))
    result = run("plan", "-C", project)
    assert result.code == 0 and "naive-bayes" in result.out and "150 rows" in result.out
    data = run("plan", "-C", project, "--json", "--max-trials", "1").json
    assert data["rows"] == 150 and data["seconds"] > 0 and {r["trials"] for r in data["recipes"]} <= {0, 1}
    assert [p for p in sorted(project.rglob("*")) if p.suffix not in (".db-wal", ".db-shm")] == [
        p for p in before if p.suffix not in (".db-wal", ".db-shm")
    ]


def test_what_the_cycle_left_can_be_looked_at(run: Any, project: Path) -> None:
    status = run("status", "-C", project, "--json").json
    assert status["champion"] is not None and status["cycle"]["status"] == "done"
    text = run("status", "-C", project).out
    assert status["champion"]["model"] in text and "reference" in text and "%" in text

    runs, models = run("runs", "-C", project, "--json").json, run("models", "-C", project, "--json").json
    assert len(models) >= 2 and {r["status"] for r in runs} == {"done"}
    assert [m["champion"] for m in models].count(True) == 1
    assert run("models", "-C", project).out.count("★") == 1
    assert len(run("runs", "-C", project, "-n", "1").out.splitlines()) == 2

    report = run("report", "-C", project, "--json").json
    assert report["model"]["id"] == status["champion"]["model"]
    text = run("report", "-C", project).out
    assert "accuracy" in text and "reference by label" in text and "promoted" in text
    assert run("report", "-C", project, "model_nothing", "--json").json["error"]["code"] == "not_found"


def test_the_report_is_one_page(run: Any, project: Path, tmp_path: Path) -> None:
    result = run("report", "-C", project, "--html", tmp_path / "r.html")
    assert result.out.strip() == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def test_the_gate_replays(run: Any, project: Path) -> None:
    data = run("gate", "-C", project, "--json").json
    assert data["outcome"] == "promoted" and data["replayed"] is True
    result = run("gate", "-C", project)
    assert result.code == 0 and "promoted" in result.out and "✓" in result.out


def test_predict_from_arguments_files_and_stdin(run: Any, shell: Any, project: Path, tmp_path: Path) -> None:
    answer = run("predict", "-C", project, *FLOWER)
    assert answer.out.startswith("setosa\t") and answer.out.rstrip().endswith("%")
    found = run("predict", "-C", project, *FLOWER, "--json").json
    assert found["predictions"][0]["label"] == "setosa" and found["model"].startswith("model_")

    file = tmp_path / "rows.csv"
    file.write_text(",".join([*NAMES, "species"]) + "\n5.1,3.5,1.4,0.2,setosa\n6.3,2.9,5.6,1.8,x\n", encoding="utf-8")
    lines = run("predict", "-C", project, "--file", file).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["setosa", "virginica"]
    assert lines[1].endswith("row 2")

    rows = "".join(
        json.dumps(dict(zip(NAMES, values, strict=True))) + "\n" for values in ([5, 3, 1, 0.2], [6, 3, 5, 2])
    )
    piped = shell("predict", "-C", project, "--json", stdin=rows)
    assert [p["origin"] for p in piped.json["predictions"]] == ["stdin, line 1", "stdin, line 2"]

    wrong = run("predict", "-C", project, "sepal_lenght=1", "--json")
    assert wrong.code == 2 and "sepal_length" in json.dumps(wrong.json)
    both = run("predict", "-C", project, *FLOWER, "--file", file, "--json")
    assert (both.code, both.json["error"]["where"]) == (2, "--file")


def test_predict_into_a_file(run: Any, project: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    lines = [",".join(map(str, VALUES)) for _ in range(3)]
    rows.write_text("\n".join([",".join(NAMES), *lines]) + "\n", encoding="utf-8")
    answers = tmp_path / "answers.jsonl"
    result = run("predict", "-C", project, "--file", rows, "--output", answers, "--keep-inputs")
    assert result.code == 0 and result.out == f"3 rows answered in {answers}\n" and "predict: answering" in result.err
    written = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert [row["predicted_label"] for row in written] == ["setosa"] * 3 and written[0]["sepal_length"] == "5.1"
    with rows.open("a", encoding="utf-8") as file:
        file.write("wide,1,1,1\n")
    refused = run("predict", "-C", project, "--file", rows, "--output", answers, "--json")
    assert (
        refused.code == 2
        and "--skip-bad" in refused.json["error"]["mend"]
        and "row 4" in refused.json["error"]["where"]
    )
    found = run("predict", "-C", project, "-f", rows, "-o", answers, "--skip-bad", "--scores", "--json").json
    assert (found["rows"], found["rejected"], found["rejects"]) == (3, 1, f"{answers}.rejects.jsonl")
    assert "1 left out" in run("predict", "-C", project, "-f", rows, "-o", answers, "--skip-bad").out
    for arguments in (["-o", answers], [*FLOWER, "-o", answers, "-f", rows], [*FLOWER, "--skip-bad"]):
        wrong = run("predict", "-C", project, *arguments, "--json")
        assert wrong.code == 2 and wrong.json["error"]["mend"].startswith("Give --")


def test_export_and_load(run: Any, project: Path, tmp_path: Path) -> None:
    assert run("export", "-C", project, "champion", tmp_path / "package").code == 0
    import tidemill

    assert tidemill.load(tmp_path / "package").predict([dict(zip(NAMES, VALUES, strict=True))])
    assert run("export", "-C", project, "champion", tmp_path / "package", "--json").json["error"]["code"] == "conflict"


def test_trace_gc_and_doctor(run: Any, project: Path) -> None:
    model = run("models", "-C", project, "--json").json[0]["id"]
    assert run("trace", "-C", project, model, "--json").json["record"]["id"] == model
    text = run("trace", "-C", project, model).out
    assert text.startswith(f"model  {model}") and "dataset  data_" in text and "cycle  cycle_" in text
    assert run("trace", "-C", project, "nonsense", "--json").code == 2
    assert run("gc", "-C", project, "--dry-run", "--json").json["dry_run"] is True
    assert "would remove" in run("gc", "-C", project, "--dry-run").out
    result = run("doctor", "-C", project)
    assert result.code == 0 and "✓" in result.out and "champion" in result.out


def test_doctor_needs_no_project(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {c["check"] for c in run("doctor", "--json").json} >= {"Python", "torch"}


def test_promote_by_hand_and_roll_back(run: Any, project: Path) -> None:
    models = run("models", "-C", project, "--json").json
    champion = next(m["id"] for m in models if m["champion"])
    other = next(m["id"] for m in models if not m["champion"])
    assert run("promote", "-C", project, other).code == 2  # a reason is asked for
    done = run("promote", "-C", project, other, "--reason", "to see it", "--json").json
    assert (done["model_id"], done["reason"], done["action"]) == (other, "to see it", "promote")
    assert run("rollback", "-C", project, "--json").json["model_id"] == champion
    told = run("promote", "-C", project, other, "--reason", "again").out
    assert told.split()[:2] == ["champion", other] and "tidemill rollback" in told
    assert run("rollback", "-C", project).out.split()[:2] == ["champion", champion]


def test_serve_feedback_and_label(run: Any, shell: Any, project: Path, tmp_path: Path) -> None:
    inputs = dict(zip(NAMES, VALUES, strict=True))
    with subprocess.Popen(
        [*PROGRAM, "serve", "-C", str(project), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        document = ""
        while not document.endswith("}\n"):
            document += server.stdout.readline()
        url = json.loads(document)["url"]
        body = json.dumps({"inputs": inputs}).encode()
        request = urllib.request.Request(f"{url}/v1/predict", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            prediction = json.load(response)["predictions"][0]["id"]
        server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
        assert (server.wait(timeout=20), rest) == (0, "")

    said = run(
        "feedback", "add", "-C", project, prediction, "virginica", "--author", "ada", "--key", "k1", "--json"
    ).json
    assert said["status"] == "accepted"
    assert (
        run("feedback", "add", "-C", project, prediction, "virginica", "--author", "ada", "--key", "k1").out.split()[3]
        == "repeated"
    )
    wrong = run("feedback", "add", "-C", project, prediction, "virginca", "--json")
    assert wrong.code == 2 and "virginica" in json.dumps(wrong.json)
    assert run("feedback", "export", "-C", project, tmp_path / "f.jsonl", "--json").json["rows"] == 1
    lines = tmp_path / "in.jsonl"
    lines.write_text(
        json.dumps({"prediction": prediction, "kind": "confirmation", "author": "bo", "key": "k2"}) + "\n",
        encoding="utf-8",
    )
    assert run("feedback", "import", "-C", project, lines, "--json").json["accepted"] == 1
    assert "virginica" in run("trace", "-C", project, prediction).out


def test_label_from_a_file_and_by_lines(run: Any, shell: Any, project: Path, tmp_path: Path) -> None:
    queue = run("label", "-C", project, "--list", "--json").json
    assert len(queue) == 20 and {q["purpose"] for q in queue} == {"audit", "settle", "useful"}
    assert queue[0]["subject"] in run("label", "-C", project, "--list").out

    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"subject": queue[0]["subject"], "label": "setosa"}) + "\n", encoding="utf-8")
    assert run("label", "-C", project, "--from", file, "--author", "ada", "--json").json == {"answers": 1}
    said = run("trace", "-C", project, queue[0]["subject"], "--json").json["annotations"][0]
    assert (said["label"], said["author"]) == ("setosa", "ada") and said["created"] > 0

    waiting = {q["id"] for q in run("label", "-C", project, "--list", "--json", "-n", "2000").json}
    typed = shell("label", "-C", project, "-n", "3", "--json", stdin="setossa\nsetosa\ns\nu\n2\n")
    assert typed.json == {"answered": 2, "skipped": 0, "left": 1}
    assert "Did you mean" in typed.err and "sepal length" in typed.err.replace("_", " ")
    left = {q["id"] for q in run("label", "-C", project, "--list", "--json", "-n", "2000").json}
    assert len(waiting - left) == 2


def test_label_takes_single_keys_on_a_terminal(project: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "label", "-C", str(project), "-n", "4"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        close_fds=True,
    ) as process:
        os.close(follower)
        try:
            seen = ""
            for number, key in enumerate(["1", "s", "3", "q"], start=1):
                while f"{number} of 4" not in seen or "q quit" not in seen.rsplit(f"{number} of 4", maxsplit=1)[-1]:
                    seen += _read(leader)
                os.write(leader, key.encode())  # no newline
            while "left" not in seen:
                seen += _read(leader)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    os.close(leader)
    assert "2 answered, 1 skipped, 1 left" in seen


def test_label_keeps_questions_hides_suggestions_and_takes_what_is_asked_by_hand(
    shell: Any, project: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(project, tmp_path / "iris")
    _configure(folder, annotation={"suggestion": "hidden", "audit_share": 0.0})
    opened = tidemill.open(folder)
    opened.store.delete(QueueItem, opened.store.ids(QueueItem, purpose="settle"))
    opened.store.insert(
        *(
            Prediction(id=f"pred_{n}", deployment="d", model_id="m", key=f"{n}", inputs={"petal_length": n},
                       answer={"label": label})
            for n, label in enumerate(("setosa", "virginica"))
        )
    )  # fmt: skip
    written = opened.ask(["pred_0"], widget="text")["subject"]
    pair = opened.ask(["pred_0", "pred_1"])["subject"]
    ann = shell("label", "-C", folder, "-n", "4", "--author", "ann", stdin="too long\n3\n2\n1\n")
    assert ann.out == "3 answered, 0 skipped, 1 left\n" and "1 left  2 right" in ann.err
    assert "there is no" not in ann.err and "the model says" not in ann.err and "the model is not sure" in ann.err
    assert [a.note for a in opened.store.find(Annotation, subject=written)] == ["too long"]
    (said,) = opened.feedback_list(kind="preference")["statements"]
    assert said["value"] == {"over": "pred_0"} and pair.endswith("pred_1")
    ben = shell("label", "-C", folder, "-n", "4", "--author", "ben", stdin="s\n1\n")
    assert ben.out == "1 answered, 1 skipped, 2 left\n"
    kept = [{t.question for t in opened.store.find(Turn, author=name)} for name in ("ann", "ben")]
    assert [len(some) for some in kept] == [4, 4] and not kept[0] & kept[1]
    assert len(opened.store.find(Turn, author="ben", state="skipped")) == 1


def _read(leader: int) -> str:
    ready, _, _ = select.select([leader], [], [], 30)
    assert ready, "nothing came from the program"
    return os.read(leader, 65536).decode(errors="replace")


def test_ctrl_c_stops_a_cycle_in_one_line(project: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "cycle", "-C", str(project)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), (first, err)
    assert err.splitlines()[-1] == "stopped; `tidemill cycle` goes on from here"
    assert "Traceback" not in err


def test_a_second_cycle_that_is_no_better_is_refused_and_fails_the_gate(
    run: Any, project: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "iris"
    shutil.copytree(project, folder)
    shutil.copy(project.parent / "iris.csv", tmp_path)
    result = run("cycle", "-C", folder, "--max-trials", "1", "--seed", "2")
    assert result.code == 0 and "─ refused ─" in result.out and "tidemill gate" in result.out
    assert "train: ridge" in result.err
    gate = run("gate", "-C", folder, "--json")
    assert (gate.code, gate.json["outcome"]) == (1, "refused")
    text = run("gate", "-C", folder)
    assert text.code == 1 and "✗" in text.out


def test_a_start_without_labels_asks_for_them(run: Any, shell: Any, tmp_path: Path) -> None:
    data = tmp_path / "new.csv"
    data.write_text("a,b,label\n" + "".join(f"{n % 7},{n},\n" for n in range(40)), encoding="utf-8")
    folder = tmp_path / "new"
    assert run("init", folder, "--data", data, "--label", "yes", "--label", "no").code == 0
    result = run("cycle", "-C", folder)
    assert (
        result.code == 0 and "labels needed" in result.out and "tidemill label   (40 questions waiting)" in result.out
    )
    assert shell("label", "-C", folder, "-n", "2", stdin="yes\n1\n").out == "2 answered, 0 skipped, 0 left\n"
    assert run("status", "-C", folder, "--json").json["live"]["labels_since_cycle"] == 2
    assert run("predict", "-C", folder, "a=1", "b=1", "--json").json["error"]["code"] == "not_ready"
    assert run("gate", "-C", folder, "--json").json["error"]["code"] == "not_ready"


def test_up_serves_until_it_is_stopped(project: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "up", "-C", str(project), "--port", "0", "--after-labels", "1000"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert first.startswith("serving  http://127.0.0.1:")


def test_what_cannot_be_read_is_said_in_words(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for data in ("nothing.csv", "empty.csv", "sklearn:nothing"):
        result = run("init", tmp_path / "p", "--data", data if ":" in data else tmp_path / data, "--json")
        assert result.code == 2 and result.json["error"]["mend"], data
    assert not (tmp_path / "p").exists()
