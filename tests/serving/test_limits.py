"""How much at once, and how long: who asks too often or would wait for too long is told when to come back."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from small_project import Served, SmallProject, digit, served

from tidemill.errors import TooLargeError
from tidemill.records import Feedback
from tidemill.runtime import Predictor
from tidemill.serving.limits import Buckets, Deadlines, Line, OverloadedError, RateError, Rates
from tidemill.serving.requests import require_few_pixels
from tidemill.serving.tokens import make_token

BODY = {"inputs": digit(0)}


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(10.0, most=10, burst=1.0)
    assert [buckets.take("a", 0.0) for _ in range(10)] == [0.0] * 10
    assert buckets.take("a", 0.0) == pytest.approx(0.1)
    assert buckets.take("a", 0.0) == pytest.approx(0.1)  # who is refused does not wait longer for it
    assert buckets.take("b", 0.0) == 0.0
    taken = sum(buckets.take("a", 0.01 * step) == 0.0 for step in range(1, 1001))
    assert taken == 100  # ten seconds' worth


def test_a_bucket_of_less_than_one_a_second_gives_one_now_and_then() -> None:
    buckets = Buckets(0.1, most=10)
    given = [buckets.take("a", float(second)) == 0.0 for second in range(30)]
    assert [second for second, one in enumerate(given) if one] == [0, 10, 20]


def test_only_so_many_addresses_are_remembered_the_quietest_forgotten_first() -> None:
    buckets = Buckets(1.0, most=100, burst=1.0)
    for i in range(1000):
        buckets.take("busy", float(i))
        buckets.take(f"address {i}", float(i))
    assert len(buckets._full) == 100
    assert "busy" in buckets._full


def test_an_address_is_counted_whatever_its_tokens_and_a_token_by_its_scope() -> None:
    rates = Rates({"predict": 1.0, "feedback": None}, address_rate=2.0)
    for last in range(4):
        rates.address(f"2001:db8:1:2::{last}")  # one customer has them all
    with pytest.raises(RateError) as refused:
        rates.address("2001:db8:1:2:ffff::1")
    assert refused.value.http_status == 429
    assert dict(refused.value.headers) == {b"retry-after": b"1"}
    rates.address("2001:db8:1:3::1")
    for _ in range(2):
        rates.token("tok_1", "predict")
    with pytest.raises(RateError, match="too many predict requests"):
        rates.token("tok_1", "predict")
    rates.token("tok_2", "predict")
    for _ in range(100):
        rates.token("tok_1", "feedback")


class Clock:
    """Seconds that a test decides."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_that_takes_too_long_takes_nobody_in() -> None:
    clock = Clock()
    line = Line(2.0, clock)
    for _ in range(100):
        line.enter(10, most=10_000)  # nothing is known yet, so all may come
    for _ in range(8):
        clock.now += 0.25
        line.leave(10, answered=True)
    assert line.rate == pytest.approx(40.0)
    with pytest.raises(OverloadedError) as refused:  # 920 rows at 40 a second take 23 seconds
        line.enter(1, most=10_000)
    assert refused.value.http_status == 503
    assert dict(refused.value.headers) == {b"retry-after": b"21"}
    for _ in range(86):
        line.leave(10, answered=False)  # they have given up, which is no sign of speed
    assert (line.rows, line.rate) == (60, pytest.approx(40.0))
    line.enter(1, most=10_000)
    line.leave(61, answered=True)
    assert line.rows == 0
    line.enter(5000, most=10_000)  # once it has run empty, nothing is held against it
    assert line.rate is None
    with pytest.raises(OverloadedError, match="5000 rows wait already"):
        line.enter(5001, most=10_000)


def test_a_moments_pause_does_not_make_a_line_slow() -> None:
    clock = Clock()
    line = Line(10.0, clock)
    for _ in range(32):
        line.enter(1, most=100)
    clock.now += 0.5  # the machine did something else
    line.leave(1, answered=True)
    line.enter(1, most=100)
    clock.now += 0.01
    line.leave(31, answered=True)
    for _ in range(31):
        line.enter(1, most=100)
    line.leave(31, answered=True)
    assert line.rate is None  # the line is too short to tell
    line.enter(70, most=100)
    clock.now += 0.25
    line.leave(66, answered=True)
    assert line.rate is not None and line.rate > 100


def test_an_idle_service_is_not_taken_for_a_slow_one() -> None:
    clock = Clock()
    line = Line(2.0, clock)
    for _ in range(20):  # one request every ten seconds
        line.enter(1, most=10)
        clock.now += 10.0
        line.leave(1, answered=True)
    assert line.rate is None


def test_what_takes_too_long_is_given_up_and_the_rest_goes_on() -> None:
    async def both() -> list[Any]:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(0.2)
        slow, fast = loop.create_future(), loop.create_future()
        loop.call_later(0.05, fast.set_result, "done")
        told = await asyncio.gather(deadlines.keep(slow), deadlines.keep(fast), return_exceptions=True)
        assert slow.cancelled()
        assert (deadlines._until, deadlines._missed) == ({}, set())
        again = loop.create_future()
        loop.call_soon(again.set_result, "again")
        return [*told, await deadlines.keep(again)]

    late, done, again = asyncio.run(both())
    assert isinstance(late, OverloadedError)
    assert (done, again) == ("done", "again")


