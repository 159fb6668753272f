"""Packages of every released schema keep loading, and keep giving the answers they gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidemill.packages import SCHEMA
from tidemill.runtime import load

RELEASED = Path(__file__).resolve().parent.parent / "fixtures" / "packages"
SCHEMAS = sorted(RELEASED.glob("schema-*"))
PACKAGES = [folder for schema in SCHEMAS for folder in sorted(schema.iterdir()) if folder.is_dir()]


def test_there_is_a_fixture_of_every_schema() -> None:
    assert [int(folder.name.removeprefix("schema-")) for folder in SCHEMAS] == list(range(1, SCHEMA + 1))
    assert len(PACKAGES) >= 2


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_it_still_answers_as_it_did(folder: Path) -> None:
    expected = json.loads((folder.parent / "expected.json").read_bytes())[folder.name]
    predictor = load(folder)
    predictor.warm_up()
    answers = predictor.predict(expected["records"])
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected["answers"]]
    for answer, before in zip(answers, expected["answers"], strict=True):
        assert answer["scores"] == pytest.approx(before["scores"], abs=1e-5)
        assert answer["score"] == max(answer["scores"].values())
