"""What ``init`` finds and refuses before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemill.config import CONFIG_NAME, load_config
from tidemill.errors import ConfigError, SourceError
from tidemill.project import OpenProject, start_project
from tidemill.tasks._sources import open_sources, summarise_sources

MAILS = (
    "id,times,sender,text,kind\n"
    + "".join(
        f"{n},{n % 3 + 1},S{n % 9},the parcel number {n} has come too late once more today,"
        f"{('ham', 'Spam', 'spam.', 'spam')[n % 4]}\n"
        for n in range(80)
    )
)  # fmt: skip


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    file = tmp_path / "mails.csv"
    file.write_text(MAILS, encoding="utf-8")
    return file


def test_what_is_kept_from_models_says_nothing_of_the_task(mails: Path, tmp_path: Path) -> None:
    everything = start_project(tmp_path / "table", data=mails, target="kind")
    assert everything.task == "tabular-classification" and set(everything.inputs) >= {"id", "times", "sender"}
    settings = {"ignore": ["id"], "weight": "times", "splits": {"policy": "group", "key": "sender"}}
    texts = start_project(tmp_path / "texts", data=mails, target="kind", **settings)
    assert texts.task == "text-classification" and texts.inputs == ("text",)
    assert load_config(tmp_path / "texts" / CONFIG_NAME).task == "text-classification"


def test_columns_that_the_task_does_not_read_are_named(mails: Path, tmp_path: Path) -> None:
    started = start_project(tmp_path / "project", data=mails, target="kind", task="text-classification", ignore=["id"])
    assert started.inputs == ("text",)
    assert "text-classification leaves aside times (number), sender (category)" in started.notes


def test_costs_may_name_a_variant_of_a_label(mails: Path, tmp_path: Path) -> None:
    start_project(tmp_path / "project", data=mails, target="kind", decision={"costs": {"SPAM": {"Ham": 5.0}}})
    assert (tmp_path / "project" / CONFIG_NAME).is_file()


def test_costs_of_no_label_are_refused_and_nothing_is_written(mails: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no label 'hem'. Did you mean 'ham'\?"):
        start_project(tmp_path / "project", data=mails, target="kind", decision={"costs": {"spam": {"hem": 5.0}}})
    assert not (tmp_path / "project").exists()


def test_columns_that_there_are_not_are_refused_and_nothing_is_written(mails: Path, tmp_path: Path) -> None:
    for setting in ({"ignore": ["idd"]}, {"weight": "time"}, {"inputs": ["texts"]}):
        with pytest.raises(SourceError, match="Did you mean"):
            start_project(tmp_path / "project", data=mails, target="kind", **setting)
    assert not (tmp_path / "project").exists()


def test_fractions_are_no_labels_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (40, 4, 4), np.uint8), age=rng.random(40))
    with pytest.raises(SourceError, match=r"is a quantity.*from images"):
        start_project(tmp_path / "project", data=tmp_path / "images.npz", target="age")


def test_prepare_reads_the_data_once_more_and_no_further(mails: Path, tmp_path: Path) -> None:
    """What init learned of a source stands where prepare looks for it, unless limits could tell other rows."""
    folder = tmp_path / "project"
    start_project(folder, data=mails, target="kind")
    project = OpenProject(folder)
    summaries = project.store.root / "data" / "summaries"
    (kept,) = summaries.iterdir()
    opened = open_sources(project.config, project.sources, project.task)
    assert summarise_sources(project.store.root, opened) == opened[0].summary()
    assert list(summaries.iterdir()) == [kept]
    start_project(tmp_path / "limited", data=mails, target="kind", limits={"text_mb": 0.5})
    assert not (OpenProject(tmp_path / "limited").store.root / "data" / "summaries").exists()
