"""The loop on real handwritten digits, in three cycles: a start, a better model from use, a bad one refused.

Everything in it is the real thing: a server on a loopback port, traffic and feedback over HTTP, the gate as it stands.
Only the users are played: they know the true digit, answer when the audit asks, sometimes confirm, and mostly correct
what was wrong. Before the third cycle one of them goes astray and flips labels; afterwards he takes it back.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tidemill.api.opening import init
from tidemill.api.project import Project
from tidemill.errors import ConflictError
from tidemill.loop import OnEvent, unheard
from tidemill.project import STATE
from tidemill.records import JSON, Model, Report
from tidemill.store import make_secret

START = 145
"""Labelled images at the start; after validation is set aside, about 100 of them train."""
JUDGE = 350
"""Images kept as the reference test set."""
AUDIT = 0.5
"""More than a project with much traffic would draw: what is left of these few images has to suffice to judge."""
BATCH = 50
FLIPPED = 500
"""So many labels are flipped; nobody speaks of most of the other answers, so that `tidemill label` has questions."""
CONFIRM, CORRECT = 0.35, 0.9
"""How often a user confirms a right answer, and corrects a wrong one."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """One answer of the service, and the digit that was really shown."""

    id: str
    label: str
    truth: str
    audit: bool


def run(folder: Path, on_event: OnEvent = unheard) -> JSON:
    """Run the demo in *folder*, and leave a project there.

    Returns:
        ``{"cycles": [{"cycle", "recipe", "reference", "recent", "latency_ms", "size_bytes", "outcome", "reason"}],
        "folder", "next"}``.

    Raises:
        ConflictError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError("the folder is not empty", where=str(folder), mend="Name another with --dir, or remove it.")
    rng = np.random.default_rng(0)
    traffic, truths = _prepare_data(folder, rng)
    (folder / STATE).mkdir()
    make_secret(folder / STATE, hashlib.sha256(b"tidemill demo").digest())  # the audit draws the same every time
    project = init(
        folder,
        data=folder / "digits.npz",
        target="label",
        splits={"validation": 0.3},
        audit={"rate": AUDIT},
        gate={"tests": 3},  # the demo judges three times
        feedback={"trust": False},  # otherwise flipped labels would be held back, and the gate had nothing to refuse
        cycle={"max_trials": 1},
    )
    rows = [_cycle(project, on_event)]
    with _served(project) as client:
        answered = _send_traffic(client, traffic, truths, on_event)
        _give_feedback(client, answered, rng, on_event)
        rows.append(_cycle(project, on_event))
        _wait_for(client, project)
        flipped = [a for a in answered if not a.audit][:FLIPPED]
        _state(client, flipped, lambda a: str((int(a.truth) + 1) % 10), on_event, "a user flips labels")
        rows.append(_cycle(project, on_event))
        _state(client, flipped, lambda a: a.truth, on_event, "the user takes it back")
    return {"cycles": rows, "folder": str(folder), "next": _next(folder, project.champion_deployment().model_id)}


def _prepare_data(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Write the labelled start and the test set; the images and digits that arrive as traffic."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    order = rng.permutation(len(images))
    start, judge, rest = np.split(order, [START, START + JUDGE])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / "digits.npz",
        x_train=images[start],
        y_train=digits.target[start],
        x_test=images[judge],
        y_test=digits.target[judge],
    )
    return images[rest], [str(digit) for digit in digits.target[rest]]


def _cycle(project: Project, on_event: OnEvent) -> JSON:
    """Run a cycle; its row of the table."""
    done = project.cycle(on_event=on_event)
    decision = done["decision"]
    model = project.store.get(Model, decision["challenger_id"])
    reports = {r.split: r.content for r in project.store.find(Report, model_id=model.id)}
    return {
        "cycle": len(project.cycles()),
        "recipe": model.recipe,
        "recipes": {c["recipe"]: c.get("validation") for c in done["candidates"]},
        "reference": reports["reference"]["metrics"]["accuracy"],
        "recent": reports["recent-test"]["metrics"]["accuracy"] if "recent-test" in reports else None,
        "latency_ms": reports["reference"]["latency"]["single"]["p50_ms"],
        "size_bytes": model.size_bytes,
        "outcome": decision["outcome"],
        "reason": decision["reason"],
        "seconds": done["seconds"],
    }


