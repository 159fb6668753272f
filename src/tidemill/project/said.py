"""What people have said, to look at: statements of every kind, and how their authors stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, get_args

from tidemill.data.assigned import fold_journal
from tidemill.data.rewards import settled_for
from tidemill.data.settled import Settled
from tidemill.errors import InputError
from tidemill.project.opened import OpenProject
from tidemill.records import EPISODE, JSON, PAIR, Feedback, FeedbackKind, Member, to_json

KINDS: tuple[str, ...] = get_args(FeedbackKind)


def kinds(project: OpenProject) -> dict[str, int]:
    """How many statements of each kind are in force; kinds of which there is none are left out."""
    counts = {kind: project.store.count(Feedback, kind=kind, superseded_by=None) for kind in KINDS}
    return {kind: n for kind, n in counts.items() if n}


def statements(
    project: OpenProject,
    n: int = 20,
    *,
    kind: str | None = None,
    author: str | None = None,
    about: str | None = None,
) -> JSON:
    """The newest statements, and how many of each kind are in force.

    Args:
        n: at most so many.
        kind: only of this kind.
        author: only by this author.
        about: only of this prediction, ``pair:…`` or ``episode:…``; of a prediction also of its pairs and episodes.

    Returns:
        ``{"kinds", "statements"}``.

    Raises:
        InputError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"there is no kind {kind!r}", where="kind", mend=f"Use one of {', '.join(KINDS)}.")
    given = {"kind": kind, "author": author, "subject": None if about is None else subjects(project, about)}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = project.store.find(Feedback, newest_first=True, limit=n, **chosen)
    return {"kinds": kinds(project), "statements": [to_json(item) for item in found if not item.erased]}


def subjects(project: OpenProject, about: str) -> list[str]:
    """*about* itself, and the pairs and episodes that a prediction belongs to."""
    if about.startswith((PAIR, EPISODE)):
        return [about]
    return [about, *(member.subject for member in project.store.find(Member, prediction=about))]


def settle(project: OpenProject) -> Settled:
    """What everybody said so far, settled by the project's policy."""
    return settled_for(project.store, project.task.kind, project.task.label, project.config)


def authors(project: OpenProject) -> JSON:
    """How everybody stands who stated a label, and why labels are held back.

    Returns:
        ``{"authors", "held"}``: the fields of :class:`tidemill.data.settled.AuthorStanding` with ``author`` and ``via``
        in the place of ``voice``, and how many labels are held back by the reason.
    """
    fold_journal(project.store)
    settled = settle(project)
    rows = []
    for author in settled.authors:
        fields = {name: value for name, value in asdict(author).items() if name != "voice"}
        rows.append({"author": author.voice.author, "via": author.voice.via or None, **fields})
    return {"authors": rows, "held": reasons(settled)}


def reasons(settled: Settled) -> dict[str, int]:
    """Why labels are held back, and how many, the most frequent reason first."""
    return dict(Counter(settled.held.values()).most_common())