def test_a_caller_who_goes_away_is_not_told_that_it_took_too_long() -> None:
    async def cancelled() -> None:
        deadlines = Deadlines(60)
        task = asyncio.create_task(deadlines.keep(asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    made = SmallProject.create(tmp_path, timeout_s=2.0)
    made.deploy(made.add_model("ridge"))
    yield made
    made.store.close()


class Stuck:
    """Holds the model up, and notes how many rows it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.release = threading.Event(), threading.Event()
        self.rows: list[int] = []
        scores = Predictor.scores

        def slow(predictor: Predictor, columns: Any) -> Any:
            self.rows.append(len(next(iter(columns.values()))))
            self.reached.set()
            assert self.release.wait(30)
            return scores(predictor, columns)

        monkeypatch.setattr(Predictor, "scores", slow)


def test_who_waits_for_too_long_is_told_so_and_is_not_computed_any_more(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(project) as running:
        stuck = Stuck(monkeypatch)
        answers: list[httpx.Response] = []

        def send() -> None:
            with httpx.Client(base_url=running.url, timeout=30) as client:
                answers.append(client.post("/v1/predict", json=BODY))

        callers = [threading.Thread(target=send) for _ in range(6)]
        callers[0].start()
        assert stuck.reached.wait(30)
        for caller in callers[1:]:
            caller.start()
        for caller in callers:
            caller.join()
        assert [answer.status_code for answer in answers] == [503] * 6
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert all("within 2 seconds" in answer.json()["error"]["what"] for answer in answers)
        assert running.client.get("/healthz").status_code == 200
        stuck.release.set()
        assert running.client.post("/v1/predict", json=BODY).status_code == 200
    assert stuck.rows == [1, 1]  # the first, and the one after: those between them were dropped


def test_feedback_that_cannot_be_committed_in_time_is_refused(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, release = threading.Event(), threading.Event()
    commit = project.store.add_feedback

    def slow(items: Any) -> Any:
        reached.set()
        assert release.wait(30)
        return commit(items)

    monkeypatch.setattr(project.store, "add_feedback", slow)
    with served(project) as running:
        (given,) = running.client.post("/v1/predict", json=BODY).json()["predictions"]
        statement = {"prediction": given["id"], "kind": "confirmation", "key": "one"}
        answers: list[httpx.Response] = []

        def send() -> None:
            with httpx.Client(base_url=running.url, timeout=30) as client:
                answers.append(client.post("/v1/feedback", json=statement))

        caller = threading.Thread(target=send)
        caller.start()
        assert reached.wait(30)
        listed = running.client.post("/v1/feedback", json={"feedback": [{**statement, "key": "two"}] * 3})
        caller.join()
        assert [answers[0].status_code, listed.status_code] == [503, 503]
        release.set()
        again = running.client.post("/v1/feedback", json=statement)
        assert (again.status_code, again.json()["status"]) == (200, "repeated")  # it was already on its way
    assert project.store.count(Feedback) == 1  # the list was not: it was dropped before it was committed


def test_a_token_and_an_address_have_their_rates(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path, rate={"predict": 3, "admin": None}, address_rate=20)
    with project.store:
        _, one = make_token(project.store, "one", ["predict"])
        _, two = make_token(project.store, "two", ["predict", "admin"])
        with served(project) as running:

            def ask(path: str, text: str) -> httpx.Response:
                return running.client.get(path, headers={"Authorization": f"Bearer {text}"})

            def until_refused(path: str, text: str) -> list[httpx.Response]:
                answers = [ask(path, text)]
                while answers[-1].status_code != 429 and len(answers) < 500:
                    answers.append(ask(path, text))
                return answers

            *good, refused = until_refused("/v1/models", one)
            assert {answer.status_code for answer in good} == {200} and len(good) >= 6
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "serve.rate.predict" in refused.json()["error"]["mend"]
            assert ask("/v1/models", two).status_code == 200
            *good, refused = until_refused("/v1/trace/run_1", two)
            assert {answer.status_code for answer in good} == {404}
            assert "serve.address_rate" in refused.json()["error"]["mend"]


def test_this_machine_is_not_counted_while_it_needs_no_token(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path, rate={"predict": 1}, address_rate=1)
    with project.store, served(project) as running:
        assert [running.client.get("/v1/models").status_code for _ in range(20)] == [200] * 20


def picture(side: int) -> str:
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_pixels_of_all_images_of_a_request_are_counted_before_one_is_decoded(service: Served) -> None:
    signature = service.project.signature
    records = [{"image": picture(100)}] * 3
    require_few_pixels(records, signature, each=10_000, most=30_000)
    with pytest.raises(TooLargeError, match="megapixels together"):
        require_few_pixels(records, signature, each=10_000, most=29_999)
    odd = [{"image": "no image"}, {"image": None}, {}, {"image": [[1, 2]]}, *records]
    require_few_pixels(odd, signature, each=10_000, most=30_000)  # what is wrong with them, encode says


def test_a_request_of_bombs_is_refused_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path, max_megapixels=1)
    project.deploy(project.add_model("ridge"))
    with project.store, served(project) as running:
        bomb = picture(1000)  # a thousand bytes, a million pixels
        assert len(bomb) < 4000
        assert running.client.post("/v1/predict", json={"inputs": {"image": bomb}}).status_code == 200
        answer = running.client.post("/v1/predict", json={"inputs": [{"image": bomb}] * 2})
        assert answer.status_code == 413
        assert "serve.max_megapixels" in answer.json()["error"]["mend"]
        assert running.client.post("/v1/predict", json={"inputs": [digit(0)] * 20}).status_code == 200
