"""Data: the versions, what changed between them, and what is in one; labels that may be wrong, and copies."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from tidemill.console.site.figures import newest_file
from tidemill.console.site.visit import Place, Visit
from tidemill.data.storage import is_complete
from tidemill.monitor.label_errors import DOUBTS, label_errors_path
from tidemill.project import OpenProject, data_page
from tidemill.records import JSON, Dataset
from tidemill.store.erasing import last_erasure
from tidemill.store.glances import page as page_of

VERSIONS = 20
DESCRIBING, SEARCHING = WORKS = ("describing", "label errors")
"""What is done in the background for a version, by the names that :class:`Figures` knows it by."""
_KEPT = 4


def data(visit: Visit) -> Response:
    """One version: the last cycle's unless named."""
    wanted, against = visit.asked("version"), visit.asked("against")
    record = visit.project.dataset if wanted is None else visit.store.get(Dataset, wanted)
    versions = [d for _, d in page_of(visit.store, Dataset, limit=VERSIONS)]
    listed = [
        {"id": d.id, "created": d.created, "counts": d.counts, "kept": is_complete(visit.store.root / d.path)}
        for d in versions
    ]
    content: JSON = {"versions": listed, "data": None, "record": record, "faults": {}}
    content |= {"describing": False, "searching": False}
    if record is None or not is_complete(visit.store.root / record.path):
        return visit.page("data.html", **content)
    figures = visit.site.figures
    content["faults"] = {work: fault for work in WORKS if (fault := figures.fault(work, record.id)) is not None}
    if not (visit.store.root / record.path / "profile.json").is_file():
        if DESCRIBING not in content["faults"]:
            content["describing"] = True
            target = "tidemill.console.site.data:describe_job"
            figures.begin(DESCRIBING, target, _job(visit, record), of=record.id)
        return visit.page("data.html", **content)
    content["searching"] = figures.works(SEARCHING)
    content["searched"] = label_errors_path(visit.store.root, record).is_file()
    return visit.page("data.html", **{**content, "data": _described(visit, record, against)})


def _described(visit: Visit, record: Dataset, against: str | None) -> JSON:
    """What the data page says, kept: a version never changes, but doubts about its labels may come later."""
    root = visit.store.root
    name = (
        record.id,
        against,
        newest_file(label_errors_path(root, record)),
        newest_file(root / record.path / DOUBTS),
        len(visit.store.ids(Dataset)),
        *last_erasure(visit.store),
    )
    known = visit.site.described
    if name not in known:
        found = data_page.data(visit.project, record.id, against=against, search=False)
        while len(known) >= _KEPT:
            known.pop(next(iter(known)))
        known[name] = found
    return known[name]


def _job(visit: Visit, record: Dataset) -> JSON:
    return {"folder": str(visit.project.dir), "version": record.id}


def search(visit: Visit) -> Response:
    """Look for labels that may be wrong: up to eleven fits of a quick recipe, in a process of their own."""
    record = visit.store.get(Dataset, visit.given("version") or "")
    target = "tidemill.console.site.data:search_job"
    visit.site.figures.forgive(SEARCHING, record.id)
    visit.site.figures.begin(SEARCHING, target, _job(visit, record), of=record.id)
    return visit.go("/data", version=record.id, said="searching")


def again(visit: Visit) -> Response:
    """Describe a version once more, which failed before: the page that is shown next begins with it."""
    record = visit.store.get(Dataset, visit.given("version") or "")
    visit.site.figures.forgive(DESCRIBING, record.id)
    return visit.go("/data", version=record.id)


def describe_job(folder: str, version: str) -> JSON:
    """Describe a version, as a job of an engine: see :mod:`tidemill.engines`."""
    return {"version": data_page.data(OpenProject(Path(folder)), version, search=False)["version"]["id"]}


def search_job(folder: str, version: str) -> JSON:
    """Look for labels that may be wrong, as a job of an engine."""
    return {"version": data_page.data(OpenProject(Path(folder)), version)["version"]["id"]}


PLACES = (
    Place("/data", data, "label"),
    Place("/data/again", again, "label", "POST"),
    Place("/data/search", search, "admin", "POST"),
)
