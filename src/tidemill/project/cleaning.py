"""``tidemill gc``: what nothing needs any more is removed, and old predictions age into Parquet."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.data.dataset import folders
from tidemill.data.storage import is_complete
from tidemill.errors import BusyError, StoreError
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Annotation, Dataset, Deployment, Feedback, Member, Model, Prediction, to_json
from tidemill.store import Store, running_rollout

VERSIONS = 3
"""How many dataset versions stay: the newest is what the next cycle starts from, the others serve comparison."""
_AT_ONCE = 5000


def gc(project: OpenProject, *, dry_run: bool = False) -> JSON:
    """Remove old models, dataset versions, feature caches, what killed work left, and archive old predictions.

    The models that ever served, one that is being rolled out, the newest ``keep.models``, the newest three dataset
    versions, and that of the champion stay. Predictions older than ``keep.predictions_days`` of which nobody spoke move
    to a Parquet file in ``.tidemill/archive``.

    Raises:
        BusyError: a cycle is running, or a backup is being made.
    """
    store = project.store
    try:
        with store.lock("cycle"), store.lock("backup"):
            doomed = _doomed(project)
            old = _old_predictions(project)
            freed = sum(_size(folder) for folder in doomed)
            if not dry_run:
                _archive(store, old)
                for folder in doomed:
                    shutil.rmtree(folder)
    except BusyError as error:
        busy = "a backup is being made" if "'backup'" in error.what else "a cycle is running"
        raise BusyError(busy, where=error.where, mend="Clean up when it is done.") from error
    used, quota = usage(project)
    return {
        "removed": [str(folder.relative_to(store.root)) for folder in doomed],
        "predictions": len(old),
        "bytes": freed,
        "used_bytes": used,
        "quota_bytes": quota,
        "over_quota": used > quota,
        "dry_run": dry_run,
    }


def usage(project: OpenProject) -> tuple[int, int]:
    """Bytes that the state takes, and bytes that it may take."""
    return sum(project.store.usage().values()), int(project.config.limits.quota_gb * 1e9)


def require_room(project: OpenProject) -> None:
    """Refuse to start work that writes while the state is over its quota.

    Raises:
        StoreError: it is; the message says what helps.
    """
    used, quota = usage(project)
    if used > quota:
        raise StoreError(
            f"the project takes {used / 1e9:.1f} GB, and may take {quota / 1e9:.1f} GB",
            where=str(project.store.root),
            mend="Run `tidemill gc`, or raise limits.quota_gb in tidemill.yaml.",
        )


def _doomed(project: OpenProject) -> list[Path]:
    store, root = project.store, project.store.root
    served = {d.model_id for d in store.find(Deployment)}
    if (rollout := running_rollout(store)) is not None:
        served.add(rollout.challenger_id)
    newest = {m.id for m in store.find(Model, newest_first=True, limit=project.config.keep.models)}
    models = [root / m.path for m in store.find(Model) if m.id not in served | newest]
    versions = store.find(Dataset, newest_first=True, limit=VERSIONS)
    needed = {folder for version in [*versions, *_champions(store)] for folder in folders(root, version)}
    data = [
        path
        for kind in ("versions", "parts", "live")
        for path in _children(root / "data" / kind)
        if str(path.relative_to(root)) not in needed
    ]
    current = {v.id for v in versions[:1]}
    features = [path for path in _children(root / "features") if path.name not in current]
    return [path for path in [*models, *data, *features, *_children(root / "work")] if path.is_dir()]


def _champions(store: Store) -> list[Dataset]:
    """The version that the champion was trained on, if its files are there: traffic is compared with it."""
    champion = store.champion()
    identifier = None if champion is None else store.get(Model, champion.model_id).dataset_id
    found = store.find(Dataset, id=identifier) if identifier is not None else []
    return [version for version in found if is_complete(store.root / version.path)]


def _old_predictions(project: OpenProject) -> list[str]:
    """Ids of predictions past their time of which nobody spoke: labels are settled from those of which somebody did."""
    store = project.store
    before = time.time() - project.config.keep.predictions_days * 86_400
    old = store.ids(Prediction, created_before=before)
    spoken = {f.subject for f in store.find(Feedback)} | {a.subject for a in store.find(Annotation)}
    spoken |= {member.prediction for member in store.find(Member)}
    return [identifier for identifier in old if identifier not in spoken]


def _archive(store: Store, identifiers: list[str]) -> None:
    """Write predictions to Parquet, whole and renamed into place, before they leave the tables."""
    folder = store.root / "archive"
    for start in range(0, len(identifiers), _AT_ONCE):
        portion = identifiers[start : start + _AT_ONCE]
        table = pa.Table.from_pylist([_flat(p) for p in store.find(Prediction, id=portion)])
        folder.mkdir(exist_ok=True)
        place = folder / f"predictions-{portion[0]}.parquet"
        unfinished = place.with_suffix(".part")
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.rename(place)
        store.delete(Prediction, portion)


def _flat(prediction: Prediction) -> JSON:
    """A row of plain values: what is nested becomes JSON text."""
    fields = to_json(prediction)
    return {name: orjson.dumps(v).decode() if isinstance(v, dict) else v for name, v in fields.items()}


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
