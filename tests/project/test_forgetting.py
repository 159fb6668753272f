"""What a person gave is gone, byte for byte, wherever it went; ids stay; what cannot be erased is named."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _person import MARK, NAME, OTHER, asked, live, pictures, rooms, traces

import tidemill
from _postgres import Server
from tidemill.data.dataset import open_dataset
from tidemill.data.forgotten import WHAT
from tidemill.data.keys import key_int
from tidemill.data.splits import DROPPED
from tidemill.errors import BusyError, InputError, NotFoundError
from tidemill.project.forgetting import unfinished
from tidemill.records import (
    Annotation,
    Cycle,
    Deployment,
    Erasure,
    Feedback,
    LiveKey,
    Member,
    Prediction,
    QueueItem,
    Report,
    episode_of,
    pair_of,
)
from tidemill.store import JournalWriter, fold
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

BASELINES: dict[str, Any] = {"include": []}


@pytest.fixture(scope="module")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("person")
    ids = live(folder)
    return folder, ids


@pytest.fixture
def folder(_lived: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return shutil.copytree(_lived[0], tmp_path / "home")


@pytest.fixture
def ids(_lived: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return _lived[1]


@pytest.fixture
def project(folder: Path) -> Iterator[tidemill.Project]:
    opened = tidemill.open(folder / "p")
    with contextlib.closing(opened.store):
        yield opened


def state(root: Path) -> dict[str, bytes]:
    """Every file but those of the database, whose pages move, and of locks, which name their holder."""
    paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith("store.db")]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if p.parent.name != "locks"}


def test_nothing_of_a_person_is_left_and_everything_of_others(project: tidemill.Project, ids: dict[str, Any]) -> None:
    root, store = project.store.root, project.store
    before = traces(root, MARK)
    assert rooms(before) == {"archive", "crash-1.txt", "cycles.log", "data", "journal", "store.db"}
    others = {p.id: p for p in store.find(Prediction, caller="bob")}
    said = store.find(Feedback, author="bob", kind="correction")

    files = state(root)
    planned = project.forget(author=NAME, dry_run=True)
    assert state(root).keys() <= files.keys() and rooms(traces(root, MARK)) >= rooms(before) - {"journal"}
    assert planned["erasure"] is None and store.count(Erasure) == 0
    done = project.forget(author=NAME)
    assert {k: done["counts"][k] for k in planned["counts"]} == planned["counts"]
    assert planned["counts"] == {"predictions": 5, "feedback": 4, "labels": 1, "signatures": 1}
    assert done["models"] == planned["models"] and done["finished"] is not None

    store.delete(Prediction, [ids["same"]])  # somebody else sent the same text
    store.database.scrub([])
    assert traces(root, MARK) == set()
    del others[ids["same"]]
    assert {p.id: p for p in store.find(Prediction, caller="bob")} == others
    assert store.find(Feedback, author="bob", kind="correction") == said
    assert rooms(traces(root, OTHER)) == {"archive", "data", "store.db"}
    assert all(check["ok"] for check in project.doctor())


def test_ids_lead_to_tombstones_and_nothing_more_is_taken(project: tidemill.Project, ids: dict[str, Any]) -> None:
    erasure = project.forget(author=NAME)["erasure"]
    gone = [*ids["predictions"], *ids["feedback"], ids["about"], *ids["labels"]]
    assert len(gone) == 10
    for identifier in gone:
        line = project.trace(identifier)
        assert line["kind"] == "erased" and line["record"]["id"] == identifier
        assert line["record"]["erasure"] == erasure and line["record"]["erased"] is not None
    record = project.trace(erasure)["record"]
    assert set(record["subjects"]) > set(gone) and NAME not in json.dumps(record)
    assert [d.author for d in project.store.find(Deployment, action="promote")].count(None) >= 1
    one, label = ids["predictions"][0], project.signature.labels[0]
    for refused in (lambda: project.feedback(one, label), lambda: project.answer(one, label, author="bob")):
        with pytest.raises(NotFoundError, match=f"{one} was erased"):
            refused()
    assert project.forget(author=NAME)["counts"] == {} and project.store.count(Erasure) == 1


def test_the_next_cycle_learns_without_it(project: tidemill.Project, ids: dict[str, Any]) -> None:
    store, before = project.store, project.dataset
    assert before is not None
    first = store.find(Cycle)[0].dataset_id
    done = project.forget(author=NAME)
    named = {model["id"] for model in done["models"]}
    learned = {m["id"]: m for m in project.models()}
    assert named == {i for i, m in learned.items() if m["dataset_id"] == before.id} and named
    assert {m["dataset_id"] for i, m in learned.items() if i not in named} == {first}
    after = store.get(type(before), before.id)
    assert after.report["erased"] and after.counts["dropped"] - before.counts["dropped"] == 3, "two inputs, one label"
    assert sum(after.counts.values()) == sum(before.counts.values())
    made = project.cycle(max_trials=0)["dataset"]
    assert made["id"] != before.id and made["counts"]["train"] == before.counts["train"] - 2
    arrays = open_dataset(store.root, project.dataset)  # type: ignore[arg-type]
    row = arrays.row_of(ids["sample"])
    assert arrays.origin(row).endswith("row 8") and MARK not in repr([arrays.show(r) for r in range(arrays.n)])
    trained = {arrays.origin(r) for r in range(arrays.n) if arrays.split[r] != DROPPED}
    assert ids["his"][1] in trained and not trained & set(ids["predictions"])


def test_what_is_named_by_id_goes_and_what_is_equal_is_told(project: tidemill.Project, ids: dict[str, Any]) -> None:
    store, (one, two, *_) = project.store, ids["predictions"]
    done = project.forget(ids=[one, ids["feedback"][2]])
    assert done["counts"]["predictions"] == 1 and done["counts"]["feedback"] == 3, "also what was said of it"
    assert done["also_there"] == {"predictions": [ids["same"]], "samples": []}
    assert store.get(Prediction, one).erased and not store.get(Prediction, two).erased
    assert store.count(LiveKey, key=store.get(Prediction, ids["same"]).key) == 1
    assert project.trace(ids["about"])["kind"] == "erased" and project.trace(ids["feedback"][1])["kind"] == "fb"
    again = project.forget(ids=[one])
    assert again["already"] == [one] and again["counts"] == {} and again["erasure"] is None
    key = store.get(Prediction, two).key
    assert project.forget(ids=[two], same_content=True)["also_there"] == {"predictions": [], "samples": []}
    assert store.count(LiveKey, key=key) == 0, "nobody else has it"
    (label,) = ids["labels"]
    assert project.forget(ids=[label])["counts"]["labels"] == 1 and store.get(Annotation, label).erased
    aged = project.forget(ids=[ids["aged"]])
    assert aged["counts"]["predictions"] == 1 and rooms(traces(store.root, f"{MARK} long ago")) == set()
    assert project.trace(ids["aged"])["record"]["erasure"] == aged["erasure"]


def test_same_content_goes_too_when_that_is_asked_for(project: tidemill.Project, ids: dict[str, Any]) -> None:
    done = project.forget(ids=[ids["same"]], same_content=True)
    assert done["counts"]["predictions"] == 2 and done["also_there"] == {"predictions": [], "samples": []}
    assert project.store.get(Prediction, ids["predictions"][0]).erased


def test_a_sample_of_the_source_does_not_come_back(project: tidemill.Project, ids: dict[str, Any]) -> None:
    root, (source,) = project.store.root, [Path(p) for p in project.sources]
    text = f"{OTHER} in the source"
    key = np.uint64(key_int(ids["sample"].removeprefix("smp_"))).tobytes()
    assert rooms(traces(root, text)) == {"data"} and rooms(traces(root, key)) >= {"data"}
    done = project.forget(ids=[ids["sample"]])
    assert done["counts"]["samples"] == 1 and done["sources"] == [f"{source.name}, row 8"]
    assert done["counts"]["labels"] == 1, "what annotators said of it"
    assert any(model["champion"] for model in done["models"])
    assert traces(root, text) == traces(root, key) == traces(root, ids["sample"]) == set()
    assert project.trace(ids["sample"])["record"]["erasure"] == done["erasure"]
    assert project.forget(ids=[ids["sample"]])["already"] == [ids["sample"]]
    counts = []
    for _ in range(2):
        counts.append(project.cycle(max_trials=0)["dataset"]["counts"])
        (told,) = [a for a in project.dataset.report["actions"] if a["what"] == WHAT]  # type: ignore[union-attr]
        assert told == {"what": WHAT, "count": 1, "examples": []}
        assert traces(root, text) == set() and text in source.read_text("utf-8")
        with source.open("a", encoding="utf-8") as file:  # another fingerprint: it is imported anew
            file.write(json.dumps({"text": "one more parcel", "label": project.signature.labels[0]}) + "\n")
    assert sum(counts[1].values()) == sum(counts[0].values()) + 1
    with pytest.raises(NotFoundError, match="no dataset version holds the sample"):
        project.forget(ids=["smp_00000000000000ff"])


@pytest.mark.parametrize("given", [{}, {"author": "ann", "ids": ["pred_1"]}])
def test_either_a_name_or_ids(project: tidemill.Project, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="whom or what to forget"):
        project.forget(**given)


@pytest.mark.parametrize(
    ("identifier", "error", "said"),
    [
        ("model_01", InputError, "the id of nothing that a person gave"),
        ("nonsense", InputError, "the id of nothing that a person gave"),
        ("pred_01", NotFoundError, "there is no prediction"),
        ("smp_xyz", InputError, "is no key"),
    ],
)
def test_one_id_that_is_wrong_and_nothing_is_erased(
    identifier: str, error: type[Exception], said: str, project: tidemill.Project, ids: dict[str, Any]
) -> None:
    with pytest.raises(error, match=said):
        project.forget(ids=[ids["predictions"][0], identifier])
    assert project.store.count(Erasure) == 0 and not project.store.get(Prediction, ids["predictions"][0]).erased


def test_it_waits_for_neither_cycle_nor_backup_and_says_so(project: tidemill.Project) -> None:
    for lock, said in (("cycle", "a cycle is running"), ("backup", "a backup is being made")):
        with project.store.lock(lock), pytest.raises(BusyError, match=said):
            project.forget(author=NAME)
    assert project.store.count(Erasure) == 0


def test_a_cycle_that_was_interrupted_begins_anew(project: tidemill.Project) -> None:
    begun = Cycle(id="cycle_1", status="running", trigger="asked", seed=0, plan={})
    project.store.insert(begun)
    (project.store.root / "work" / "run_1").mkdir(parents=True)
    project.forget(author=NAME)
    assert project.store.get(Cycle, "cycle_1").status == "failed" and not (project.store.root / "work").exists()


def test_what_comes_again_with_its_old_id_is_not_kept(project: tidemill.Project, ids: dict[str, Any]) -> None:
    one = project.store.get(Prediction, ids["predictions"][0])
    project.forget(ids=[one.id])
    writer = JournalWriter(project.store.root)
    writer.submit(one).result()  # the same request once more, with the same idempotency key
    writer.close()
    assert fold(project.store) == 0 and project.store.get(Prediction, one.id).erased


def test_backups_are_named_and_bring_it_back(project: tidemill.Project, tmp_path: Path, ids: dict[str, Any]) -> None:
    for name in ("one", "two"):
        project.backup(tmp_path / name)
    (tmp_path / "one").unlink()
    done = project.forget(author=NAME)
    assert [Path(b["path"]).name for b in done["backups"]] == ["two"]
    project.backup(tmp_path / "three")
    assert [Path(b["path"]).name for b in project.forget(author="nobody")["backups"]] == ["two", "three"]
    for name, kept in (("two", True), ("three", False)):
        back = tidemill.restore(tmp_path / name, tmp_path / "home" / f"from-{name}")
        with contextlib.closing(back.store):
            assert (MARK in repr(back.store.find(Prediction, id=ids["predictions"]))) is kept
            assert back.forget(author=NAME)["counts"].get("predictions", 0) == (5 if kept else 0)


def test_models_of_versions_whose_files_are_gone_are_named_on_suspicion(
    project: tidemill.Project, ids: dict[str, Any]
) -> None:
    versions = [project.store.get(Cycle, c.id).dataset_id for c in project.store.find(Cycle)]
    shutil.rmtree(project.store.root / "data" / "versions" / str(versions[0]))
    done = project.forget(ids=[ids["sample"]])
    assert {m["id"] for m in done["models"]} == {m["id"] for m in project.models()}
    assert "1 older dataset versions are gone" in done["notes"][0]


def test_a_token_of_the_same_name_is_told_of(project: tidemill.Project) -> None:
    token = project.new_token(NAME, ["predict"])
    (note,) = project.forget(author=NAME)["notes"]
    assert f"tidemill token revoke {token['id']}" in note


def person(folder: Path, *arguments: int) -> Any:
    """What _person.py says as a program."""
    program = [sys.executable, str(Path(__file__).with_name("_person.py")), str(folder), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_kill_at_any_moment_is_gone_on_with_when_the_project_is_opened(folder: Path, ids: dict[str, Any]) -> None:
    places = 3
    found = person(folder / "p", places)
    assert [status for _, status in found] == [-signal.SIGKILL] * places
    left = 0
    for copy, _ in found:
        opened = tidemill.open(copy)
        with contextlib.closing(opened.store) as store:
            assert unfinished(store) == []
            left += store.count(Erasure) == 0  # it was killed before anything was named
            done = opened.forget(author=NAME)
            assert bool(done["counts"]) == (store.count(Erasure) == 1 and done["erasure"] is not None)
            store.delete(Prediction, [ids["same"]])
            store.database.scrub([])
            assert traces(store.root, MARK) == set()
            (erasure,) = store.find(Erasure)
            assert set(erasure.subjects) >= {*ids["predictions"], *ids["feedback"], *ids["labels"]}
            assert store.count(Prediction, caller="bob") == 2 and len(erasure.models) == 3
    assert left < places / 2


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own: its WAL is looked into, and not kept for later."""
    made = Server("fsync=off", "full_page_writes=off", "wal_recycle=off", "min_wal_size=32MB", "autovacuum=off")
    with contextlib.closing(made):
        made.start()
        yield made


