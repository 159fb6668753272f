"""The report page holds what it should, loads nothing, and trusts no text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from tidemill.console.report import render_report, report_page
from tidemill.errors import StoreError
from tidemill.gate import Judged, Policy, judge
from tidemill.metrics import row_scores, slice_masks
from tidemill.metrics.summary import summarise
from tidemill.records import Dataset, Decision, Model, Run, new_id, to_json

LATENCY = {"single": {"p50_ms": 0.213, "p99_ms": 0.4, "calls": 60}, "batch": {"rows": 256, "rows_per_second": 41873.2}}


def picture(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray((255 - pixels * 15.9).astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def model_of(recipe: str, task: str) -> Model:
    return Model(id=new_id("model"), run_id=new_id("run"), dataset_id="data_5f0c1b7e", task=task, recipe=recipe,
                 path="models/x", size_bytes=431_200)  # fmt: skip


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What a project with a digits model reports: a real model, real metrics, a real decision."""
    x, y = load_digits(return_X_y=True)
    labels = [str(d) for d in range(10)]
    model, weak = GaussianNB(var_smoothing=0.05).fit(x[:1000], y[:1000]), GaussianNB().fit(x[:60], y[:60])
    reports = {}
    p = np.zeros((0, 10))
    for split, part in (("validation", slice(1000, 1300)), ("reference", slice(1300, None))):
        p, target = model.predict_proba(x[part]), y[part]
        keys, ink = np.arange(len(target)), x[part].mean(axis=1)
        masks = slice_masks({"ink": ink}, ["ink"], target, labels)
        reports[split] = {
            "schema": 1, "split": split, "metric": "accuracy", "target": "digit", "latency": LATENCY,
            "size_bytes": 431_200, "mistakes": [],
            **summarise("classification", target, p, keys, np.ones(len(target)), labels=labels, masks=masks),
        }  # fmt: skip
        if split == "validation":
            wrong = np.flatnonzero(p.argmax(1) != target)[:14]
            reports[split]["mistakes"] = [
                {"sample": f"smp_{i}", "origin": f"digits, row {1000 + i}", "label": labels[target[i]],
                 "answer": labels[p[i].argmax()], "score": float(p[i].max()), "label_score": float(p[i, target[i]]),
                 "loss": 3.0, "inputs": {"image": picture(x[1000 + i].reshape(8, 8))}}
                for i in wrong
            ]  # fmt: skip
    target = y[1300:]
    both = Judged(
        split="reference",
        keys=np.arange(len(target)),
        challenger=row_scores("accuracy", target, p),
        champion=row_scores("accuracy", target, weak.predict_proba(x[1300:])),
        slices={f"label={d}": target == d for d in range(10)},
    )
    verdict = judge(both, None, Policy(min_slice=30))
    record = model_of("cnn", "image-classification")
    run = Run(
        id=record.run_id or "", kind="train", status="done", cycle_id=new_id("cycle"), dataset_id="data_5f0c1b7e",
        recipe={"name": "cnn", "learner": "gradient", "network": {"name": "cnn", "widths": [32, 64, 128]}},
        params={"epochs": 12, "learning_rate": 0.004}, seed=7, seconds=3.21,
        curve=tuple({"epoch": e, "train_loss": 2.2 * 0.7**e, "validation_loss": 2.1 * 0.74**e + 0.09,
                     "validation_score": 0.97 - 0.7 * 0.6**e} for e in range(1, 13)),
    )  # fmt: skip
    decision = Decision(
        id=new_id("decision"), cycle_id=run.cycle_id, challenger_id=record.id, champion_id=new_id("model"),
        outcome=verdict.outcome, reason=verdict.reason, alpha=verdict.spends, generation=1, evidence=verdict.evidence,
    )  # fmt: skip
    dataset = Dataset(
        id="data_5f0c1b7e", path="datasets/x",
        counts={"train": 1000, "validation": 300, "reference": 497, "recent-test": 0, "dropped": 3},
        signature={"inputs": [{"name": "image", "type": "image", "shape": [8, 8, 1], "optional": False}],
                   "target": "digit", "kind": "classification", "labels": labels},
        report={"rows": 1800, "sources": ["digits"], "notes": ["splits by hash of the content"],
                "actions": [{"what": "exact duplicates left out", "count": 1203, "examples": ["row 12", "row 90"]},
                            {"what": "values padded by blanks", "count": 7, "examples": [" 5"]}]},
    )  # fmt: skip
    return {"task": record.task, "model": to_json(record), "run": to_json(run), "reports": reports,
            "decision": to_json(decision), "dataset": to_json(dataset)}  # fmt: skip


