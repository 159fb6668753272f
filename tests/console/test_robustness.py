"""What is left when inputs go wrong, on the page and in the terminal; and what a training says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pages import check_alone, text_of
from rich.console import Console

from tidemill.cli.show import reports
from tidemill.console.charts import strengths
from tidemill.console.report import report_page, strength_range
from tidemill.metrics.summary import summarise
from tidemill.records import Model, Run, new_id, to_json


def triple(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": min(1.0, value + 0.02)}


ROBUST = {
    "metric": "accuracy",
    "rows": 256,
    "clean": triple(0.97),
    "corrupted": triple(0.71),
    "corruptions": [
        {
            "name": name,
            "what": what,
            "values": [triple(first - 0.1 * i) for i in range(5)],
            "mean": triple(first - 0.2),
        }
        for name, what, first in (("noise", "normal noise on <every> pixel", 0.95), ("JPEG", "saved badly", 0.75))
    ],
}


@pytest.fixture
def content() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    target, p = rng.integers(0, 2, 300), rng.random((300, 2))
    found = summarise("classification", target, p, np.arange(300), np.ones(300), labels=["a", "b"])
    model = Model(id=new_id("model"), run_id=new_id("run"), dataset_id=None, task="image-classification", recipe="cnn",
                  path="models/x", size_bytes=1000)  # fmt: skip
    run = Run(id=model.run_id or "", kind="refit", status="done", cycle_id=None, dataset_id="data_1", recipe={},
              params={}, seed=0, metrics={"processes": 2, "batch_parts": 4, "batch_size": 128, "device": "cuda:0"},
              )  # fmt: skip
    validation = {"split": "validation", "metric": "accuracy", "target": "label", "latency": None, "mistakes": [],
                  "size_bytes": 1000, "robustness": ROBUST, **found}  # fmt: skip
    return {"task": "image-classification", "model": to_json(model), "run": to_json(run), "decision": None,
            "dataset": None, "answer": None, "reports": {"validation": validation}}  # fmt: skip


def test_the_page_draws_each_corruption_the_worst_first(content: dict[str, Any]) -> None:
    page = report_page(content)
    check_alone(page, 100)
    text = text_of(page)
    assert "When inputs go wrong" in text and text.index("JPEG") < text.index("Noise")
    assert page.count("by the strength of") == 2 and "normal noise on &lt;every&gt; pixel" in page.lower()
    assert "on 256 validation rows" in text and "75.0" in text and "35.0" in text
    assert "2 processes together" in text and "cuda:0 ran out of it: steps on 128 rows were made in 4 parts" in text
    del content["reports"]["validation"]["robustness"]
    content["run"]["metrics"] = {}
    assert "When inputs go wrong" not in report_page(content) and "ran out of it" not in report_page(content)


def test_the_terminal_shows_a_row_for_each(content: dict[str, Any]) -> None:
    console = Console(width=160, record=True)
    console.print(reports.report(content))
    lines = console.export_text().splitlines()
    rows = [line for line in lines if line.strip().startswith(("JPEG", "noise", "as they are", "mean of all"))]
    assert len(rows) == 4 and "75.0" in rows[0] and "35.0" in rows[0] and "95.0" in rows[1] and "97.0" in rows[3]
    assert any("4 parts" in line for line in lines) and any("2 together" in line for line in lines)


def test_a_plot_stays_in_its_frame() -> None:
    values = [{"value": -7.0, "low": -9.0, "high": -6.0}, {"value": None, "low": None, "high": None}]
    drawn = str(strengths(values, 0.9, (-1.0, 1.0), "R²", "noise"))
    assert "by the strength of noise" in drawn and "nan" not in drawn
    heights = [float(part.split('"')[0]) for part in drawn.split('cy="')[1:]]
    assert heights and all(0 <= height <= 170 for height in heights)
    robust = {"metric": "r2", "clean": {"value": 0.5}, "corruptions": [{"values": [{"value": -30.0}]}]}
    assert strength_range(robust) == (-1.0, 1.0)