def test_nothing_of_a_person_is_left_in_postgresql(
    server: Server, project: tidemill.Project, folder: Path, ids: dict[str, Any]
) -> None:
    project.backup(folder / "a")
    there = tidemill.restore(folder / "a", folder / "there", store=server.url())
    (folder / "there" / ".tidemill" / "cycles.log").write_text(MARK)
    data = server.folder / "data"
    with contextlib.closing(there.store) as store, server.connect() as connection:
        connection.execute("ANALYZE")
        connection.execute("CHECKPOINT")
        assert rooms(traces(data, MARK)) == {"base", "pg_wal"} and traces(store.root, MARK)
        (most,) = connection.execute(
            "SELECT count(*) FROM pg_stats WHERE most_common_vals::text LIKE %s", [f"%{NAME}%"]
        )
        assert most[0] > 0, "the server notes what is frequent"
        store.delete(Prediction, [ids["same"]])  # somebody else sent the same text
        assert person(there.dir, 1, 450) == -signal.SIGKILL
        (begun,) = unfinished(store)
        assert traces(store.root, MARK) or traces(data, MARK)
        tidemill.open(there.dir).store.close()
        assert unfinished(store) == [] and set(begun.subjects) >= set(ids["predictions"])
        assert there.forget(author=NAME)["notes"] == []
        for _ in range(2):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        assert traces(store.root, MARK) == set()
        assert {path for path in traces(data, MARK) if not path.startswith("pg_wal")} == set()
        assert traces(data, MARK) == set(), "WAL that is not recycled goes with the checkpoints"
        assert traces(data, OTHER) and store.count(Prediction, caller="bob") == 2


