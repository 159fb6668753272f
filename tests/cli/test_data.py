"""``tidemill data`` on a real project: here, as JSON, as a page; and how a report looks for other kinds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tidemill.api import Project, init
from tidemill.cli.show import reports
from tidemill.cli.show.data import page
from tidemill.data.settled import Settled
from tidemill.records import Cycle, new_id
from tidemill.stages.prepare import prepare


def printed(part: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=160).print(part)
    return text.getvalue()


def cycled(project: Project) -> str:
    """A dataset version, as a cycle that does no more than prepare leaves it."""
    name = prepare(project.store, project.task, project.config, list(project.sources), Settled())
    project.store.insert(
        Cycle(id=new_id("cycle"), status="done", trigger="asked", seed=0, plan={}, dataset_id=name, finished=1.0)
    )
    return name


def rows(shift: float, count: int) -> str:
    lines = [
        f"{i % 50 + shift},{'abc'[i % 3]},{'' if i % 4 else i},{'yes' if i % 50 > 24 else 'no'}" for i in range(count)
    ]
    return "\n".join(["age,group,gap,bought", *lines]) + "\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A project with two dataset versions, and their ids."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "rows.csv").write_text(rows(0, 400))
    made = init(folder / "p", data=folder / "rows.csv", target="bought")
    first = cycled(made)
    (folder / "rows.csv").write_text(rows(0, 400) + rows(30, 400).partition("\n")[2])
    return folder / "p", first, cycled(made)


def test_what_is_in_the_data(run: Any, project: tuple[Path, str, str]) -> None:
    folder, first, second = project
    result = run("data", "-C", folder)
    assert result.code == 0 and "once for a dataset version" in result.err
    said = "higher in this version than in the version before"
    for text in (
        second,
        first,
        "bought (classification)",
        "'gap' is missing in",
        "number",
        said,
        "tidemill data --open",
    ):
        assert text in result.out
    again = run("data", "-C", folder, "--json")
    assert again.err == "" and again.json["version"]["id"] == second and again.json["against"]["id"] == first
    assert {"findings", "profile", "missing", "label_errors", "drift"} <= set(again.json)


def test_a_version_is_named(run: Any, project: tuple[Path, str, str]) -> None:
    folder, first, second = project
    quick = run("data", "-C", folder, "--version", first, "--against", second, "--quick")
    assert quick.code == 0 and quick.err == "" and "nobody has looked for label errors" in quick.out
    assert f"than in {second}" in quick.out
    missing = run("data", "-C", folder, "--version", "data_nothing", "--json")
    assert (missing.code, missing.json["error"]["code"]) == (2, "not_found")
    itself = run("data", "-C", folder, "--against", second, "--json")
    assert (itself.code, itself.json["error"]["code"]) == (2, "input") and itself.json["error"]["mend"]


def test_the_page_is_written_and_opened(
    run: Any, project: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first, _ = project
    result = run("data", "-C", folder, "--html", tmp_path / "deep" / "d.html")
    assert result.out.strip() == str(tmp_path / "deep" / "d.html")
    assert (tmp_path / "deep" / "d.html").read_text("utf-8").startswith("<!doctype html>")
    opened: list[str] = []
    monkeypatch.setattr("tidemill.cli.commands.data.typer.launch", opened.append)
    found = run("data", "-C", folder, "--open", "--version", first, "--quick", "--json").json
    assert opened == [Path(found["html"]).absolute().as_uri()] and first in Path(found["html"]).read_text("utf-8")
    (tmp_path / "file").touch()
    error = run("data", "-C", folder, "--html", tmp_path / "file" / "d.html", "--json").json["error"]
    assert error["code"] == "store" and error["mend"]


def test_a_project_without_data_says_so(run: Any, tmp_path: Path) -> None:
    init(tmp_path / "p", data="sklearn:iris", target="target")
    error = run("data", "-C", tmp_path / "p", "--json").json["error"]
    assert error["code"] == "not_ready" and "tidemill cycle" in error["mend"]


def test_every_kind_is_shown(tmp_path: Path) -> None:
    project = init(tmp_path / "p", data="sklearn:diabetes", target="target")
    cycled(project)
    text = printed(page(project.data(search=False)))
    assert "target (regression)" in text and "smallest" in text and "nobody has looked" in text
    digits = init(tmp_path / "q", data="sklearn:digits", target="label")
    cycled(digits)
    text = printed(page(digits.data(search=False)))
    assert "8 × 8 × 1, brightness" in text and "image" in text


def test_reports_of_other_kinds() -> None:
    def report(kind: str, answer: dict[str, Any], metrics: dict[str, float], **more: Any) -> str:
        content = {
            "kind": kind, "metrics": {k: {"value": v, "low": None, "high": None} for k, v in metrics.items()},
            "counts": {"rows": 120}, "latency": None, "slices": [], "mistakes": [], **more,
        }  # fmt: skip
        model = {"id": "model_1", "recipe": "ridge", "size_bytes": 1200}
        data = {"model": model, "task": "a-task", "run": None, "dataset": None, "decision": None, "answer": answer}
        return printed(reports.report({**data, "reports": {"reference": content}}))

    triple = {"value": 0.5, "low": 0.25, "high": 0.75}
    label = {"label": "deep", "support": 40.0, "precision": triple, "recall": triple, "f1": triple}
    several = report("multilabel", {"labels": ["deep"], "thresholds": [0.37]}, {"subset_accuracy": 0.4},
                     per_class=[label])  # fmt: skip
    assert "threshold" in several and "37.0 %" in several and "subset accuracy ↑" in several and "40.0 %" in several
    number = report("regression", {"kind": "regression"}, {"mae": 43_594.6, "interval_coverage": 0.902})
    assert "43,595" in number and "90.2 %" in number and "by label" not in number
    priced = report("classification", {"abstain_cost": 0.4}, {"answered": 0.7, "utility": 0.93}, per_class=[label])
    assert "when expected to cost 0.4 at most" in priced and "93.0 %" in priced and "threshold" not in priced
    slices = [{"slice": f"group={i}", "rows": n, "value": v, "low": None, "high": None}
              for i, (n, v) in enumerate([(2, 0.0), (50, 0.6), (80, 0.9)])]  # fmt: skip
    small = report("classification", {}, {"accuracy": 0.8}, slices=slices, slice_metric="accuracy")
    assert "group=1" in small and "group=0" not in small  # two rows say nothing of a slice
