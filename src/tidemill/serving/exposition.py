"""``GET /metrics``: what is counted and what the store says, as Prometheus and OpenMetrics read it.

Names follow Prometheus's conventions: base units in the name, ``_total`` for what only grows, ``_info`` for what is
text. What a process counts carries the number of that process as ``worker``; what the store says is the same whichever
process is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tidemill.errors import TidemillError
from tidemill.records import JSON, Cycle, Model, Watch
from tidemill.serving.describing import errors
from tidemill.serving.metrics import ROWS, SECONDS
from tidemill.serving.service import Service
from tidemill.store import Store, running_rollout, unfolded

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MOST_COLUMNS = 100
"""Columns of which drift is told, the most moved ones."""

Labels = Mapping[str, str]


def add_metrics(api: FastAPI, service: Callable[[], Service]) -> None:
    """Add ``GET /metrics`` to *api*."""
    content = {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in (PLAIN, OPEN)}
    good: dict[int | str, dict[str, Any]] = {200: {"content": content, "description": "the metrics"}}

    @api.get(
        "/metrics",
        response_class=Response,  # errors are JSON, and would be said to be of its type
        responses={**good, **errors(401, 429, 503)},
        summary="What Prometheus collects",
        tags=["health"],
    )
    def metrics(request: Request) -> PlainTextResponse:
        """Latencies by stage, queue, batches, feedback, drift, live quality and models; as OpenMetrics if accepted."""
        body, kind = exposition(service(), request.headers.get("accept", ""))
        return PlainTextResponse(body, headers={"content-type": kind})


def exposition(service: Service, accept: str) -> tuple[bytes, str]:
    """The metrics in the format that *accept*, a header, asks for, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    if "application/openmetrics-text" in accept:
        return generate_openmetrics(registry), OPEN  # type: ignore[no-untyped-call]
    return generate_latest(registry), PLAIN


class _Collector(Collector):
    """Makes families of everything, once a scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering collects nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        info = InfoMetricFamily("tidemill", "The version of Tidemill.")
        info.add_metric([], {"version": version("tidemill")})
        yield info
        workers = self._service.numbers()
        yield from _counted({str(number): numbers for number, (_, numbers) in workers.items()})
        yield from _processes({str(number): pid for number, (pid, _) in workers.items()})
        store, up = self._service.project.store, 1.0
        try:
            yield from list(_stored(store))  # all of it or nothing
        except TidemillError:
            up = 0.0
        yield GaugeMetricFamily("tidemill_store_up", "Whether the database answers.", value=up)


def _counted(workers: Mapping[str, JSON]) -> Iterator[Metric]:
    stages = HistogramMetricFamily(
        "tidemill_stage_seconds", "Time that requests spent in each stage of a prediction.", labels=["stage", "worker"]
    )
    durations = HistogramMetricFamily(
        "tidemill_request_seconds", "Time from a request's head to its answer.", labels=["route", "worker"]
    )
    batches = HistogramMetricFamily("tidemill_batch_rows", "Rows answered together.", labels=["worker"])
    requests = CounterMetricFamily("tidemill_requests", "Requests answered.", labels=["route", "status", "worker"])
    rows = CounterMetricFamily("tidemill_predictions", "Rows answered.", labels=["model", "worker"])
    said = CounterMetricFamily("tidemill_feedback", "Feedback taken.", labels=["kind", "outcome", "worker"])
    swaps = CounterMetricFamily("tidemill_swaps", "Deployments taken up.", labels=["worker"])
    queue = GaugeMetricFamily("tidemill_queue_rows", "Rows that wait to be answered.", labels=["worker"])
    for worker, numbers in workers.items():
        for stage, times in numbers["stages"].items():
            stages.add_metric([stage, worker], *_buckets(SECONDS, times))
        for route, times in numbers["durations"].items():
            durations.add_metric([route, worker], *_buckets(SECONDS, times))
        batches.add_metric([worker], *_buckets(ROWS, numbers["batches"]))
        for route, status, count in numbers["requests"]:
            requests.add_metric([route, str(status), worker], count)
        for model, count in numbers["predictions"].items():
            rows.add_metric([model, worker], count)
        for kind, outcome, count in numbers["feedback"]:
            said.add_metric([kind, outcome, worker], count)
        swaps.add_metric([worker], numbers["swaps"])
        queue.add_metric([worker], numbers["queue_rows"])
    yield from (stages, durations, batches, requests, rows, said, swaps, queue)


def _buckets(bounds: Sequence[float], times: JSON) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper end, and the sum."""
    ends = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(ends, accumulate(times["counts"]), strict=True)), times["total"]