def test_of_an_image_no_pixel_is_left(tmp_path: Path) -> None:
    data = write_records(tmp_path / "data", get_task("image-classification").sample_data(0, 120))
    project = tidemill.init(tmp_path / "p", data=data, target="label", recipes=BASELINES)
    with contextlib.closing(project.store) as store:
        project.cycle(max_trials=0)
        project.data(search=False)
        arrays = open_dataset(store.root, project.dataset)  # type: ignore[arg-type]
        shown = json.loads((store.root / project.dataset.path / "profile.json").read_text())["pictures"]  # type: ignore[union-attr]
        (column,) = [f.name for f in arrays.signature.inputs]
        rows = [
            row
            for row in arrays.rows("train").tolist()
            if any(
                pictures(arrays.parts[0].columns[column][row])[1].decode() in url for p in shown for url in p["images"]
            )  # type: ignore[arg-type]
        ]
        row = rows[0]
        inputs = arrays.show(row)
        needles = pictures(np.array(arrays.parts[0].columns[column][row]))  # type: ignore[arg-type]
        again = asked(project, inputs, caller="somebody")
        store.insert(again)
        assert all(traces(store.root, needle) for needle in needles)
        sample = arrays.sample_id(row)
        done = project.forget(ids=[sample], same_content=True)
        assert done["counts"]["samples"] == 1 and done["counts"]["predictions"] == 1
        assert traces(store.root, *needles) == set()
        project.data(search=False)
        for file in data.rglob("*.png"):
            os.utime(file)
        project.cycle(max_trials=0)
        assert traces(store.root, *needles) == set()
        assert [a["count"] for a in project.dataset.report["actions"] if a["what"] == WHAT] == [1]  # type: ignore[union-attr]


