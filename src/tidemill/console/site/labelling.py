"""Label: one question after the other, answered by a key, with the next one at hand.

Every part works as a plain form. With the page's script nothing is loaded anew: an answer is sent while the next sample
stands there already, and what cannot be sent comes back with what was said.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from tidemill.annotation.keys import keys_for
from tidemill.console.site.visit import Place, Visit
from tidemill.errors import InputError
from tidemill.project import desk, guidelines
from tidemill.records import JSON, QueueItem
from tidemill.runtime.statements import name
from tidemill.store.asking import waiting

_LISTED = 40
"""Labels up to which each has a button."""


def label(visit: Visit) -> Response:
    """The next question, and the one after it."""
    author, purpose = who(visit), _purpose(visit)
    asked = desk.take(visit.project, author, 2, purpose=purpose)
    return visit.page("label.html", **_around(visit, author, purpose), questions=[_shown(visit, q) for q in asked])


def question(visit: Visit) -> Response:
    """One more question, besides those that stand on the page; nothing when there is none."""
    besides = [one for one in visit.request.query_params.getlist("besides") if one][:50]
    asked = desk.take(visit.project, who(visit), 1, purpose=_purpose(visit), besides=besides)
    if not asked:
        return Response(status_code=204)
    return visit.page("label_question.html", **_around(visit, who(visit), _purpose(visit)), q=_shown(visit, asked[0]))


def answer(visit: Visit) -> Response:
    """Keep an answer; skip a question; or note that somebody is not sure."""
    author, act = who(visit), visit.given("act")
    if act in ("skip", "unsure"):
        said: JSON = desk.pass_over(
            visit.project, _needed(visit, "question"), author=author, unsure=act == "unsure", note=visit.given("note")
        )
    else:
        said = desk.answer(
            visit.project,
            _needed(visit, "subject"),
            _value(visit),
            author=author,
            note=visit.given("note"),
            question=visit.given("question"),
            where="label",
        )
    if visit.request.headers.get("x-part"):
        return JSONResponse({"kept": said.get("id"), "disputed": said.get("disputed", False)})
    return _back(visit)


def undo(visit: Visit) -> Response:
    """Take back what was done last, and show it again."""
    author = who(visit)
    back = desk.undo(visit.project, author=author)
    if not visit.request.headers.get("x-part"):
        return _back(visit)
    if back["question"] is None:
        return Response(status_code=204)
    shown = _shown(visit, None, back["question"])
    return visit.page(
        "label_question.html",
        **_around(visit, author, _purpose(visit)),
        q={**shown, "said": back["label"], "note": back["note"]},
    )


def progress(visit: Visit) -> Response:
    """How the queues stand, and how far annotators agree."""
    return visit.page("label_progress.html", told=desk.progress(visit.project, who(visit)), author=who(visit))


def who(visit: Visit) -> str:
    """Under which name answers are kept: the token's; where none is needed, the name that was given."""
    if visit.visitor.token is not None:
        return visit.visitor.token.name
    said = visit.given("as") or visit.asked("as")
    return name({"as": said}, "as", "page") or visit.author if said else visit.author


def _purpose(visit: Visit) -> str | None:
    purpose = visit.given("purpose") or visit.asked("purpose")
    if purpose not in (None, "audit", "useful"):
        raise InputError(f"there is no queue {purpose!r:.40}", where="purpose", mend="Use audit or useful.")
    return purpose


def _around(visit: Visit, author: str, purpose: str | None) -> dict[str, Any]:
    """What the page says besides the question."""
    signature = visit.project.signature
    labels = list(signature.labels)
    keys = {label: key for key, label in keys_for(labels).items()} if len(labels) <= _LISTED else {}
    return {
        "author": author,
        "named": visit.visitor.token is not None,
        "purpose": purpose,
        "labels": labels,
        "keys": keys,
        "target": signature.target,
        "fields": {f.name: f.type for f in signature.inputs},
        "guidelines": guidelines.read_or_fault(visit.project),
        "waiting": waiting(visit.store),
    }


def _shown(visit: Visit, item: QueueItem | None, shown: JSON | None = None) -> JSON:
    found: JSON = shown if item is None and shown is not None else desk.shown(visit.project, item)  # type: ignore[arg-type]
    inputs = dict(found["inputs"])
    sides = {side: inputs.pop(side) for side in ("left", "right") if found["widget"] == "better" and side in inputs}
    return {**found, "inputs": inputs, "sides": sides, "said": None, "note": None}


def _value(visit: Visit) -> Any:
    """The answer of the form: of several labels all that were chosen."""
    values = visit.fields.get("label", [])
    if visit.given("widget") == "several":
        return values
    if len(values) != 1 or not values[0].strip():
        raise InputError("there is no answer yet", where="label", mend="Choose one, or skip the question.")
    return values[0] if visit.given("widget") == "text" else values[0].strip()


def _needed(visit: Visit, field: str) -> str:
    value = visit.given(field)
    if value is None:
        raise InputError(f"the {field} is missing", where="form", mend="Open the page again; what was said is kept.")
    return value


def _back(visit: Visit) -> Response:
    return visit.go("/label", purpose=_purpose(visit), **{"as": visit.given("as")})


PLACES = (
    Place("/label", label, "label"),
    Place("/label/question", question, "label"),
    Place("/label/progress", progress, "label"),
    Place("/label", answer, "label", "POST"),
    Place("/label/undo", undo, "label", "POST"),
)