@contextmanager
def _served(project: Project) -> Iterator[httpx.Client]:
    """The project's service on a free loopback port, and a client for it."""
    from tidemill.serving.server import serve

    ready, stop, port = threading.Event(), threading.Event(), [0]
    failed: list[BaseException] = []

    def on_ready(bound: int) -> None:
        port[0] = bound
        ready.set()

    def run_server() -> None:
        try:
            serve(project, "127.0.0.1", 0, on_ready, stop)
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run_server, name="tidemill-demo-server")
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        with httpx.Client(base_url=f"http://127.0.0.1:{port[0]}", timeout=30.0) as client:
            yield client
    finally:
        stop.set()
        thread.join()


def _send_traffic(
    client: httpx.Client, images: np.ndarray[Any, Any], truths: Sequence[str], on_event: OnEvent
) -> list[_Answered]:
    """Ask for an answer to every image, some at a time."""
    answered: list[_Answered] = []
    for start in range(0, len(images), BATCH):
        inputs = [{"image": image.tolist()} for image in images[start : start + BATCH]]
        response = client.post("/v1/predict", json={"inputs": inputs}).raise_for_status().json()
        for answer, truth in zip(response["predictions"], truths[start : start + BATCH], strict=True):
            answered.append(_Answered(answer["id"], answer["label"], truth, answer["audit"]))
        _say(on_event, "traffic over HTTP", len(answered), len(images))
    return answered


def _give_feedback(
    client: httpx.Client, answered: Sequence[_Answered], rng: np.random.Generator, on_event: OnEvent
) -> None:
    """The audit's questions are answered; of the rest, users confirm some and correct most of the wrong ones."""
    said: list[JSON] = []
    for answer in answered:
        wrong = answer.label != answer.truth
        if answer.audit:
            said.append(_statement(answer, answer.truth, asked=True))
        elif rng.random() < (CORRECT if wrong else CONFIRM):
            said.append(_statement(answer, answer.truth, asked=False))
    _post(client, said, on_event, "feedback over HTTP")


def _state(client: httpx.Client, answers: Sequence[_Answered], label: Any, on_event: OnEvent, what: str) -> None:
    """One author says what these answers should have been."""
    said = [{"prediction": a.id, "kind": "correction", "value": label(a), "author": "user"} for a in answers]
    _post(client, said, on_event, what)


def _statement(answer: _Answered, truth: str, *, asked: bool) -> JSON:
    if answer.label == truth:
        return {"prediction": answer.id, "kind": "confirmation", "author": "user", "asked": asked}
    return {"prediction": answer.id, "kind": "correction", "value": truth, "author": "user", "asked": asked}


def _post(client: httpx.Client, said: Sequence[JSON], on_event: OnEvent, what: str) -> None:
    for start in range(0, len(said), BATCH):
        portion = list(said[start : start + BATCH])
        client.post("/v1/feedback", json={"feedback": portion}).raise_for_status()
        _say(on_event, what, start + len(portion), len(said))


def _wait_for(client: httpx.Client, project: Project) -> None:
    """Until the service answers with the promoted model: it follows within a second."""
    wanted = project.champion_deployment().model_id
    pause = threading.Event()
    for _ in range(100):
        if client.get("/readyz").json().get("model") == wanted:
            return
        pause.wait(0.1)


def _say(on_event: OnEvent, what: str, done: int, total: int) -> None:
    on_event({"stage": "feedback", "what": what, "done": done, "total": total})


def _next(folder: Path, champion: str) -> list[str]:
    at = f"tidemill -C {folder}"
    return [
        f"{at} status",
        f"{at} report --html report.html",
        f"{at} trace {champion}",
        f"{at} label",
        f"{at} serve",
    ]
