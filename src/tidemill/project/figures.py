"""What takes long to find out of what people said, found out at once: trust, live quality, what became of each piece.

It reads everything that was ever said, so pages show it as it was last found, and have it found anew when there is
something new: by a process of its own where there is much.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from tidemill.data.assigned import fold_journal
from tidemill.data.settled import Settled
from tidemill.monitor.live_quality import METRICS, judged, mean_interval
from tidemill.project import said
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, LABEL_KINDS, Annotation, Cycle, Feedback, LiveKey, Prediction
from tidemill.store import Store
from tidemill.store.glances import last_number, page

LEVEL = 0.05
"""How often the interval of live quality may miss."""
_LOOKED_AT = 200


def seen(store: Store) -> JSON:
    """What figures are made of, in numbers; the same again, and they would come out the same."""
    done = store.find(Cycle, status="done", newest_first=True, limit=1)
    return {
        "feedback": last_number(store, Feedback),
        "annotations": last_number(store, Annotation),
        "deployment": store.revision(),
        "cycle": done[0].id if done else None,
    }


def figures(project: OpenProject) -> JSON:
    """Everything at once.

    Returns:
        ``{"seen", "early", "at", "seconds", "authors", "held", "audited", "answered", "statements", "quality", "fates",
        "limited"}``:

        - ``early`` is the number of predictions, where something was said of one that was not in the tables yet, so
          that its coming there is news, too; else ``None``;
        - ``authors`` are the fields of :class:`tidemill.data.settled.AuthorStanding`, with ``author`` and ``via`` in
          the place of ``voice``; ``held`` says how many labels are held back by the reason;
        - ``quality`` is the champion's, ``{"metric", "value", "low", "high", "labels", "level"}``, or ``None``;
        - ``fates`` says by key what became of the labels stated for it, ``[STATE, REASON]``: ``held``, ``torn`` (people
          disagree), ``judges``, or ``trains``.
    """
    began = time.time()
    fold_journal(project.store)
    state = seen(project.store)
    settled = said.settle(project)
    authors = []
    for author in settled.authors:
        fields = {name: value for name, value in asdict(author).items() if name != "voice"}
        authors.append({"author": author.voice.author, "via": author.voice.via or None, **fields})
    return {
        "seen": state,
        "early": _early(project.store),
        "at": began,
        "authors": authors,
        "held": said.reasons(settled),
        "limited": settled.limited,
        "audited": settled.audited,
        "answered": settled.answered,
        "statements": settled.statements,
        "quality": _quality(project, settled),
        "fates": _fates(project.store, settled),
        "seconds": round(time.time() - began, 3),
    }


def figures_job(folder: str) -> JSON:
    """The same as a job of an engine: see :mod:`tidemill.engines`."""
    return figures(OpenProject(Path(folder)))


def _early(store: Store) -> int | None:
    number = last_number(store, Prediction)
    newest = page(store, Feedback, limit=_LOOKED_AT, kind=LABEL_KINDS)
    subjects = {piece.subject for _, piece in newest}
    return number if len(store.ids(Prediction, id=subjects)) < len(subjects) else None


def is_news(store: Store, found: JSON) -> bool:
    """Whether figures would come out otherwise now than *found*."""
    if found["seen"] != seen(store):
        return True
    return found["early"] is not None and found["early"] != last_number(store, Prediction)


def _quality(project: OpenProject, settled: Settled) -> JSON | None:
    deployment = project.store.champion()
    if deployment is None:
        return None
    kind = project.task.kind
    answers = judged(project.store, settled, deployment, kind)
    found = mean_interval(answers, LEVEL, share=answers.share)
    known = {name: value for name in ("value", "low", "high") if (value := getattr(found, name)) == value}
    return {
        "metric": METRICS[kind],
        "labels": len(answers),
        "level": LEVEL,
        **{name: known.get(name) for name in ("value", "low", "high")},
    }


def _fates(store: Store, settled: Settled) -> dict[str, list[str]]:
    fates = {s.prediction.key: ["trains" if s.split == "train" else "judges", ""] for s in settled.live}
    others = store.find(Prediction, id={i for i in (*settled.held, *settled.contradictions) if i.startswith("pred_")})
    for prediction in others:
        reason = settled.held.get(prediction.id)
        fates[prediction.key] = ["torn", ""] if reason is None else ["held", reason]
    return fates


def fate(store: Store, statement: Feedback, prediction: Prediction | None, found: JSON | None) -> tuple[str, str]:
    """What became of one piece of feedback, and why.

    Args:
        store: the store.
        statement: the piece.
        prediction: what it is about, if that is in the tables.
        found: what :func:`figures` last found.

    Returns:
        ``erased``, ``replaced``, ``kept`` (it states no label), ``unknown`` (not looked at yet), ``held``, ``torn``,
        ``volunteered`` (nobody asked, and the key is drawn for the audit), ``judges``, ``trains`` or ``waits`` (it
        trains with the next cycle).
    """
    if statement.erased:
        return "erased", ""
    if statement.superseded_by is not None:
        return "replaced", statement.superseded_by
    if statement.kind not in ("confirmation", "correction"):
        return "kept", ""
    if prediction is None or found is None:
        return "unknown", ""
    state, reason = found["fates"].get(prediction.key, ("unknown", ""))
    if state == "unknown" or statement.created > found["at"]:
        return _volunteered(store, statement, prediction), ""
    if state == "judges" and not statement.asked:
        return "volunteered", ""
    if state == "trains":
        done = store.find(Cycle, status="done", newest_first=True, limit=1)
        return ("trains", "") if done and done[0].created > statement.created else ("waits", "")
    return state, reason


def _volunteered(store: Store, statement: Feedback, prediction: Prediction) -> str:
    place = store.find(LiveKey, key=prediction.key, limit=1)
    drawn = bool(place) and place[0].split != "train"
    return "volunteered" if drawn and not statement.asked else "unknown"
