"""Trace: from any id, the whole line back to samples and feedback, and on to the decision that promoted it."""

from __future__ import annotations

from tidemill.data.dataset import open_dataset
from tidemill.data.storage import is_complete
from tidemill.errors import NotFoundError
from tidemill.project.forgetting import tombstone
from tidemill.records import (
    EPISODE,
    JSON,
    PAIR,
    Annotation,
    Cycle,
    Dataset,
    Decision,
    Deployment,
    Erasure,
    Feedback,
    Member,
    Model,
    Prediction,
    Record,
    Report,
    Rollout,
    Run,
    StateSnapshot,
    to_json,
)
from tidemill.store import Store

KINDS: dict[str, type[Record]] = {
    kind.prefix: kind
    for kind in (
        *(Annotation, Cycle, Dataset, Decision, Deployment, Erasure),
        *(Feedback, Model, Prediction, Report, Rollout, Run, StateSnapshot),
    )
}


def trace(store: Store, identifier: str) -> JSON:
    """The line that an id stands in.

    Returns:
        ``{"kind", "record", …}`` with what it came from nested under ``prediction``, ``model``, ``run``, ``dataset``,
        ``cycle``, ``decision`` and ``deployments``, and what was said of it under ``feedback``. Of what was erased,
        ``{"kind": "erased", "record": {"id", "erased", "erasure"}}``: when (UTC seconds), and the id of the erasure.

    Raises:
        NotFoundError: no record has this id.
    """
    if identifier.startswith((PAIR, EPISODE)):
        return _several(store, identifier) | {"feedback": _said(store, identifier)}
    prefix = identifier.partition("_")[0]
    if prefix == "smp":
        return _sample(store, identifier)
    kind = KINDS.get(prefix)
    if kind is None:
        raise NotFoundError(
            f"{identifier!r} is no id of Tidemill's",
            mend=f"An id begins with one of {', '.join(f'{p}_' for p in sorted([*KINDS, 'smp']))}.",
        )
    try:
        record = store.get(kind, identifier)
    except NotFoundError:  # a prediction may have aged into an archive before it was erased
        if (gone := tombstone(store, identifier)) is not None:
            return {"kind": "erased", "record": gone}
        raise
    if isinstance(record, Prediction | Feedback | Annotation) and record.erased:
        return {"kind": "erased", "record": tombstone(store, identifier) or {"id": identifier}}
    line: JSON = {"kind": prefix, "record": to_json(record)}
    match record:
        case Prediction():
            line["feedback"] = _said(store, record.id)
            line |= _beside(store, record.id)
            line["annotations"] = _labels(store, record.id)
            line["model"] = _if_kept(store, Model, record.model_id)
            line["state"] = _state(store, record.state_id)
        case Feedback() | Annotation():
            line["about"] = _subject(store, record.subject)
        case Model():
            line |= _model(store, record)
        case Run():
            line["dataset"] = _if_kept(store, Dataset, record.dataset_id)
            line["cycle"] = _cycle(store, record.cycle_id)
        case Report():
            line["model"] = _if_kept(store, Model, record.model_id)
        case Deployment():
            line["model"] = _if_kept(store, Model, record.model_id)
            line["state"] = _state(store, record.state_id)
        case StateSnapshot():
            line["model"] = _if_kept(store, Model, record.model_id)
            line["decision"] = _if_kept(store, Decision, record.decision_id)
        case Rollout():
            line["challenger"] = _if_kept(store, Model, record.challenger_id)
            line["champion"] = _if_kept(store, Model, record.champion_id)
        case Decision():
            is_state = record.challenger_id.startswith(f"{StateSnapshot.prefix}_")
            line["challenger"] = (
                _state(store, record.challenger_id) if is_state else _if_kept(store, Model, record.challenger_id)
            )
            line["cycle"] = _cycle(store, record.cycle_id)
        case Cycle():
            line["runs"] = [_short_run(r) for r in store.find(Run, cycle_id=record.id)]
            line["decision"] = to_json(store.get(Decision, record.decision_id)) if record.decision_id else None
        case _:
            pass
    return line