class Tags(HTMLParser):
    """Every element with its attributes, and every open element that was not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def test_the_page_says_it_all(content: dict[str, Any], tmp_path: Path) -> None:
    path = render_report(content, tmp_path / "deep" / "report.html")
    page = path.read_text(encoding="utf-8")
    text = text_of(page)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644
    headings = ["Metrics", "Classes", "Confusion", "Reliability", "Slices", "Data", "Lineage"]
    for heading in (*headings, "The gate’s decision", "Learning curves", "Worst mistakes"):
        assert f">{heading}" in page, heading
    reference = content["reports"]["reference"]["metrics"]["accuracy"]
    assert f"{100 * reference['value']:.1f} %" in text and f"{100 * reference['low']:.1f} %" in text
    assert content["decision"]["reason"].replace("<", "&lt;") in page.replace("&#39;", "'").replace("\u00a0", " ")
    assert content["model"]["id"] in text and content["run"]["id"] in text and "data_5f0c1b7e" in text
    assert "41,873" in text and "0.213" in text and "431 kB" in text
    assert "1,203 exact duplicates left out row 12 row 90" in text
    assert page.count("<img") == len(content["reports"]["validation"]["mistakes"]) > 3


def test_it_loads_nothing_and_is_well_formed(content: dict[str, Any]) -> None:
    page = report_page(content)
    tags = Tags(page)
    assert not tags.open
    assert len(tags.found) > 400
    assert not {t for t, _ in tags.found} & {"script", "link", "iframe", "object", "form"}
    for tag, attributes in tags.found:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page


def test_text_from_data_is_escaped(content: dict[str, Any]) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    report = dict(content["reports"]["validation"])
    report["labels"] = [evil, *report["labels"][1:]]
    report["per_class"] = [{**report["per_class"][0], "label": evil}, *report["per_class"][1:]]
    report["slices"] = [{**report["slices"][0], "slice": evil}]
    report["mistakes"] = [{**report["mistakes"][0], "label": evil, "answer": evil, "origin": evil,
                           "inputs": {evil: evil, "b": "data:text/html,x"}}]  # fmt: skip
    run = {**content["run"], "curve": [{"epoch": 1, f"{evil}loss": 1.0}], "params": {evil: evil}}
    decision = {**content["decision"], "reason": evil}
    page = report_page({**content, "reports": {evil: report}, "run": run, "decision": decision})
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;") > 8


def test_a_model_without_anything_else_still_has_a_page(content: dict[str, Any]) -> None:
    bare = {"model": content["model"], "run": None, "reports": {}, "decision": None, "dataset": None}
    text = text_of(report_page(bare))
    assert "Not evaluated yet" in text and "not judged" in text
    assert not Tags(report_page(bare)).open


def test_many_classes_show_the_pairs_that_are_confused() -> None:
    rng = np.random.default_rng(0)
    labels = [f"kind {i}" for i in range(60)]
    y = np.repeat(np.arange(60), 5)
    p = rng.dirichlet(np.ones(60), 300)
    p[np.arange(300), y] += 0.08
    p /= p.sum(1, keepdims=True)
    report = {"schema": 1, "split": "validation", "metric": "accuracy", "target": "kind", "latency": None,
              "size_bytes": 10, "mistakes": [],
              **summarise("classification", y, p, np.arange(300), np.ones(300), labels=labels)}  # fmt: skip
    model = to_json(model_of("trees", "tabular-classification"))
    page = report_page({"model": model, "reports": {"validation": report}})
    assert "most often taken for one another" in page and 'class="confusion"' not in page
    assert "lowest F1 of 60" in page


def test_regression_shows_residuals() -> None:
    x, y = load_diabetes(return_X_y=True)
    predicted = LinearRegression().fit(x[:300], y[:300]).predict(x[300:])
    masks = slice_masks({"bmi": x[300:, 2]}, ["bmi"])
    numbers = summarise("regression", y[300:], predicted[:, None], np.arange(142), np.ones(142), masks=masks)
    mistake = {"sample": "smp_1", "origin": "row 301", "label": 91.0, "answer": 151.2, "loss": 60.2,
               "inputs": {"bmi": 0.03, "note": "x" * 900}}  # fmt: skip
    report = {"schema": 1, "split": "reference", "metric": "mse", "target": "progression", "latency": None,
              "size_bytes": 10, "mistakes": [mistake], **numbers}  # fmt: skip
    page = report_page(
        {"model": to_json(model_of("least-squares", "tabular-regression")), "reports": {"reference": report}}
    )
    text = text_of(page)
    assert "Residuals" in text and "root mean squared error" in text and "Confusion" not in text
    assert page.count('class="point"') == 142 and page.count('class="bar"') == 30
    assert "x" * 399 + "…" in text and "x" * 401 not in text
    assert not Tags(page).open


def test_a_folder_that_cannot_be_written_is_said(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        render_report(content, tmp_path / "file" / "report.html")
