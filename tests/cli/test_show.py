"""How answers look."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tidemill.cli.show import layout, units
from tidemill.cli.show.progress import LiveProgress, PlainProgress
from tidemill.cli.show.samples import image_art, sample
from tidemill.cli.show.trees import tree


def printed(part: Any, **options: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=100, **options).print(part)
    return text.getvalue()


def test_an_image_becomes_letters_or_half_blocks() -> None:
    image = Image.fromarray(np.array([[[255] * 3, [0] * 3], [[255] * 3, [0] * 3]], np.uint8)).resize((16, 16), 0)
    letters = image_art(image, width=40, colour=False).plain.splitlines()
    assert letters == ["@" * 8] * 8  # white is dense, black is blank
    blocks = image_art(image, width=40, colour=True)
    assert blocks.plain.splitlines() == ["▀" * 16] * 8
    assert {str(span.style) for span in blocks.spans} == {
        "rgb(255,255,255) on rgb(255,255,255)", "rgb(0,0,0) on rgb(0,0,0)",
    }  # fmt: skip
    assert max(len(line) for line in image_art(image.resize((640, 480)), width=40, colour=True).plain.split("\n")) == 40


def test_a_sample_shows_images_and_values() -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    text = printed(sample({"image": url, "age": None, "note": "x" * 3000}, width=30, colour=False))
    assert "@@@@" in text and "age" in text and "–" in text and "(3,000 characters)" in text


def test_tables_align_and_never_read_markup() -> None:
    lines = printed(layout.table(["name", ">size"], [("[red]a[/red]", "1 B"), ("b", "1,000 B")])).splitlines()
    assert [line.rstrip() for line in lines] == [
        "name             size",
        "[red]a[/red]      1 B",
        "b             1,000 B",
    ]


def test_a_trace_is_a_tree() -> None:
    data = {
        "kind": "pred",
        "record": {"id": "pred_1", "answer": {"label": "7"}, "audited": True},
        "feedback": [{"id": f"fb_{n}", "value": "1"} for n in range(10)],
        "model": {"kind": "model", "record": {"id": "model_1", "size_bytes": 1500}, "run": {"id": "run_1"}},
        "annotations": [],
    }
    text = printed(tree(data))
    assert text.splitlines()[0] == "pred  pred_1"
    for part in (
        "answer  7",
        "audited  yes",
        "feedback  (10)",
        "and 2 more",
        "model  model_1",
        "size bytes  1.50 kB",
        "run  run_1",
    ):
        assert part in text
    assert "annotations" not in text


def test_numbers_without_a_value() -> None:
    assert units.quality(None) == units.quality({"value": None, "low": None, "high": None}) == "–"
    assert units.size(None) == units.seconds(None) == units.count(None) == units.ago(None) == units.percent(None) == "–"
    assert units.size(999_999_999_999_999) == "1000 TB"
    assert units.size(999_600) == "1.00 MB"


EVENTS = [
    {"stage": "prepare", "what": "reading", "done": 10, "total": 20},
    {"stage": "prepare", "what": "reading", "done": 20, "total": 20},
    {"stage": "train", "what": "epoch 1", "recipe": "cnn", "done": 1, "total": None},
    {"stage": "train", "what": "", "recipe": "cnn"},
    {"stage": "prepare", "what": "again"},
]


def test_plain_progress_says_each_finished_step_once() -> None:
    text = io.StringIO()
    progress = PlainProgress(Console(file=text, width=80))
    for event in [
        *EVENTS,
        {"stage": "evaluate", "what": "on validation", "recipe": "ridge"},
        {"stage": "evaluate", "what": "answering validation", "done": 9, "total": 9},
        {"stage": "deploy", "what": "refused: On reference it is worse."},
    ]:
        progress(event)
    progress.close()
    progress.close()
    lines = text.getvalue().splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "prepare: reading 20/20", "train: cnn", "prepare: again", "evaluate: ridge: answering validation 9/9",
        "deploy: refused",
    ]  # fmt: skip
    assert all(line.endswith("s)") for line in lines)


def test_plain_progress_of_a_long_step_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tidemill.cli.show.progress.time.monotonic", lambda: now[0])
    text = io.StringIO()
    progress = PlainProgress(Console(file=text, width=80))
    for epoch in range(1, 51):
        now[0] += 1
        progress({"stage": "train", "what": f"epoch {epoch}", "recipe": "cnn"})
    progress.close()
    assert [line.partition(" ")[2] for line in text.getvalue().splitlines()] == [
        "cnn: epoch 21, after 20.0 s", "cnn: epoch 41, after 40.0 s", "cnn: epoch 50 (49.0 s)",
    ]  # fmt: skip


RACE = [
    {"stage": "tune", "what": "trial 1: under way", "recipe": "cnn", "done": 0, "total": 9, "estimated": True},
    {"stage": "tune", "what": "trial 1: 0.9000", "recipe": "cnn", "done": 1, "total": 9, "estimated": True},
    {"stage": "tune", "what": "trial 1: 0.8000", "recipe": "mlp", "done": 2, "total": 4, "estimated": True},
    {"stage": "tune", "what": "trial 2: stopped early", "recipe": "cnn", "done": 3, "total": 3, "estimated": False},
    {"stage": "tune", "what": "cnn 2 trials, best 0.9; mlp 1 trial, best 0.8", "done": 3, "total": 3},
]


def test_plain_progress_of_a_race_is_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tidemill.cli.show.progress.time.monotonic", lambda: now[0])
    text = io.StringIO()
    progress = PlainProgress(Console(file=text, width=80))
    for event in RACE:
        progress(event)
        now[0] += 11
    progress.close()
    assert text.getvalue().splitlines() == [
        "tune: mlp: trial 1: 0.8000 2/~4, after 22.0 s",
        "tune: cnn 2 trials, best 0.9; mlp 1 trial, best 0.8 3/3, after 44.0 s",
        "tune: cnn 2 trials, best 0.9; mlp 1 trial, best 0.8 3/3 (55.0 s)",
    ]


def test_live_progress_of_a_race_goes_on_when_its_estimate_was_short() -> None:
    from rich.progress import Progress

    now = [0.0]
    bars = Progress(console=Console(file=io.StringIO(), force_terminal=True), get_time=lambda: now[0])
    live = LiveProgress(bars)
    live({"stage": "tune", "what": "planning the work"})
    (tune,) = bars.tasks
    assert (tune.total, tune.finished) == (None, False)
    now[0] = 2.0
    live({"stage": "train", "what": "training", "recipe": "ridge"})
    assert tune.finished and tune.finished_time == 2.0
    now[0] = 5.0
    for event in RACE[:3]:
        live(event)
    assert (tune.completed, tune.total, tune.finished, tune.fields["position"]) == (2, 4, False, "2/~4")
    live(RACE[3])
    live({**RACE[3], "total": 5})
    assert (tune.total, tune.finished) == (5, False)
    now[0] = 6.0
    live.close()
    assert tune.finished_time == 3.0, "only what was spent in it counts"


def test_live_progress_keeps_to_one_line() -> None:
    from rich.progress import Progress

    bars = Progress(console=Console(file=io.StringIO(), force_terminal=True, width=90))
    LiveProgress(bars)({"stage": "train", "what": "word " * 40})
    assert len(bars.tasks[0].description) == 30 and bars.tasks[0].description.endswith("…")


def test_live_progress_ticks_what_is_done() -> None:
    from rich.progress import Progress

    bars = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    live = LiveProgress(bars)
    for event in EVENTS[:3]:
        live(event)
    prepare, train = bars.tasks
    assert prepare.finished and not train.finished
    assert (train.description, train.fields["position"], train.total) == ("cnn: epoch 1", "1", None)
    live.close()
    assert train.finished
