"""How far annotators have come, and how far they agree.

It takes longer the more was said. So where very much was, it is kept for a while and found anew in the background,
which takes no more than a twentieth of a core however often somebody looks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tidemill.annotation.agreement import summarise_agreement
from tidemill.errors import TidemillError
from tidemill.project.opened import OpenProject
from tidemill.records import JSON
from tidemill.store import Store
from tidemill.store.erasing import last_erasure
from tidemill.store.labelled import count_labels, count_unanswered, shared_labels

AT_ONCE = 0.05
"""Seconds up to which it is found anew for whoever looks."""
REST = 20.0
"""How many times as long as it took it is kept."""


@dataclass(slots=True)
class _Kept:
    found: JSON
    took: float
    until: float
    erased: tuple[object, ...]


_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()


def standing(project: OpenProject) -> JSON:
    """Who has answered how much, and how far they agree.

    Returns:
        ``{"authors": [{"author", "answered", "skipped", "unsure"}], "agreement"}``; *agreement* is
        :func:`tidemill.annotation.agreement.summarise_agreement` of all that annotators said.
    """
    store, kind = project.store, project.signature.kind
    erased = last_erasure(store)
    kept = _kept.get(store)
    if kept is None or kept.erased != erased or kept.took <= AT_ONCE:  # no name may outlast its erasure
        return _find(store, kind, erased)
    if time.monotonic() > kept.until:
        kept.until = time.monotonic() + REST * kept.took  # one at a time
        threading.Thread(target=_again, args=(store, kind, erased), name="tidemill-progress", daemon=True).start()
    return kept.found


def _again(store: Store, kind: str, erased: tuple[object, ...]) -> None:
    with contextlib.suppress(TidemillError):  # what is kept is shown on, and the next look tries again
        _find(store, kind, erased)


def _find(store: Store, kind: str, erased: tuple[object, ...]) -> JSON:
    began = time.monotonic()
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for author, state, n in count_unanswered(store):
        states[author][state] = n
    labels: Counter[str] = Counter()
    speakers: set[str] = set()
    for author, purpose, n in count_labels(store):
        labels[author] += n
        if purpose != "adjudicate":
            speakers.add(author)
    said: dict[str, dict[str, Any]] = defaultdict(dict)
    for subject, author, label in shared_labels(store):
        said[subject][author] = label
    names = sorted({*states, *labels}, key=lambda name: (-labels[name], name))
    authors = [
        {
            "author": name,
            "answered": labels[name],
            "skipped": states[name]["skipped"],
            "unsure": states[name]["unsure"],
        }
        for name in names
    ]
    found = {
        "authors": authors,
        "agreement": {**summarise_agreement(said, kind), "annotators": len(speakers)},
    }
    now = time.monotonic()
    _kept[store] = _Kept(found, now - began, now + REST * (now - began), erased)
    return found