def test_of_rows_of_a_table_only_models_know(tmp_path: Path) -> None:
    records = get_task("tabular-classification").sample_data(0, 150)
    for row, label in ((11, "yes"), (12, "no"), (13, "no")):
        records[row] |= {"size": "0.123456789", "kind": f"{MARK}-11", "label": label}
    data = write_records(tmp_path / "data", records)
    project = tidemill.init(tmp_path / "p", data=data, target="label", recipes=BASELINES)
    with contextlib.closing(project.store) as store:
        project.cycle(max_trials=0)
        project.data(search=False)
        needles = (f"{MARK}-11", np.float64(0.123456789).tobytes())
        assert rooms(traces(store.root, *needles)) >= {"data"}
        made = asked(project, {"size": 0.123456789, "kind": f"{MARK}-11"}, caller=NAME)
        store.insert(made)
        told = project.forget(ids=[made.id], dry_run=True)["also_there"]
        assert len(told["samples"]) == 2, "equal inputs of two labels are two samples"
        done = project.forget(ids=[made.id], same_content=True)
        assert done["counts"]["samples"] == 3 and done["also_there"] == {"predictions": [], "samples": []}
        assert all(project.trace(sample)["record"]["erasure"] == done["erasure"] for sample in told["samples"])
        kept = traces(store.root, *needles)
        assert rooms(kept) <= {"models"} and {Path(path).parts[1] for path in kept} <= {m["id"] for m in done["models"]}
        project.cycle(max_trials=0)
        fresh = {m["id"] for m in project.models()} - {m["id"] for m in done["models"]}
        assert fresh and not fresh & {Path(path).parts[1] for path in traces(store.root, *needles)}
        assert rooms(traces(store.root, *needles)) <= {"models"}


