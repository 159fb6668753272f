"""The gate, end to end: what must not go live does not, whatever its own training data say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tidemill
from tidemill.data.keys import content_keys, key_text
from tidemill.records import Decision, Feedback, Generation, Prediction
from tidemill.store import JournalWriter, audit_draw, new_prediction_id
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

TABLE = get_task("tabular-classification")
OTHER = {"yes": "no", "no": "yes"}


@pytest.fixture
def project(tmp_path: Path) -> tidemill.Project:
    """A project whose champion learned from 900 rows of a noisy table; the gate alone stands between it and lies."""
    data = write_records(tmp_path / "data", TABLE.sample_data(0, 900))
    policy = {"audit": {"rate": 0.3}, "gate": {"min_recent": 50}, "feedback": {"trust": False}}
    project = tidemill.init(tmp_path / "project", data=data, **policy)
    assert project.cycle(max_trials=1, max_epochs=5)["decision"]["outcome"] == "promoted"
    return project


def answer(project: tidemill.Project, records: Sequence[dict[str, Any]]) -> list[Prediction]:
    """Answer *records* as the service does: journaled, with the audit's draw."""
    deployment, predictor = project.open_champion()
    columns = predictor.encode(records)
    keys = [key_text(key) for key in content_keys(columns, predictor.signature)]
    secret, rate = project.store.secret, project.config.audit.rate
    made = [
        Prediction(
            id=new_prediction_id(secret),
            deployment="default",
            model_id=deployment.model_id,
            key=key,
            inputs=dict(record),
            answer=given,
            audited=audit_draw(secret, 1, key, rate),
            audit_probability=rate,
        )
        for record, given, key in zip(records, predictor.answers(predictor.scores(columns)), keys, strict=True)
    ]
    journal = JournalWriter(project.store.root)
    journal.submit(*made).result()
    journal.close()
    return made


def fresh(seed: int, rows: int) -> tuple[list[dict[str, Any]], list[str]]:
    records = [dict(record) for record in TABLE.sample_data(seed, rows)]
    return records, [record.pop("label") for record in records]


def state(project: tidemill.Project, made: Sequence[Prediction], labels: Sequence[str], *, asked: bool = False) -> None:
    project.store.add_feedback(
        [
            Feedback(
                id=f"fb_{p.id}",
                subject=p.id,
                kind="correction",
                value=label,
                author="user",
                asked=asked,
                key=p.id,
            )
            for p, label in zip(made, labels, strict=True)
        ]
    )


def test_a_challenger_that_wins_only_on_volunteered_corrections_is_refused(project: tidemill.Project) -> None:
    """Users correct what was wrong. On these inputs the champion scores nothing and whoever learned them shines."""
    records, truths = fresh(1, 600)
    made = answer(project, records)
    wrong = [(p, t) for p, t in zip(made, truths, strict=True) if p.answer["label"] != t]
    assert len(wrong) > 60
    state(project, [p for p, _ in wrong], [t for _, t in wrong])
    champion = project.champion_deployment().model_id
    done = project.cycle(max_trials=1, max_epochs=50)

    assert done["dataset"]["counts"]["train"] > 600, "volunteered corrections do train"
    assert done["dataset"]["counts"]["recent-test"] == done["dataset"]["counts"]["recent-validation"] == 0
    learned = [p.inputs for p, _ in wrong if not p.audited]
    truth = [t for p, t in wrong if not p.audited]
    shares = {
        c["recipe"]: sum(
            a["label"] == t for a, t in zip(project.predict(learned, model=c["model"]), truth, strict=True)
        )
        for c in done["candidates"]
    }
    assert max(shares.values()) > 0.03 * len(truth), f"the champion has none of its own errors right; these: {shares}"
    assert done["decision"]["outcome"] == "refused", done["decision"]["reason"]
    assert project.champion_deployment().model_id == champion


def test_a_challenger_from_flipped_labels_is_refused(project: tidemill.Project) -> None:
    records, truths = fresh(2, 1500)
    made = answer(project, records)
    drawn = [(p, t) for p, t in zip(made, truths, strict=True) if p.audited]
    state(project, [p for p, _ in drawn], [t for _, t in drawn], asked=True)
    flipped = [(p, OTHER[t]) for p, t in zip(made, truths, strict=True) if not p.audited]
    state(project, [p for p, _ in flipped], [t for _, t in flipped])
    champion = project.champion_deployment().model_id
    done = project.cycle(max_trials=1, max_epochs=5)

    assert done["dataset"]["counts"]["recent-test"] > 50
    assert done["decision"]["outcome"] == "refused"
    assert "loss" in done["decision"]["reason"] or "-" in done["decision"]["reason"]
    assert project.champion_deployment().model_id == champion
    assert project.gate()["replayed"]


def test_an_audit_that_nobody_answers_judges_nothing(project: tidemill.Project) -> None:
    records, truths = fresh(3, 1500)
    made = answer(project, records)
    drawn = [(p, t) for p, t in zip(made, truths, strict=True) if p.audited]
    few = drawn[: len(drawn) // 3]
    state(project, [p for p, _ in few], [t for _, t in few], asked=True)
    done = project.cycle(max_trials=1, max_epochs=5)
    evidence = project.store.get(Decision, done["decision"]["id"]).evidence
    assert done["decision"]["outcome"] == "refused"
    assert evidence["claim"] == "recent" and evidence["closed"]
    assert "answered" in done["decision"]["reason"]


def test_alpha_is_spent_once_a_look(project: tidemill.Project) -> None:
    project.cycle(max_trials=1, max_epochs=5, seed=1)
    decisions = project.store.find(Decision)
    (generation,) = project.store.find(Generation)
    assert generation.spent == pytest.approx(sum(d.alpha for d in decisions)) and generation.spent > 0
