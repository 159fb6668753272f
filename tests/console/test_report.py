"""The report page holds what it should, loads nothing, and trusts no text."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Tags, check_alone, text_of
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from tidemill.api import init
from tidemill.console.report import render_report, report_page
from tidemill.data.settled import Settled
from tidemill.errors import StoreError
from tidemill.gate import Judged, Policy, judge
from tidemill.metrics import row_scores, slice_masks
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.summary import summarise
from tidemill.records import Dataset, Decision, Model, Run, new_id, to_json
from tidemill.stages.prepare import prepare

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
    check_alone(report_page(content), 400)


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


def test_regression_says_what_its_intervals_hold() -> None:
    x, y = load_diabetes(return_X_y=True)
    predicted = LinearRegression().fit(x[:300], y[:300]).predict(x[300:])
    found = np.stack([predicted, predicted - 90, predicted + 90], axis=1)
    numbers = summarise("regression", y[300:], found, np.arange(142), np.ones(142), level=0.9)
    mistake = {"sample": "smp_1", "origin": "row 301", "label": 91.0, "answer": 151.2, "interval": [61.2, 241.2],
               "loss": 60.2, "inputs": {f"x{i}": 0.5 for i in range(10)}}  # fmt: skip
    report = {"schema": 1, "split": "reference", "metric": "r2", "target": "progression", "latency": None,
              "size_bytes": 10, "mistakes": [mistake], **numbers}  # fmt: skip
    model = to_json(model_of("lightgbm", "tabular-regression"))
    page = report_page({"model": model, "reports": {"reference": report}, "answer": {"kind": "regression"}})
    covered = numbers["metrics"]["interval_coverage"]["value"]
    text = text_of(page)
    assert f"is to hold 90 % of the true values. On reference it holds {100 * covered:.1f} %" in text
    assert "180 wide on average" in text and "61.2 – 241.2" in text and "true values inside their interval" in text
    check_alone(page, 100)


def test_several_labels_have_thresholds_and_no_confusion() -> None:
    rng = np.random.default_rng(0)
    labels = ["calm", "deep", "wild"]
    y = (rng.random((400, 3)) < [0.5, 0.3, 0.1]).astype(np.int8)
    p = np.clip(0.2 + 0.5 * y + rng.normal(0, 0.15, y.shape), 0, 1)
    bounds = [0.5, 0.41, 0.37]
    given = (p >= bounds).astype(np.uint8)
    numbers = summarise("multilabel", y, p, np.arange(400), np.ones(400), answers=given, labels=labels)
    mistake = {"sample": "smp_1", "origin": "row 7", "label": ["calm", "deep"], "answer": [], "loss": 2.0,
               "scores": {"calm": 0.4}, "inputs": {"text": "the sea"}}  # fmt: skip
    report = {"schema": 1, "split": "reference", "metric": "f1_samples", "target": "moods", "latency": LATENCY,
              "size_bytes": 10, "mistakes": [mistake], **numbers}  # fmt: skip
    answer = {"kind": "multilabel", "labels": ["wild", "calm", "deep"], "thresholds": [0.37, 0.5, 0.41]}
    page = report_page({"model": to_json(model_of("ridge", "text-multi-label")), "reports": {"reference": report},
                        "answer": answer})  # fmt: skip
    text = text_of(page)
    assert "Confusion" not in text and "When it answers" not in text and ">Labels" in page
    for label, bound in zip(labels, bounds, strict=True):
        row = next(line for line in numbers["per_class"] if line["label"] == label)
        assert f"{label} {round(row['support'])} {100 * bound:.1f} % {100 * row['precision']['value']:.1f} %" in text
    exact = numbers["metrics"]["subset_accuracy"]["value"]
    assert f"all labels right, reference {100 * exact:.1f} %" in text
    assert "F1, mean of the rows" in text and "F1, all labels together" in text and "F1, mean of the labels" in text
    assert "none calm, deep" in text.replace("&#39;", "")  # the answer, then the label
    check_alone(page, 150)


@pytest.mark.parametrize("rule", ["threshold", "costs", "never sure"])
def test_how_it_decides_is_told(rule: str, content: dict[str, Any]) -> None:
    x, y = load_digits(return_X_y=True)
    p = GaussianNB(var_smoothing=0.05).fit(x[:600], y[:600]).predict_proba(x[600:900])
    labels, target = [str(d) for d in range(10)], y[600:900]
    costs = (np.ones((10, 10)) - np.eye(10)).tolist()
    costs[3][8] = 7.0
    spec: dict[str, Any] = {"kind": "classification", "labels": labels}
    spec |= {"threshold": {"threshold": 0.9, "min_precision": 0.95}, "costs": {"costs": costs, "abstain_cost": 0.25},
             "never sure": {"threshold": 1.0, "min_precision": 0.99}}[rule]  # fmt: skip
    decisions = Decisions.of(spec)
    given, guesses = decisions.choose(p), decisions.guess(p)
    numbers = summarise(
        "classification", target, p, np.arange(300), np.ones(300), answers=given, guesses=guesses,
        costs=decisions if rule == "costs" else None, labels=labels,
    )  # fmt: skip
    report = {"schema": 1, "split": "reference", "metric": "accuracy", "target": "digit", "latency": None,
              "size_bytes": 10, "mistakes": [], **numbers}  # fmt: skip
    page = report_page({"model": content["model"], "reports": {"reference": report}, "answer": spec})
    text = text_of(page)
    answered = (given >= 0).mean()
    assert 0 < answered < 1 and f"{100 * answered:.1f} % of the rows get an answer" in text
    said = {
        "threshold": "at least 90.0 % sure.",
        "costs": "expected to cost more than 0.25",
        "never sure": "only what is certain",
    }
    assert said[rule] in text
    assert ("at least 95 % of the answers are right" in text) == (rule == "threshold")
    assert ("What an answer costs" in text) == (rule == "costs") == ("expected cost of a row" in text)
    assert "the surest first" in page
    check_alone(page, 200)


def test_data_stand_in_the_report_in_short(content: dict[str, Any], tmp_path: Path) -> None:
    project = init(tmp_path / "p", data="sklearn:digits", target="label")
    name = prepare(project.store, project.task, project.config, list(project.sources), Settled())
    page = report_page(content, project.data(name, search=False))
    text = text_of(page)
    assert f"tidemill data --open --version {content['dataset']['id']}" in text and "What stands out" in text
    assert "nobody has looked for label errors in this version yet" in text
    assert text.count("reference") > 3 and 'class="bars"' in page
    check_alone(page, 450)


def test_a_folder_that_cannot_be_written_is_said(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        render_report(content, tmp_path / "file" / "report.html")
