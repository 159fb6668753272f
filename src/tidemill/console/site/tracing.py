"""Trace: from any id the whole line that it stands in, drawn from the answer back to the data."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tidemill.console.site.visit import Place, Visit
from tidemill.errors import NotFoundError
from tidemill.records import JSON, Cycle, Deployment, Feedback, Prediction

NAMES = {
    "pred": "prediction", "fb": "feedback", "label": "annotation", "model": "model", "run": "run", "data": "dataset",
    "cycle": "cycle", "decision": "decision", "deploy": "deployment", "roll": "roll-out", "report": "report",
    "smp": "sample", "gone": "erasure", "pair": "pair", "episode": "episode",
}  # fmt: skip
_INNER = ("about", "model", "challenger", "champion", "run", "dataset", "cycle", "decision")
"""What a line nests, in the order from an answer back to the data."""
_LISTS = ("feedback", "pairs", "episodes", "annotations", "decisions", "deployments", "rollouts", "runs")
_MOST = 20
_LEFT_OUT = ("evidence", "curve", "report", "content", "signature", "space")


def trace(visit: Visit) -> Response:
    """The line of an id, or a place to give one."""
    identifier = visit.asked("id")
    if identifier is None:
        recent = {
            kind.prefix: [record.id for record in visit.store.find(kind, newest_first=True, limit=3)]
            for kind in (Prediction, Feedback, Deployment, Cycle)
        }
        return visit.page("trace.html", identifier=None, boxes=[], recent=recent, names=NAMES)
    if identifier == "champion":
        identifier = visit.project.champion_deployment().model_id
    try:
        line = visit.service.trace(identifier)
    except NotFoundError as error:
        return visit.page(
            "trace.html", status=404, identifier=identifier, boxes=[], fault=error, recent={}, names=NAMES
        )
    return visit.page("trace.html", identifier=identifier, boxes=boxes(line), recent={}, names=NAMES)


def boxes(line: JSON) -> list[JSON]:
    """What a line holds, box by box: ``{"kind", "id", "fields", "lists"}``, what was asked for first."""
    found: list[JSON] = []
    _gather(line, found, set())
    return found


def _gather(line: JSON, found: list[JSON], seen: set[str]) -> None:
    record: JSON = line.get("record", line)
    identifier = str(record.get("id", ""))
    if identifier and identifier in seen:
        return
    seen.add(identifier)
    kind = identifier.partition("_")[0]
    if kind not in NAMES:  # a pair, an episode, or what was erased or removed
        kind = str(line.get("kind") or kind)
    fields = {
        name: _short(value)
        for name, value in record.items()
        if name not in ("id", *_LEFT_OUT) and value not in (None, "", [], {}, ())
    }
    lists = {
        name: [_entry(one) for one in line[name][:_MOST]]
        for name in _LISTS
        if isinstance(line.get(name), list) and line[name]
    }
    found.append({"kind": kind, "id": identifier, "fields": fields, "lists": lists})
    for name in _INNER:
        inner = line.get(name)
        if isinstance(inner, str) and name == "dataset":
            inner = {"kind": "data", "record": {"id": inner}}
        if isinstance(inner, dict) and ("kind" in inner or "id" in inner):
            _gather(
                inner if "record" in inner else {"kind": _kind_of(name, inner), "record": inner, **inner}, found, seen
            )


def _kind_of(name: str, inner: JSON) -> str:
    identifier = str(inner.get("id", ""))
    return identifier.partition("_")[0] if "_" in identifier else name


def _entry(one: JSON) -> JSON:
    """One line of a list: its id, and what tells it from the others."""
    told = [
        one.get(name)
        for name in ("kind", "outcome", "action", "status", "recipe", "label", "value", "reason", "author")
    ]
    said = " · ".join(str(part) for part in told if part not in (None, ""))
    return {"id": one.get("id"), "said": said if len(said) <= 200 else f"{said[:199]}…"}


def _short(value: Any) -> Any:
    """A value that is shown: long lists and objects are cut."""
    if isinstance(value, list | tuple):
        return [_short(one) for one in value[:12]] + (["…"] if len(value) > 12 else [])
    if isinstance(value, dict):
        shown = {name: _short(one) for name, one in list(value.items())[:16]}
        return shown | ({"…": len(value) - 16} if len(value) > 16 else {})
    return value


PLACES = (Place("/trace", trace, "admin"),)
