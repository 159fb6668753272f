"""``GET /metrics``: what is counted is what happened, in words that Prometheus reads, by every process that serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from small_project import Served, SmallProject, digit, served

from tidemill.errors import StoreError
from tidemill.records import Rollout, Watch
from tidemill.serving.exposition import _serving
from tidemill.serving.metrics import SECONDS, Colleagues, Histogram, Meter, route_of
from tidemill.serving.tokens import make_token
from tidemill.store import Store, unfolded

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.3"}


def scrape(service: Served | httpx.Client, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    client = service.client if isinstance(service, Served) else service
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    samples = [sample for family in parse_plain(answer.text) for sample in family.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples), "no sample twice"
    return found


def value(found: dict[Any, float], name: str, **labels: str) -> float | None:
    """The sum of the samples of this name that have these labels."""
    chosen = [v for (n, given), v in found.items() if n == name and set(labels.items()) <= given]
    return sum(chosen) if chosen else None


@pytest.fixture
def project(tmp_path: Path) -> Any:
    made = SmallProject.create(tmp_path)
    made.deploy(made.add_model("ridge"))
    with made.store:
        yield made


def test_what_is_counted_is_what_happened(project: SmallProject) -> None:
    with served(project) as running:
        before = scrape(running)
        rows = [3, 1, 2]
        ids = []
        for count in rows:
            answer = running.client.post("/v1/predict", json={"inputs": [digit(n) for n in range(count)]}).json()
            ids += [prediction["id"] for prediction in answer["predictions"]]
        assert running.client.post("/v1/predict", json={"inputs": {"imag": 1}}).status_code == 422
        said = {"prediction": ids[0], "kind": "correction", "value": "3", "key": "once"}
        assert [running.client.post("/v1/feedback", json=said).status_code for _ in range(2)] == [201, 200]
        running.client.post("/v1/feedback", json={**said, "value": "4"})
        running.client.get(f"/v1/trace/{ids[0]}")
        running.client.get("/v1/trace/nothing")
        running.client.get("/nothing/at/all")
        after = scrape(running)

    def grown(name: str, **labels: str) -> float:
        return (value(after, name, **labels) or 0) - (value(before, name, **labels) or 0)

    model = project.store.champion()
    assert model is not None
    assert grown("tidemill_requests_total", route="/v1/predict", status="200") == 3
    assert grown("tidemill_requests_total", route="/v1/predict", status="422") == 1
    assert grown("tidemill_requests_total", route="/v1/trace/*") == 2
    assert grown("tidemill_requests_total", route="other", status="404") == 1
    assert grown("tidemill_requests_total", route="/metrics", status="200") == 1
    assert grown("tidemill_predictions_total", model=model.model_id) == 6
    assert grown("tidemill_batch_rows_sum") == 7 and grown("tidemill_batch_rows_count") == 4
    for stage, times in {"queue": 4, "encode": 3, "predict": 3, "journal": 3, "total": 3}.items():
        assert grown("tidemill_stage_seconds_count", stage=stage) == times, stage
        assert grown("tidemill_stage_seconds_bucket", stage=stage, le="+Inf") == times
    parts = sum(grown("tidemill_stage_seconds_sum", stage=stage) for stage in ("encode", "predict", "journal"))
    assert 0 < parts <= grown("tidemill_stage_seconds_sum", stage="total")
    assert grown("tidemill_request_seconds_count", route="/v1/predict") == 4
    assert grown("tidemill_feedback_total", kind="correction", outcome="accepted") == 1
    assert grown("tidemill_feedback_total", kind="correction", outcome="repeated") == 1
    assert grown("tidemill_feedback_total", kind="correction", outcome="conflict") == 1
    assert value(after, "tidemill_queue_rows") == 0 and value(after, "tidemill_store_up") == 1
    assert value(after, "tidemill_swaps_total") == 1
    assert value(after, "tidemill_champion_info", model=model.model_id, deployment=model.id, recipe="ridge") == 1
    assert (value(after, "process_resident_memory_bytes", worker="1") or 0) > 1e6
    assert value(after, "tidemill_info") == 1 and value(after, "tidemill_journal_unfolded_bytes") == 0


def test_buckets_are_cumulative_and_in_order(project: SmallProject) -> None:
    with served(project) as running:
        running.client.post("/v1/predict", json={"inputs": digit(0)})
        text = running.client.get("/metrics").text
    for family in parse_plain(text):
        if family.type != "histogram":
            continue
        series: dict[Any, list[tuple[float, float]]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                key = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
                series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        assert series and all(ends == sorted(ends) and ends[-1][0] == float("inf") for ends in series.values())
        assert all(counts == sorted(counts) for counts in ([c for _, c in ends] for ends in series.values()))


def test_names_follow_the_conventions_in_both_formats(project: SmallProject) -> None:
    with served(project) as running:
        running.client.post("/v1/predict", json={"inputs": digit(0)})
        plain, opened = running.client.get("/metrics"), running.client.get("/metrics", headers=OPEN)
        strange = running.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=x, */*"})
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert opened.text.endswith("# EOF\n") and strange.status_code == 200
    families = list(parse_openmetrics(opened.text))
    assert {f.name for f in families} >= {"tidemill_stage_seconds", "tidemill_requests", "tidemill_champion"}
    assert len(families) > 20
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.name.startswith(("tidemill", "process_"))
        assert not {"milliseconds", "ms", "minutes", "kb", "mb", "percent"} & set(family.name.split("_")), family.name
    kinds = {family.name: family.type for family in families}
    assert kinds["tidemill_requests"] == "counter" and kinds["tidemill_champion"] == "info"
    assert all(f"# TYPE {name}_total counter" in plain.text for name, kind in kinds.items() if kind == "counter")


def test_a_token_for_it_is_an_administrators(project: SmallProject) -> None:
    _, admin = make_token(project.store, "prometheus", ["admin"])
    _, other = make_token(project.store, "shop", ["predict", "feedback", "label"])
    with served(project) as running:

        def status(token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return running.client.get("/metrics", headers=headers).status_code

        assert (status(None), status(other), status(admin)) == (401, 403, 200)


def test_what_triggers_found_is_told(project: SmallProject) -> None:
    columns = [
        {"column": "age", "type": "number", "size": 1.7, "moved": True},
        {"column": 'a "quoted"\\name', "type": "text", "size": 0.1, "moved": False},
    ]
    drift = {"columns": columns, "rows": 900}
    quality = {"metric": "accuracy", "value": 0.9, "low": 0.85, "high": 0.93, "floor": 0.8, "labels": 120}
    project.store.insert(
        Watch(id="watch_1", trigger="drift", looked=5.0, waiting="", found=drift, fired=4.0),
        Watch(id="watch_2", trigger="quality", looked=6.0, waiting="", found=quality, fault="a fault"),
    )
    with served(project) as running:
        scrape(running)
        found = scrape(running)
    assert value(found, "tidemill_drift_size", column="age", type="number") == 1.7
    assert value(found, "tidemill_drift_moved", column='a "quoted"\\name') == 0
    assert value(found, "tidemill_drift_inputs") == 900
    assert value(found, "tidemill_live_quality", metric="accuracy") == 0.9
    assert value(found, "tidemill_live_quality_low", metric="accuracy") == 0.85
    assert value(found, "tidemill_live_quality_high") == 0.93
    assert value(found, "tidemill_live_quality_labels") == 120
    assert value(found, "tidemill_trigger_fired_timestamp_seconds", trigger="drift") == 4
    assert value(found, "tidemill_trigger_fired_timestamp_seconds", trigger="quality") is None
    assert value(found, "tidemill_trigger_failed", trigger="quality") == 1
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`tidemill_.*?) \|", page, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(tidemill_\w+)`", row)}
    suffix = re.compile(r"_(bucket|count|sum)$")
    told = {name if "labels" in name else suffix.sub("", name) for name, _ in found if name.startswith("tidemill")}
    rolling = {"tidemill_rollout_info", "tidemill_rollout_share"}
    assert documented == told | rolling | {"tidemill_feedback_total", "tidemill_predictions_total"}


def test_a_roll_out_is_told_with_its_phase_and_share(project: SmallProject) -> None:
    champion = project.store.champion()
    assert champion is not None
    project.store.insert(
        Rollout(
            id="roll_1", name="default", champion_id=champion.model_id, challenger_id=champion.model_id, phase="canary",
            share=0.25, status="running", reason="a test",
        )
    )  # fmt: skip
    families = {family.name: family.samples for family in _serving(project.store)}
    (sample,) = families["tidemill_rollout"]
    assert sample.labels == {"phase": "canary", "challenger": champion.model_id, "rollout": "roll_1"}
    assert [sample.value for sample in families["tidemill_rollout_share"]] == [0.25]


def test_while_the_database_is_away_what_is_counted_is_told(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> Any:
        raise StoreError("the database cannot be reached")

    with served(project) as running:
        running.client.post("/v1/predict", json={"inputs": digit(0)})
        with monkeypatch.context() as patch:
            patch.setattr(Store, "champion", away)
            found = scrape(running)
    assert value(found, "tidemill_store_up") == 0 and value(found, "tidemill_champion_info") is None
    assert value(found, "tidemill_requests_total", route="/v1/predict") == 1


def test_the_journal_that_waits_is_told_with_its_age(project: SmallProject) -> None:
    assert unfolded(project.store) == (0, None)
    with served(project) as running:
        with project.store.lock("ingest"):  # nobody folds
            before = time.time()
            running.client.post("/v1/predict", json={"inputs": [digit(n) for n in range(3)]})
            left = unfolded(project.store)
            found = scrape(running)
        assert left.oldest is not None and left.bytes > 500 and before <= left.oldest <= time.time()
        assert value(found, "tidemill_journal_unfolded_bytes") == left.bytes
        assert 0 <= (value(found, "tidemill_journal_lag_seconds") or -1) < 60
    assert unfolded(project.store) == (0, None)


def test_several_processes_tell_the_numbers_of_all(project: SmallProject) -> None:
    script = Path(__file__).with_name("small_project.py")
    project.store.close()
    command = [sys.executable, str(script), str(project.dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with served(project) as running, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as far:
            for _ in range(3):
                assert far.post("/v1/predict", json={"inputs": digit(0)}).status_code == 200
            running.client.post("/v1/predict", json={"inputs": digit(1)})
            until = time.monotonic() + 30
            while value(found := scrape(running), "tidemill_requests_total", route="/v1/predict", worker="1") != 3:
                assert time.monotonic() < until
                time.sleep(0.1)
            assert value(found, "tidemill_requests_total", route="/v1/predict", worker="2") == 1
            assert value(found, "tidemill_predictions_total") == 4
            memory = [value(found, "process_resident_memory_bytes", worker=w) for w in ("1", "2")]
            assert memory[0] and memory[1] and memory[0] != memory[1]
            other.kill()
            other.wait()
            alone = scrape(running)
            assert value(alone, "tidemill_requests_total", worker="1") is None, "the dead tell nothing"
            assert value(alone, "tidemill_requests_total", route="/v1/predict", worker="2") == 1
        assert [path.name for path in (project.store.root / "metrics").iterdir()] == ["1.json"]
        with served(project) as running:
            assert value(scrape(running), "tidemill_swaps_total", worker="1") == 1, "it takes the dead one's place"
    assert list((project.store.root / "metrics").iterdir()) == []


def test_what_is_left_by_a_dead_or_half_written_is_not_told(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    folder = project.store.root / "metrics"
    folder.mkdir()
    (folder / "7.json").write_text(json.dumps({"pid": os.getpid(), "started": 1.0, "numbers": {}}))
    (folder / "8.json").write_text('{"pid": 1')
    (folder / "9.json").write_text(json.dumps({"pid": 2**22 + 5, "started": 1.0, "numbers": {}}))
    started = psutil.Process().create_time()
    (folder / "6.json").write_text(json.dumps({"pid": os.getpid(), "started": started, "numbers": {"a": 1}}))
    with project.store:
        first, second = (Colleagues(project.store, lambda n=n: {"own": n}) for n in (1, 2))  # type: ignore[misc]
        assert (first.number, second.number) == (1, 2)
        assert second.gather() == {2: (os.getpid(), {"own": 2}), 6: (os.getpid(), {"a": 1})}
        for colleague in (first, second):
            colleague.start()
            colleague.close()
        third = Colleagues(project.store, dict)
        assert third.number == 1
        third.start()
        third.close()


def test_routes_are_few_however_many_paths_there_are() -> None:
    paths = [f"/v1/trace/pred_{n}" for n in range(2000)] + [f"/x{n}" for n in range(2000)]
    paths += [f"/v2/models/m{n}/versions/{n}/infer" for n in range(100)]
    assert {route_of(path) for path in paths} == {"/v1/trace/*", "other", "/v2/models/*/infer"}


def test_threads_may_count_while_others_read() -> None:
    meter, stop = Meter(), threading.Event()

    def count() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            meter.request(f"/v1/trace/{n}", 200 + n % 300, 0.01)
            meter.answered(f"model_{n % 500}", 1)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(300):
            numbers = meter.to_json()
    finally:
        stop.set()
        thread.join()
    assert sum(count for *_, count in numbers["requests"]) > 0


def test_each_observation_lands_in_the_bucket_that_holds_it() -> None:
    times = Histogram(SECONDS)
    for bound in SECONDS:
        times.add(bound)
    times.add(0.0)
    times.add(1e9, 5)
    assert times.counts == [2, *[1] * (len(SECONDS) - 1), 5]