def _if_kept(store: Store, kind: type[Record], identifier: str | None) -> JSON | None:
    """The traced line of an id, or a note that clean-up has removed its record."""
    if identifier is None:
        return None
    return trace(store, identifier) if store.exists(kind, identifier) else {"kind": "removed", "id": identifier}


def _state(store: Store, identifier: str | None) -> JSON | None:
    """What a model had learned by then; of a snapshot that was refused, or is gone, its id alone."""
    found = store.find(StateSnapshot, id=identifier, limit=1) if identifier is not None else []
    if found:
        return {"kind": StateSnapshot.prefix, "record": to_json(found[0])}
    return None if identifier is None else {"kind": "removed", "id": identifier}


def _said(store: Store, subject: str | list[str]) -> list[JSON]:
    return [to_json(item) for item in store.find(Feedback, subject=subject) if not item.erased]


def _labels(store: Store, subject: str) -> list[JSON]:
    return [to_json(item) for item in store.find(Annotation, subject=subject) if not item.erased]


def _beside(store: Store, prediction: str) -> JSON:
    """What was said of a prediction together with others."""
    subjects = [member.subject for member in store.find(Member, prediction=prediction)]
    return {
        "pairs": _said(store, [subject for subject in subjects if subject.startswith(PAIR)]),
        "episodes": _said(store, [subject for subject in subjects if subject.startswith(EPISODE)]),
    }


def _several(store: Store, subject: str) -> JSON:
    """A pair or an episode, by what was said of it.

    Raises:
        NotFoundError: nothing was.
    """
    members = [member.prediction for member in store.find(Member, subject=subject)]
    if not members and not store.find(Feedback, subject=subject, limit=1):
        mend = "List what was said with `tidemill feedback list`."
        raise NotFoundError(f"nobody has said anything of {subject!r}", mend=mend)
    kind = "pair" if subject.startswith(PAIR) else "episode"
    return {"kind": kind, "record": {"id": subject, "predictions": members}}


def _subject(store: Store, subject: str) -> JSON:
    if subject.startswith((PAIR, EPISODE)):
        return _several(store, subject)
    if subject.startswith("smp_"):
        return _sample(store, subject)
    # Feedback may come before its prediction has been folded into the tables.
    return trace(store, subject) if store.exists(Prediction, subject) else {"kind": "pending", "id": subject}


def _model(store: Store, model: Model) -> JSON:
    run = store.get(Run, model.run_id) if model.run_id else None
    decisions = store.find(Decision, challenger_id=model.id)
    return {
        "run": _short_run(run) if run else None,
        "dataset": _if_kept(store, Dataset, model.dataset_id),
        "cycle": _cycle(store, run.cycle_id) if run else None,
        "decisions": [{"id": d.id, "outcome": d.outcome, "reason": d.reason} for d in decisions],
        "deployments": [to_json(d) for d in store.find(Deployment, model_id=model.id)],
        "rollouts": [to_json(r) for r in store.find(Rollout, challenger_id=model.id)],
    }


def _short_run(run: Run) -> JSON:
    return {k: v for k, v in to_json(run).items() if k not in ("curve", "recipe")} | {"recipe": run.recipe["name"]}


def _cycle(store: Store, identifier: str | None) -> JSON | None:
    if identifier is None:
        return None
    cycle = store.get(Cycle, identifier)
    return {"id": cycle.id, "status": cycle.status, "trigger": cycle.trigger, "created": cycle.created}


def _sample(store: Store, identifier: str) -> JSON:
    for dataset in store.find(Dataset, newest_first=True):
        if not is_complete(store.root / dataset.path):  # cleaned up
            continue
        arrays = open_dataset(store.root, dataset)
        try:
            row = arrays.row_of(identifier)
        except NotFoundError:
            continue
        return {
            "kind": "smp",
            "record": {"id": identifier, "origin": arrays.origin(row), "inputs": arrays.show(row)},
            "dataset": dataset.id,
            "annotations": _labels(store, identifier),
        }
    if (gone := tombstone(store, identifier)) is not None:
        return {"kind": "erased", "record": gone}
    raise NotFoundError(f"no dataset version holds the sample {identifier}", mend="List samples with `tidemill label`.")