def test_of_pairs_and_episodes_only_what_speaks_of_others_too_stays(
    project: tidemill.Project, ids: dict[str, Any]
) -> None:
    store, (one, two, *_), (his, _) = project.store, ids["predictions"], ids["his"]
    alone, shared = episode_of(f"chat of {MARK}"), episode_of("a chat of both")
    said = {
        "pair": (pair_of(one, his), "bob", (one, his)),
        "alone": (alone, "bob", (one, two)),
        "shared": (shared, "bob", (one, his)),
        "hers": (shared, NAME, (one, his)),
    }
    for name, (subject, author, members) in said.items():
        item = Feedback(
            id=f"fb_{name}", subject=subject, kind="reward", value=1.0, author=author, key=name, predictions=members
        )
        assert store.add_feedback([item])[0].status == "accepted"
    project.forget(author=NAME)
    gone = {name for name in said if store.get(Feedback, f"fb_{name}").erased}
    assert gone == {"pair", "alone", "hers"}
    assert (
        store.get(Feedback, "fb_shared").predictions == (one, his) and store.get(Feedback, "fb_alone").predictions == ()
    )
    left = {member.subject for member in store.find(Member)}
    assert shared in left and alone not in left and pair_of(one, his) not in left
    assert traces(store.root, f"chat of {MARK}") == set()


def test_mistakes_in_reports_and_questions_are_rid_of_it(project: tidemill.Project, ids: dict[str, Any]) -> None:
    store = project.store
    entry = {"sample": ids["sample"], "origin": "data.jsonl, row 8", "inputs": {"text": MARK}, "loss": 1.0}
    kept = {**entry, "sample": "smp_1", "origin": "data.jsonl, row 9", "inputs": {"text": OTHER}}
    report = store.find(Report, split="validation")[0]
    store.insert(Report(id="report_1", model_id=report.model_id, dataset_id=report.dataset_id, split="validation",
                        content={**report.content, "mistakes": [entry, kept]}))  # fmt: skip
    store.insert(
        *(QueueItem(id=f"ask_{i}", subject=s, purpose=p, rank=0, reason=MARK, inputs={})
          for i, (s, p) in enumerate([(ids["sample"], "useful"), (ids["his"][0], "settle"), (ids["his"][0], "useful")]))
    )  # fmt: skip
    done = project.forget(ids=[ids["sample"], ids["feedback"][2]])
    assert store.get(Report, "report_1").content["mistakes"] == [kept]
    assert {q.id for q in store.find(QueueItem) if q.id.startswith("ask_") and len(q.id) == 5} == {"ask_2"}
    assert done["counts"]["reports"] == 1
