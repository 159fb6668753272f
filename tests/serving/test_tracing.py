"""Traces: the parts of a request under its span, its caller's trace, and what is sent over OTLP to a real receiver."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from small_project import SmallProject, digit, served

import tidemill
from tidemill.errors import ExtraMissingError
from tidemill.serving.tracing import tracing


@dataclass
class Receiver:
    """An OTLP/HTTP collector on loopback, and what it was sent."""

    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        parts = [part for request in self.requests for part in request.resource_spans]
        return [span for part in parts for scope in part.scope_spans for span in scope.spans]

    def resources(self) -> list[dict[str, str]]:
        parts = [part for request in self.requests for part in request.resource_spans]
        return [{a.key: a.value.string_value for a in part.resource.attributes} for part in parts]

    def children(self, parent: Span) -> dict[str, Span]:
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}

    def one(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Any:
    made = SmallProject.create(tmp_path, log="json")
    made.deploy(made.add_model("ridge"))
    with made.store:
        yield made


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.int_value or a.value.string_value for a in span.attributes}


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_request_has_a_span_with_one_for_each_part_of_its_work(
    project: SmallProject, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    carried = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "shop=7"}
    with served(project) as running:
        answer = running.client.post("/v1/predict", json={"inputs": digit(0)}, headers=carried).json()
        statement = {"prediction": answer["predictions"][0]["id"], "kind": "correction", "value": "3"}
        running.client.post("/v1/feedback", json=statement)
        running.client.post("/v1/feedback", json={"feedback": [statement]})
        running.client.get(f"/v1/trace/{statement['prediction']}")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert running.client.get(path).status_code == 200
    span = receiver.one("POST /v1/predict")
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "shop=7")
    assert span.kind == Span.SPAN_KIND_SERVER
    told = {"http.request.method": "POST", "http.route": "/v1/predict", "http.response.status_code": 200}
    assert attributes(span) == told
    parts = receiver.children(span)
    assert list(parts) == ["queue", "encode", "predict", "journal"]
    assert {part.trace_id.hex() for part in parts.values()} == {TRACE}
    moments = [m for part in parts.values() for m in (part.start_time_unix_nano, part.end_time_unix_nano)]
    assert moments == sorted(moments)
    slack = 2_000  # a float of seconds holds some hundred nanoseconds
    assert span.start_time_unix_nano - slack <= moments[0] and moments[-1] <= span.end_time_unix_nano + slack
    said = [span for span in receiver.spans if span.name == "POST /v1/feedback"]
    assert len(said) == 2 and all(list(receiver.children(one)) == ["commit"] for one in said)
    assert receiver.one("GET /v1/trace/*").trace_id.hex() != TRACE
    assert len(receiver.spans) == 4 + 6
    assert {resource["service.name"] for resource in receiver.resources()} == {"tidemill"}
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    first = next(line for line in lines if line.get("path") == "/v1/predict")
    assert first["trace"] == TRACE and first["predictions"] == [statement["prediction"]]


def test_faults_are_errors_and_refusals_are_not(
    project: SmallProject, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with served(project) as running:
        assert running.client.post("/v1/predict", json={}).status_code == 422
        monkeypatch.setattr("tidemill.serving.hot.parse_predict", broken)
        assert running.client.post("/v1/predict", json={}).status_code == 500
    refused, failed = receiver.spans
    assert attributes(refused)["http.response.status_code"] == 422 and refused.status.code == 0
    assert attributes(failed)["http.response.status_code"] == 500 and failed.status.code == 2


def test_the_environment_says_the_share_the_name_and_whether_at_all(
    project: SmallProject, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**variables: str) -> int:
        before = len(receiver.spans)
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with served(project) as running:
                answer = running.client.post("/v1/predict", json={"inputs": digit(0)})
                assert answer.status_code == 200
        return len(receiver.spans) - before

    assert ask(OTEL_SERVICE_NAME="harbour") == 5
    assert receiver.resources()[-1]["service.name"] == "harbour"
    assert ask(OTEL_TRACES_SAMPLER="always_off") == 0
    assert ask(OTEL_SDK_DISABLED="true") == 0
    assert ask(OTEL_TRACES_EXPORTER="none") == 0
    assert ask(OTEL_EXPORTER_OTLP_ENDPOINT="") == 0
    serve = project.config.serve.model_copy(update={"tracing": False})
    project.config = project.config.model_copy(update={"serve": serve})
    assert ask() == 0


def test_a_collector_that_is_away_holds_up_nothing_and_is_told_in_the_log(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with served(project) as running:
        for _ in range(5):
            assert running.client.post("/v1/predict", json={"inputs": digit(0)}).status_code == 200
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert any(line["logger"] == "tidemill.serving" and line["message"].startswith("traces: ") for line in lines)


def test_a_cycle_has_a_span_for_each_stage(receiver: Receiver, tmp_path: Path) -> None:
    recipes = {"include": ["ridge"], "exclude": ["naive-bayes", "lightgbm", "mlp"]}
    project = tidemill.init(tmp_path / "p", data="sklearn:iris", target="target", recipes=recipes)
    with contextlib.closing(project.store):
        done = project.cycle(max_trials=0, trigger="a test")
    cycle = receiver.one("cycle")
    assert attributes(cycle) == {"tidemill.trigger": "a test"}
    stages = receiver.children(cycle)
    assert set(stages) == set(done["stages"]) >= {"feedback", "prepare", "evaluate", "deploy", "annotate"}
    for span in stages.values():
        assert cycle.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= cycle.end_time_unix_nano


def test_without_the_extra_it_is_named_where_traces_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'tidemill\[tracing\]'"), tracing(True):
        pass
    with tracing(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}) as tracer:
        assert tracer is None
    assert "requests are not traced: serve.tracing: OpenTelemetry is not installed" in caplog.text
    caplog.clear()
    with tracing(None, {}) as tracer:
        assert tracer is None and not caplog.text
