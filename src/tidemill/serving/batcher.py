"""Micro-batching: what waits while the model is busy is answered together next.

One worker thread takes whatever has gathered since it last looked, up to a bound that keeps to the wanted latency
(:mod:`tidemill.serving.window`), encodes and predicts it as one batch, and hands the answers to the journal; while the
journal makes them durable, the worker is already at the next batch. A lone request therefore waits for nothing, and
under load batches grow by themselves. The answers leave when the journal has them on disk.

During a roll-out the challenger works on a thread of its own (:mod:`tidemill.serving.rolling`). The batcher hands it
the requests of its share, and whatever it should answer for the log alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tidemill.data.arrays import Column, length, take
from tidemill.data.encode import encode
from tidemill.data.keys import content_keys, key_text, strings_key
from tidemill.data.offers import slates_apart
from tidemill.errors import InputError, StoreError, TooLargeError
from tidemill.monitor.rollout_evidence import caller_of
from tidemill.records import JSON, Prediction
from tidemill.serving._base import Served
from tidemill.serving.limits import Deadlines, Line
from tidemill.serving.marks import MARKS
from tidemill.serving.metrics import Meter
from tidemill.serving.requests import PredictRequest, require_few_pixels
from tidemill.serving.rolling import Job, Points, Rolling
from tidemill.serving.waiting import Waiting, resolve, rows_of
from tidemill.serving.window import Window
from tidemill.store import JournalWriter
from tidemill.store.secrets import audit_draw, canary_draw, choice_draw, new_prediction_id, repeated_prediction_id

QUEUE_ROWS = 20_000
CHECK_SECONDS = 10.0
SPARE = 0.4
"""Load up to which a challenger in the shadow answers more than what the audit drew."""
SMOOTH = 0.1
_NO_SHADOWS: Iterator[None] = itertools.repeat(None)


class Batcher:
    """Answers requests in batches on a thread of its own.

    Args:
        served: gives what answers now; each batch asks once, so none mixes two models.
        journal: makes predictions durable.
        secret: the store's, for prediction ids and the audit draw.
        audit_rate: the probability with which a key is drawn for the audit.
        max_pixels: width times height that one image may have.
        most_pixels: and all images of one request together.
        latency: seconds that an answer should take at most.
        timeout: seconds after which nobody waits for an answer any more.
        choices: answers are choices, so that in a canary both models say of each how likely they make what.
        meter: counts and times.
    """

    def __init__(
        self,
        served: Callable[[], Served],
        journal: JournalWriter,
        meter: Meter,
        *,
        secret: bytes,
        audit_rate: float,
        max_pixels: int,
        most_pixels: int,
        latency: float,
        timeout: float,
        choices: bool = False,
    ) -> None:
        self._served = served
        self._journal = journal
        self._meter = meter
        self._secret = secret
        self._audit_rate = audit_rate
        self._choices = choices
        self._max_pixels = max_pixels
        self._most_pixels = most_pixels
        self._window = Window(latency)
        self._line = Line(timeout)
        self._deadlines = Deadlines(timeout)
        self._checked = -1.0
        self._load = self._ended = 0.0
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tidemill-batcher", daemon=True)
        self._thread.start()

    async def predict(self, request: PredictRequest) -> bytes:
        """The body of the answer to *request*, once its predictions are on disk.

        Raises:
            InputError: a row does not fit the signature.
            NotReadyError: there is no champion yet.
            StoreError: the journal cannot keep its promise.
            OverloadedError: too many rows wait already, or there was no answer in time.
        """
        rows = len(request.records)
        self._line.enter(rows, QUEUE_ROWS)
        answered = False
        try:
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            since = time.perf_counter()
            self._queue.put(Waiting(request, answer, since, plain=request.pinned, marks=MARKS.get()))
            body = await self._deadlines.keep(answer)
            answered = True
            self._meter.stages["total"].add(time.perf_counter() - since)
            return body
        finally:
            self._line.leave(rows, answered=answered)

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return self._line.rows

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._queue.put(None)
        self._thread.join()

    def check(self) -> None:
        """Whether the journal can keep its promise now: a group without predictions, fsynced like any other.

        Anybody may ask this as often as they like, so a good answer holds for a second.

        Raises:
            StoreError: it cannot.
        """
        now = time.monotonic()
        if now - self._checked < 1:
            return
        try:
            self._journal.submit().result(timeout=CHECK_SECONDS)
            self._checked = now
        except TimeoutError:
            raise StoreError(
                f"the journal has not answered for {CHECK_SECONDS:g} seconds", mend="Check the disk."
            ) from None

    def _run(self) -> None:
        for batch in self._batches():
            began = time.perf_counter()
            rows = sum(len(waiting.request.records) for waiting in batch)
            self._meter.batches.add(rows)
            queued = self._meter.stages["queue"]
            for waiting in batch:
                queued.add(began - waiting.since)
                if waiting.marks is not None:
                    waiting.marks.append(("queue", waiting.since, began))
            try:
                self._answer(batch, began)
                self._window.note(rows, time.perf_counter() - began)
            except Exception as error:  # whatever it is, those who wait are told, and the thread lives on
                resolve([(waiting, error) for waiting in batch])

    def _batches(self) -> Iterator[list[Waiting]]:
        """Whatever has gathered, again and again, until the end is announced."""
        while (first := self._queue.get()) is not None:
            batch, rows = [first], len(first.request.records)
            while rows < self._window.rows:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    yield batch
                    return
                batch.append(more)
                rows += len(more.request.records)
            yield batch

    def _answer(self, batch: list[Waiting], taken: float) -> None:
        served = self._served()
        batch, columns = self._encode(served, self._wanted(served, batch))
        if not batch:
            return
        keys = [key_text(key) for key in content_keys(columns, served.predictor.signature)]
        if self._choices:
            columns = slates_apart(columns, [len(waiting.request.records) for waiting in batch])
        began = self._note("encode", batch, taken)
        if served.rolling is not None:
            self._answer_rolling(served, served.rolling, batch, columns, keys)
            self._measure(taken)
            return
        answers = served.predictor.answer(columns, self._points(served, batch, keys))
        self._note("predict", batch, began)
        self._hand_over(served, batch, iter(keys), iter(answers))

    def _note(self, stage: str, batch: Sequence[Waiting], began: float) -> float:
        """A stage of a batch is over, which has taken each of its requests as long as all of them; when it ended."""
        now = time.perf_counter()
        self._meter.stages[stage].add(now - began, len(batch))
        for waiting in batch:
            if waiting.marks is not None:
                waiting.marks.append((stage, began, now))
        return now

    def _hand_over(
        self,
        served: Served,
        batch: Sequence[Waiting],
        keys: Iterator[str],
        answers: Iterator[dict[str, Any]],
        shadows: Iterator[JSON | None] = _NO_SHADOWS,
    ) -> list[Prediction]:
        """Give the answers to the journal, and from there to the callers; each iterator yields once a row."""
        predictions: list[Prediction] = []
        bodies: list[tuple[Waiting, bytes]] = []
        for waiting in batch:
            own = list(itertools.islice(keys, len(waiting.request.records)))
            made = [
                self._prediction(served, waiting.request, row, identifier, own[row], next(answers), next(shadows))
                for row, identifier in enumerate(self._ids(served, waiting.request, own))
            ]
            predictions += made
            bodies.append((waiting, (waiting.request.writer or _body)(served, made)))
        self._meter.answered(served.deployment.model_id, len(predictions))
        began = time.perf_counter()
        self._journal.submit(*predictions).add_done_callback(lambda done: self._deliver(done, bodies, batch, began))
        return predictions

    def _answer_rolling(
        self, served: Served, rolling: Rolling, batch: list[Waiting], columns: dict[str, Column], keys: list[str]
    ) -> None:
        """Answer with two models: the challenger's share is handed to it, and the champion answers the others."""
        ends = list(itertools.accumulate(len(waiting.request.records) for waiting in batch))
        rows = [range(end - len(waiting.request.records), end) for waiting, end in zip(batch, ends, strict=True)]
        theirs = [i for i, waiting in enumerate(batch) if self._is_theirs(rolling, waiting, keys[rows[i].start])]
        mine = sorted(set(range(len(batch))) - set(theirs))
        drawn = {
            row
            for i in theirs
            for row in rows[i]
            if self._choices or self._is_drawn(served, batch[i].request, keys[row])
        }
        own = [row for i in mine for row in rows[i]]
        answered = sorted([*own, *drawn])
        found: dict[int, dict[str, Any]] = {}
        if answered:
            began = time.perf_counter()
            points = self._points(served, batch, keys)
            given_them = served.predictor.answer(
                _taken(columns, answered, len(keys)), None if points is None else points[answered]
            )
            found = dict(zip(answered, given_them, strict=True))
            self._note("predict", [batch[i] for i in mine], began)
        made: list[Prediction] = []
        if mine:
            part = [batch[i] for i in mine]
            made = self._hand_over(served, part, (keys[row] for row in own), (found[row] for row in own))
        if theirs:
            given = [row for i in theirs for row in rows[i]]
            share = rolling.rollout.share if self._choices else None
            shadows = [
                _shadow(served.deployment.model_id, found[row], share) if row in drawn else None for row in given
            ]
            part = [batch[i] for i in theirs]
            self._let_answer(served, rolling, part, columns, [keys[row] for row in given], given, shadows)
        if self._choices and rolling.rollout.phase == "canary":  # who was not drawn for either model judges neither
            whose = [i for i in mine for _ in rows[i]]
            made = [p for p, i in zip(made, whose, strict=True) if not batch[i].plain]
        self._let_shadow(rolling, made)

    def _measure(self, started: float) -> None:
        """Keep in mind which part of the time this thread has had to work lately."""
        ended = time.perf_counter()
        share = (ended - started) / max(ended - self._ended, 1e-9)
        self._load += SMOOTH * (min(share, 1.0) - self._load)
        self._ended = ended

    def _is_theirs(self, rolling: Rolling, waiting: Waiting, content_key: str) -> bool:
        """Whether the challenger answers a request: all of its rows, by who asks."""
        rollout, request = rolling.rollout, waiting.request
        if rollout.phase != "canary" or waiting.plain:
            return False
        key = content_key if request.key is None else callers_key(request.key)
        return canary_draw(self._secret, rollout.id, caller_of(request.caller, key), rollout.share)

    def _is_drawn(self, served: Served, request: PredictRequest, content_key: str) -> bool:
        key = content_key if request.key is None else callers_key(request.key)
        return audit_draw(self._secret, served.generation, key, self._audit_rate)

    def _let_answer(
        self,
        served: Served,
        rolling: Rolling,
        batch: Sequence[Waiting],
        columns: dict[str, Column],
        keys: Sequence[str],
        rows: Sequence[int],
        shadows: Sequence[JSON | None],
    ) -> None:
        """Have the challenger answer callers; where it cannot, they queue up again for the champion."""
        canary = dataclasses.replace(
            served, deployment=rolling.deployment, predictor=rolling.challenger.predictor, rolling=None
        )

        def done(answers: list[dict[str, Any]]) -> None:
            try:
                self._hand_over(canary, batch, iter(keys), iter(answers), iter(shadows))
            except Exception as error:  # those who wait are told, whatever it is
                resolve([(waiting, error) for waiting in batch])

        def failed() -> None:
            for waiting in batch:
                self._queue.put(dataclasses.replace(waiting, plain=True))

        points = self._points(canary, batch, keys)
        job = Job(_taken(columns, rows, length(columns)), rows_of(batch), done, failed, points)
        if not rolling.challenger.answer(job):
            failed()

    def _let_shadow(self, rolling: Rolling, made: Sequence[Prediction]) -> None:
        """Have the challenger answer for the log: what the audit drew, and while there is time, the rest too."""
        rollout = rolling.rollout
        canary = self._choices and rollout.phase == "canary"
        spare = canary or (rollout.phase == "shadow" and self._load < SPARE)
        log = partial(self._log, rollout.challenger_id, rollout.share if canary else None)
        for audited in (True, False):
            chosen = [(p.id, p.inputs) for p in made if p.audited == audited]
            if chosen and (audited or spare):
                rolling.challenger.shadow(chosen, log, audited=audited)

    def _log(
        self, model: str, share: float | None, predictions: Sequence[str], answers: Sequence[dict[str, Any]]
    ) -> None:
        """Note what the challenger answered, on its thread; nobody waits for it."""
        shadows = {p: _shadow(model, answer, share) for p, answer in zip(predictions, answers, strict=True)}
        with contextlib.suppress(StoreError):  # the disk is full, and those who wait for their own answers are told
            self._journal.add_shadows(shadows)

    def _wanted(self, served: Served, batch: list[Waiting]) -> list[Waiting]:
        """The requests for which somebody still waits, and whose images are not too much for one request."""
        wanted: list[Waiting] = []
        refused: list[tuple[Waiting, BaseException]] = []
        for waiting in batch:
            if waiting.answer.done():
                continue
            try:
                signature = served.predictor.signature
                require_few_pixels(waiting.request.records, signature, self._max_pixels, self._most_pixels)
                wanted.append(waiting)
            except TooLargeError as error:
                refused.append((waiting, error))
        resolve(refused)
        return wanted

    def _encode(self, served: Served, batch: list[Waiting]) -> tuple[list[Waiting], dict[str, Column]]:
        """The batch's rows as columns. When some row is wrong, its request alone is refused, and the others go on."""
        read = partial(encode, served.predictor.signature, max_pixels=self._max_pixels)
        if not batch:
            return [], {}
        try:
            return batch, read(rows_of(batch))
        except InputError as error:
            if len(batch) == 1:
                resolve([(batch[0], error)])
                return [], {}
        good: list[Waiting] = []
        refused: list[tuple[Waiting, BaseException]] = []
        for waiting in batch:
            try:
                read(waiting.request.records)
                good.append(waiting)
            except InputError as error:
                refused.append((waiting, error))
        resolve(refused)
        return good, read(rows_of(good)) if good else {}

    def _ids(self, served: Served, request: PredictRequest, keys: Sequence[str]) -> list[str]:
        """The id of each row's prediction: for a request that may come again a name of all that decides its answer."""
        once = request.once
        if once is None:
            return [new_prediction_id(self._secret) for _ in keys]
        # What a position of a slate chooses among is what those above it have left.
        said = itertools.accumulate(keys, _both) if self._choices else keys
        who = (once.caller, served.deployment.model_id, served.predictor.state_id or "")
        return [
            repeated_prediction_id(self._secret, once.key, *who, content, str(row)) for row, content in enumerate(said)
        ]

    def _points(self, served: Served, batch: Sequence[Waiting], keys: Sequence[str]) -> Points | None:
        """What decides each choice, where some request may come again: then its id does, in whatever process."""
        if not self._choices or all(waiting.request.once is None for waiting in batch):
            return None
        rest = iter(keys)
        own = ((w.request, list(itertools.islice(rest, len(w.request.records)))) for w in batch)
        made = (identifier for request, part in own for identifier in self._ids(served, request, part))
        return np.array([choice_draw(self._secret, identifier) for identifier in made])

    def _prediction(
        self,
        served: Served,
        request: PredictRequest,
        row: int,
        identifier: str,
        content_key: str,
        answer: dict[str, Any],
        shadow: JSON | None = None,
    ) -> Prediction:
        key = content_key if request.key is None else callers_key(request.key)
        return Prediction(
            id=identifier,
            deployment=served.deployment.id,
            model_id=served.deployment.model_id,
            state_id=served.state_id,
            key=key,
            inputs=request.records[row],
            answer=answer,
            audited=audit_draw(self._secret, served.generation, key, self._audit_rate),
            audit_probability=self._audit_rate,
            propensity=answer.get("propensity"),
            caller=request.caller,
            shadow=shadow,
        )

    def _deliver(
        self, done: Future[None], bodies: list[tuple[Waiting, bytes]], batch: Sequence[Waiting], began: float
    ) -> None:
        """Called by the journal's thread when the batch is on disk, or cannot be."""
        error = done.exception()
        self._note("journal", batch, began)
        resolve([(waiting, body if error is None else error) for waiting, body in bodies])


def callers_key(text: str) -> str:
    """The split key of a caller's own key: the same as for samples whose split-key column says *text*.

    >>> callers_key("patient 7") == callers_key("patient 7") != callers_key("patient 8")
    True
    """
    return key_text(strings_key(pa.array([text]))[0])


def _both(above: str, key: str) -> str:
    return hashlib.blake2b((above + key).encode(), digest_size=16).hexdigest()


def _taken(columns: dict[str, Column], rows: Sequence[int], total: int) -> dict[str, Column]:
    """Some rows of *columns*; the columns themselves when it is all *total* of them."""
    return columns if len(rows) == total else take(columns, np.asarray(rows, np.int64))


def _shadow(model: str, answer: dict[str, Any], share: float | None = None) -> JSON:
    shadow: JSON = {"model_id": model, "answer": answer}
    return shadow if share is None else {**shadow, "share": share}


def _body(served: Served, predictions: Sequence[Prediction]) -> bytes:
    return orjson.dumps(
        {
            "model": served.deployment.model_id,
            "deployment": served.deployment.id,
            "predictions": [{"id": p.id, **p.answer, "audit": p.audited} for p in predictions],
        }
    )
