"""Feedback: the stream of what people say, whose word counts for how much, and what became of each piece."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tidemill.console.site.visit import Place, Visit
from tidemill.errors import InputError
from tidemill.project.figures import fate
from tidemill.project.said import KINDS
from tidemill.records import EPISODE, JSON, PAIR, Feedback, Prediction, to_json
from tidemill.store.glances import page as page_of

SHOWN = 40
AUTHORS = 100


def stream(visit: Visit) -> Response:
    """The newest pieces, or those before one; of one kind or author, if asked."""
    before, kind, author = visit.number("before"), visit.asked("kind"), visit.asked("author")
    if kind is not None and kind not in KINDS:
        raise InputError(f"there is no kind {kind!r:.40}", where="kind", mend=f"Use one of {', '.join(KINDS)}.")
    chosen: dict[str, Any] = {name: value for name, value in (("kind", kind), ("author", author)) if value is not None}
    found = page_of(visit.store, Feedback, limit=SHOWN + 1, before=before, **chosen)
    pieces = [piece for _, piece in found[:SHOWN]]
    about = {p.id: p for p in visit.store.find(Prediction, id=[p.subject for p in pieces])} if pieces else {}
    figures = visit.site.figures.look()
    return visit.page(
        "feedback.html",
        pieces=[_told(visit, piece, about.get(piece.subject), figures) for piece in pieces],
        figures=figures,
        fault=visit.site.figures.fault("figures"),
        total=visit.site.tally.count(Feedback),
        kinds=KINDS,
        kind=kind,
        author=author,
        first=before is None,
        older=found[SHOWN - 1][0] if len(found) > SHOWN else None,
    )


def _told(visit: Visit, piece: Feedback, prediction: Prediction | None, figures: JSON | None) -> JSON:
    state, why = fate(visit.store, piece, prediction, figures)
    answer = None if prediction is None else prediction.answer
    shown = to_json(piece)
    shown["several"] = piece.subject.startswith((PAIR, EPISODE))
    return {**shown, "fate": state, "why": why, "answer": _short(answer), "erased": piece.erased}


def _short(answer: JSON | None) -> object:
    if answer is None:
        return None
    return next((answer[name] for name in ("label", "labels", "value", "action") if name in answer), None)


def authors(visit: Visit) -> Response:
    """Everybody who stated a label, those who stated most first."""
    figures = visit.site.figures.look()
    found = [] if figures is None else figures["authors"]
    return visit.page(
        "authors.html",
        authors=found[:AUTHORS],
        count=len(found),
        figures=figures,
        fault=visit.site.figures.fault("figures"),
    )


PLACES = (Place("/feedback", stream, "admin"), Place("/feedback/authors", authors, "admin"))
