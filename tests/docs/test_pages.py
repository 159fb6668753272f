"""What the pages say of tasks, learners, settings, commands and messages is what the program does."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

import tidemill
from tidemill.cli.program import build
from tidemill.config import make_config
from tidemill.data.schema import Signature
from tidemill.data.sources import open_source
from tidemill.learners import closed_form, linear, trees
from tidemill.learners.gradient.settings import Settings
from tidemill.runtime import choosing
from tidemill.runtime.answers import Answers
from tidemill.runtime.choosing import Outlook
from tidemill.tasks import Task, get_task, task_names
from tidemill.testing.tasks import write_records

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def section(page: Path, title: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"{page.name} has no section {title!r}"
    return found[1]


def first_cells(text: str) -> list[str]:
    """The names between backquotes in the first column of a section's tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]


def answers_of(task: Task, signature: Signature) -> list[dict[str, Any]]:
    """What a model without any knowledge answers, plainly and with what may be asked for besides."""
    spec = task.answer(signature)
    if task.kind == "choice":
        offered = np.ones((1, 2), bool)
        outlook = Outlook(("a", "b"), np.zeros((1, 2)), np.zeros((1, 2)), offered, np.full((1, 2), 0.5))
        return choosing._answers(outlook, outlook.shares, np.zeros(1, np.int64)) * 2
    more = {"interval": {"level": 0.9, "offset": 0.0}} if task.kind == "regression" else {"abstain_cost": 0.1}
    return [Answers(s).of(np.zeros((1, Answers(s).classes), np.float32))[0] for s in (spec, {**spec, **more})]


@pytest.mark.parametrize("name", task_names())
def test_a_task_page_names_its_recipes_and_shows_an_answer(name: str, tmp_path: Path) -> None:
    page, task = DOCS / "tasks" / f"{name}.md", get_task(name)
    records = task.sample_data(0, 60)
    source = open_source(write_records(tmp_path / "data", records)).summary()
    signature = task.signature(source, "label", ["a", "b"])
    assert first_cells(section(page, "Recipes")) == [recipe.name for recipe in task.recipes(signature)]
    given, other = answers_of(task, signature)
    answers = [text for language, text in FENCE.findall(section(page, "Answer")) if language == "json"]
    shown = [set(json.loads(text)) - {"id", "audit"} for text in answers]
    assert shown and all(keys in (set(given), set(other)) for keys in shown)
    for title in ("Data", "Judged by", "Feedback", "Limits"):
        assert section(page, title).strip()


ACCEPTED: dict[str, set[str]] = {
    "closed_form": set(closed_form.learner._DEFAULTS),
    "linear": set(linear._DEFAULTS),
    "trees": set(trees.learner._DEFAULTS) - {"label_rounds"},
    "gradient": {f.name for f in dataclasses.fields(Settings)} - {"passes", "stop", "checkpoint_seconds"},
}
"""Parameters by learner, but for those that only a refit or a test sets."""


@pytest.mark.parametrize("learner", ACCEPTED)
def test_the_page_of_learners_names_their_parameters(learner: str) -> None:
    tables = section(DOCS / "learners.md", learner).split("| parameter |")
    assert len(tables) == 2
    assert set(first_cells(tables[1])) == ACCEPTED[learner]


def test_the_recipes_on_the_pages_are_accepted() -> None:
    from torch import nn

    from tidemill.features import FeatureInfo
    from tidemill.features.pipeline import step_class
    from tidemill.networks.transformer import Transformer

    names: dict[str, Any] = {"tidemill": tidemill, "nn": nn, "Mapping": Mapping}
    names |= {"FeatureInfo": FeatureInfo, "Transformer": Transformer, "forest": None}
    found = [code for page in ("learners.md", "features.md") for code in blocks(DOCS / page, "python")]
    assert len(found) == 3
    for code in found:
        whole = code if "def " in code else f"{code}def forest(): ..."
        exec(compile(whole, "a page", "exec"), names)
        for step in re.findall(r'"step": "(\w+)"', code):
            assert step_class(step).name == step


def settings() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for text in blocks(page, "yaml"):
            yield str(page.relative_to(ROOT)), text


def test_the_settings_on_the_pages_are_accepted() -> None:
    found = list(settings())
    assert len(found) > 5
    for page, text in found:
        given = {"task": "tabular-classification", "data": "a.csv", "target": "y", **yaml.safe_load(text)}
        assert make_config(**given), page


TYPED = re.compile(r"^(?: *|.*?&& )(tidemill [a-z].*)$|`(tidemill [a-z][^`]*)`", re.MULTILINE)


def typed() -> Iterator[tuple[str, list[str]]]:
    """Every command of Tidemill on a page, in words, without what its shell does with it."""
    for page in PAGES:
        for alone, quoted in TYPED.findall(page.read_text(encoding="utf-8").replace("\\\n", " ")):
            line = alone or quoted
            words = shlex.split(line if "sql:" in line else re.sub(r"\s#.*|[>|;].*", "", line))
            yield f"{page.relative_to(ROOT)}: {line}", [word for word in words[1:] if word not in ("-C", "DIR")]


def test_the_commands_on_the_pages_and_their_options_are_there() -> None:
    group: Any = typer.main.get_command(build())
    seen = 0
    for where, words in typed():
        command = group.commands.get(words[0])
        assert command is not None, where
        if len(words) > 1 and words[1] in getattr(command, "commands", {}):
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts} | {"--json", "--help"}
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert set(given) <= known, where
        seen += len(given)
    assert seen > 40


def test_the_messages_that_troubleshooting_quotes_are_said() -> None:
    titles = re.findall(r'^### (".*)$', (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    quoted = [quote for title in titles for quote in re.findall(r'"([^"]+)"', title)]
    assert len(quoted) > 20
    said = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert [quote for quote in quoted if quote not in said] == []
