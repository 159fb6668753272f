"""Every page of the console over a large project: 1,000,000 samples, 1,000,000 predictions, 100,000 pieces of feedback,
20,000 answers of annotators.

    python benchmarks/console.py                     # about 15 minutes, most of it to make the project; 3 GB of disk
    python benchmarks/console.py --quick             # 20,000, 20,000, 2,000 and 400: a minute
    python benchmarks/console.py --store postgresql://postgres@/mill?host=/tmp    # an empty one
    python benchmarks/console.py --keep FOLDER       # the project that FOLDER holds from a run before, or a new one

The project is a real one: a table of parcels is prepared, two models are made of it, and the service answers in a
process of its own. Predictions and feedback are put into the tables as the journal's ingester and the feedback writer
put them there. Each page is opened so many times by one visitor, in turn with all others, after one look that is not
counted: what takes long is found out in the background and kept. In each round annotators answer a question, too, and
get the next one, once as the page does it and once as programs do. Shown are milliseconds until all of it has come;
promised is that 95 of 100 pages take less than 200, and 95 of 100 next questions less than 50.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tidemill
from _common import machine, table
from serving import free_port
from tidemill.records import Annotation, Feedback, LiveKey, Model, Prediction, QueueItem, Turn, new_id
from tidemill.store import Store
from tidemill.store.glances import last_number

PROMISE, PROMISE_NEXT = 200.0, 50.0
CHUNK = 1000
DAY = 86_400.0
ANNOTATOR = "ann"
CARRIERS = ("post", "bike", "van", "rail")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--predictions", type=int)
    parser.add_argument("--feedback", type=int)
    parser.add_argument("--answers", type=int, help="of annotators, a fifth of the feedback unless given")
    parser.add_argument("--rounds", type=int, default=100, help="how often each page is opened")
    parser.add_argument("--store", help="URL of a database; SQLite unless given")
    parser.add_argument(
        "--folder", type=Path, help="where the project lies; the system's temporary folder unless given"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the project stays, to be measured again")
    parser.add_argument("--fill-only", action="store_true", help="with --keep: make the project, and measure later")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    usual = (20_000, 20_000, 2_000) if arguments.quick else (1_000_000, 1_000_000, 100_000)
    given = (arguments.samples, arguments.predictions, arguments.feedback)
    samples, predictions, pieces = (n if n is not None else k for n, k in zip(given, usual, strict=True))
    answers = pieces // 5 if arguments.answers is None else arguments.answers
    print(machine(), flush=True)
    with contextlib.ExitStack() as stack:
        place = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        folder, filled = place / "parcels", place / "filled.json"
        sizes = [samples, predictions, pieces, answers]
        if not (filled.is_file() and json.loads(filled.read_text()) == sizes):
            began = time.perf_counter()
            fill(project(folder, samples, arguments.store), predictions, pieces, answers)
            filled.write_text(json.dumps(sizes))
            print(f"made in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if arguments.fill_only:
            return
        found = measure(folder, 20 if arguments.quick else arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    rows = [
        [
            name,
            f"{line['p50']:.0f}",
            f"{line['p95']:.0f}",
            f"{line['most']:.0f}",
            f"{line['first']:.0f}",
            f"{line['kb']:.0f}",
        ]
        for name, line in found.items()
    ]
    print(table(["page", "p50 ms", "p95 ms", "most ms", "first look ms", "kB"], rows))
    late = [n for n, line in found.items() if line["p95"] > (PROMISE_NEXT if n.startswith("next") else PROMISE)]
    print(f"over {PROMISE:g} ms, or {PROMISE_NEXT:g} for a next question: {', '.join(late) or 'none'}")


def project(folder: Path, samples: int, store: str | None) -> tidemill.Project:
    """A project of parcels after one cycle."""
    rng = np.random.default_rng(0)
    distance, weight = rng.gamma(2, 60, samples), rng.gamma(2, 2, samples)
    late = (distance / 200 + weight / 10 + rng.normal(0, 0.5, samples)) > 1
    columns = {
        "distance_km": distance.round(3),
        "weight_kg": weight.round(3),
        "carrier": rng.choice(CARRIERS, samples),
        "depot": np.char.add("depot ", rng.integers(0, 300, samples).astype(str)),
        "late": np.where(late, "yes", "no"),
    }
    folder.parent.mkdir(exist_ok=True, parents=True)
    source = folder.parent / "parcels.parquet"
    pq.write_table(pa.table(columns), source)
    settings: dict[str, Any] = {} if store is None else {"store": store}
    made = tidemill.init(folder, data=source, target="late", recipes={"include": ["ridge"]}, **settings)
    made.cycle(max_trials=0, max_epochs=1)
    made.data(search=False)
    return made


def fill(made: tidemill.Project, predictions: int, pieces: int, answers: int) -> None:
    """Answers of a week, what people said of some, and what annotators answered when they were asked."""
    rng = np.random.default_rng(1)
    store, model = made.store, str((made.champion or {})["id"])
    deployment, now = store.champion(), time.time()
    assert deployment is not None
    subjects: list[str] = []
    every = max(1, predictions // pieces)
    times = np.sort(now - rng.random(predictions) * 7 * DAY).tolist()
    drawn = rng.random(predictions) < 0.05
    for start in range(0, predictions, CHUNK):
        some = []
        for i in range(start, min(start + CHUNK, predictions)):
            label, score = ("yes", "no")[i % 3 == 0], 0.5 + (i % 50) / 100
            answer = {"label": label, "score": score, "scores": {label: score}}
            inputs: dict[str, Any] = {
                "distance_km": i % 900 / 3,
                "weight_kg": i % 70 / 7,
                "carrier": CARRIERS[i % 4],
                "depot": f"depot {i % 300}",
            }
            some.append(
                Prediction(id=new_id("pred"), created=times[i], deployment=deployment.id, model_id=model,
                           key=f"{i:016x}", inputs=inputs, answer=answer, audited=bool(drawn[i]),
                           audit_probability=0.05)
            )  # fmt: skip
            if i % every == 0:
                subjects.append(some[-1].id)
        keys = [
            LiveKey(
                id=new_id("key"),
                key=p.key,
                split="recent-test",
                probability=0.05,
                drawn=True,
            )
            for p in some
            if p.audited
        ]
        store.insert(*some, *keys)
    for chunk in _chunks(pieces):
        store.insert(*(_statement(subjects[i % len(subjects)], i, rng, now) for i in chunk))
    for chunk in _chunks(answers):
        store.insert(*(record for i in chunk for record in _answered(subjects[i * 5 // 6 % len(subjects)], i, now)))
    made.requeue()


def _answered(subject: str, i: int, now: float) -> tuple[Annotation | Turn | QueueItem, ...]:
    """One of eight annotators has answered a question; every fifth question was asked of two, who mostly agree."""
    author, when = f"annotator {i % 8}", now - 7 * DAY + i
    question = QueueItem(id=new_id("ask"), subject=subject, purpose="useful", rank=float(i), reason="the model wavers",
                         inputs={"carrier": CARRIERS[i % 4]}, done=True, given=1)  # fmt: skip
    state: Literal["answered", "skipped"] = "skipped" if i % 10 == 9 else "answered"
    label = ("yes", "no")[i % 11 == 0]
    said = Annotation(id=new_id("label"), created=when, subject=subject, label=label, author=author, purpose="useful")
    turn = Turn(id=new_id("turn"), question=question.id, subject=subject, author=author, state=state, until=when,
                answer=said.id if state == "answered" else None)  # fmt: skip
    return (question, turn, said) if state == "answered" else (question, turn)


def _chunks(n: int) -> Iterator[range]:
    for start in range(0, n, CHUNK):
        yield range(start, min(start + CHUNK, n))


def _statement(subject: str, i: int, rng: np.random.Generator, now: float) -> Feedback:
    kind = "correction" if i % 10 < 7 else "confirmation" if i % 10 < 9 else "comment"
    value = {"correction": ("yes", "no")[i % 3 == 0], "confirmation": None, "comment": f"remark {i}"}[kind]
    return Feedback(
        id=new_id("fb"), created=now - float(rng.random()) * 7 * DAY, subject=subject, kind=kind, value=value,
        author=f"author {i % 200}", key=new_id("k"), asked=i % 20 == 0,
    )  # fmt: skip


def pages(store: Store, client: httpx.Client) -> dict[str, str]:
    """Addresses by name: each page, and deep into those that are long."""
    model = store.find(Model, newest_first=True, limit=2)
    feedback, prediction = last_number(store, Feedback), store.find(Prediction, limit=1)[0]
    samples = client.get("/data/samples").text
    sample = samples.split("/data/samples/smp_")[1].split("?")[0].split('"')[0]
    return {
        "loop": "/",
        "loop, what lives": "/?part=live",
        "data": "/data",
        "samples": "/data/samples",
        "samples, of one label, deep": "/data/samples?split=train&label=yes&from=500000",
        "samples that hold a text": "/data/samples?q=depot%20299",
        "one sample": f"/data/samples/smp_{sample}",
        "models": "/models",
        "label": f"/label?as={ANNOTATOR}",
        "progress of labelling": f"/label/progress?as={ANNOTATOR}",
        "one model": f"/models/{model[0].id}",
        "report": f"/models/{model[0].id}/report",
        "two models": f"/models/compare?of={model[0].id}&of={model[1].id}",
        "runs": "/models/runs",
        "try it": "/try",
        "feedback": "/feedback",
        "feedback, deep": f"/feedback?before={feedback // 2}",
        "feedback of one author": "/feedback?author=author%207",
        "feedback of nobody": "/feedback?author=nobody",
        "feedback of a kind": "/feedback?kind=comment",
        "authors": "/feedback/authors",
        "trace of a prediction": f"/trace?id={prediction.id}",
        "trace of a model": f"/trace?id={model[0].id}",
    }


def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each page."""
    port = free_port()
    command = [sys.executable, "-m", "tidemill", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    opened = tidemill.open(folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _await(client)
            first, times, sizes = {}, {}, {}
            wanted = pages(opened.store, client)
            for name, path in wanted.items():
                first[name], sizes[name] = _look(client, path)
            while "being" in client.get("/feedback/authors").text:  # found out in the background, once
                time.sleep(1)
            for _ in range(rounds):
                for name, path in wanted.items():
                    taken, sizes[name] = _look(client, path)
                    times.setdefault(name, []).append(taken)
                for name, (taken, sizes[name]) in _next_questions(client).items():
                    first.setdefault(name, taken)
                    times.setdefault(name, []).append(taken)
    finally:
        process.terminate()
        process.wait(60)
    return {
        name: {
            "p50": float(np.median(taken)), "p95": float(np.quantile(taken, 0.95)), "most": max(taken),
            "first": first[name], "kb": sizes[name],
        }
        for name, taken in times.items()
    }  # fmt: skip


def _look(client: httpx.Client, path: str) -> tuple[float, float]:
    began = time.perf_counter()
    answer = client.get(path)
    taken = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, (path, answer.status_code)
    return taken, len(answer.content) / 1000


def _next_questions(client: httpx.Client) -> dict[str, tuple[float, float]]:
    """Milliseconds to the question after one that was answered, and kB, as the page gets it and as programs do."""
    page = client.get("/label", params={"as": ANNOTATOR}).text
    fields = {n: re.search(f'name="{n}" value="([^"]+)"', page) for n in ("code", "question", "subject", "widget")}
    said = {name: found[1] for name, found in fields.items() if found is not None}
    client.post("/label", data={**said, "as": ANNOTATOR, "label": "yes"}, headers={"x-part": "1"}).raise_for_status()
    asked = _look(client, f"/label/question?as={ANNOTATOR}")
    kept = client.post("/v1/questions", json={"author": "bea"}).json()["questions"][0]
    answer = {"subject": kept["subject"], "label": "no"}
    client.post("/v1/answers", json={"author": "bea", "answers": [answer]}).raise_for_status()
    began = time.perf_counter()
    told = client.post("/v1/questions", json={"author": "bea"})
    taken = (time.perf_counter() - began) * 1000
    assert told.status_code == 200 and told.json()["questions"], told.text
    return {"next question, page": asked, "next question, API": (taken, len(told.content) / 1000)}


def _await(client: httpx.Client) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    sys.exit("the service was never ready")


if __name__ == "__main__":
    main()