def _processes(pids: Mapping[str, int]) -> Iterator[Metric]:
    """The standard metrics of processes; none where the system does not tell."""
    families: dict[str, Metric] = {}
    for worker, pid in pids.items():
        for found in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                family.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    yield from families.values()


def _stored(store: Store) -> Iterator[Metric]:
    left = unfolded(store)
    yield GaugeMetricFamily(
        "tidemill_journal_unfolded_bytes", "Journal that is not in the tables yet.", value=left.bytes
    )
    lag = 0.0 if left.oldest is None else max(0.0, time.time() - left.oldest)
    yield GaugeMetricFamily("tidemill_journal_lag_seconds", "Age of the oldest prediction in it.", value=lag)
    yield from _serving(store)
    cycles = CounterMetricFamily("tidemill_cycles", "Cycles by how they ended.", labels=["status"])
    for status in ("done", "failed"):
        cycles.add_metric([status], store.count(Cycle, status=status))
    yield cycles
    yield from _watched(store)


def _serving(store: Store) -> Iterator[Metric]:
    champion = InfoMetricFamily("tidemill_champion", "The model in force.")
    deployment = store.champion()
    if deployment is not None:
        model = store.get(Model, deployment.model_id)
        named = {"model": model.id, "deployment": deployment.id, "recipe": model.recipe, "action": deployment.action}
        champion.add_metric([], named)
        yield champion
        yield GaugeMetricFamily(
            "tidemill_champion_since_timestamp_seconds", "When it was put into force.", value=deployment.created
        )
    rollout = InfoMetricFamily("tidemill_rollout", "The roll-out that is under way.")
    running = running_rollout(store)
    if running is not None:
        rollout.add_metric([], {"phase": running.phase, "challenger": running.challenger_id, "rollout": running.id})
        yield rollout
        yield GaugeMetricFamily(
            "tidemill_rollout_share",
            "Share of the callers whom the challenger answers.",
            value=running.share if running.phase == "canary" else 0.0,
        )


def _watched(store: Store) -> Iterator[Metric]:
    """What the triggers of ``tidemill up`` last found."""
    watches = {watch.trigger: watch for watch in store.find(Watch)}
    looked = GaugeMetricFamily(
        "tidemill_trigger_looked_timestamp_seconds", "When a trigger last looked.", labels=["trigger"]
    )
    fired = GaugeMetricFamily(
        "tidemill_trigger_fired_timestamp_seconds", "When a trigger last fired.", labels=["trigger"]
    )
    failed = GaugeMetricFamily("tidemill_trigger_failed", "Whether a trigger could not look.", labels=["trigger"])
    for name, watch in watches.items():
        looked.add_metric([name], watch.looked)
        if watch.fired is not None:
            fired.add_metric([name], watch.fired)
        failed.add_metric([name], float(watch.fault is not None))
    yield from (looked, fired, failed)
    if "drift" in watches:
        yield from _drift(watches["drift"])
    if "quality" in watches:
        yield from _quality(watches["quality"])


def _drift(watch: Watch) -> Iterator[Metric]:
    size = GaugeMetricFamily(
        "tidemill_drift_size",
        "How far traffic has moved from the champion's data; 1 is where it begins to matter.",
        labels=["column", "type"],
    )
    moved = GaugeMetricFamily(
        "tidemill_drift_moved", "Whether it surely has, so far that it matters.", labels=["column", "type"]
    )
    for line in watch.found.get("columns", [])[:MOST_COLUMNS]:
        size.add_metric([line["column"], line["type"]], line["size"])
        moved.add_metric([line["column"], line["type"]], float(line["moved"]))
    yield from (size, moved)
    yield GaugeMetricFamily("tidemill_drift_inputs", "Inputs compared.", value=watch.found.get("rows", 0))


def _quality(watch: Watch) -> Iterator[Metric]:
    found = watch.found
    told = {
        "value": ("tidemill_live_quality", "How good the champion's answers to audited traffic were."),
        "low": ("tidemill_live_quality_low", "Lower end of its 95 % interval."),
        "high": ("tidemill_live_quality_high", "Upper end of its 95 % interval."),
        "floor": ("tidemill_live_quality_floor", "The floor that is set, or for errors of numbers the ceiling."),
    }
    for key, (name, documentation) in told.items():
        if found.get(key) is not None:
            family = GaugeMetricFamily(name, documentation, labels=["metric"])
            family.add_metric([found["metric"]], found[key])
            yield family
    yield GaugeMetricFamily("tidemill_live_quality_labels", "Labels that it is from.", value=found.get("labels", 0))
