"""Pre-annotations for Label Studio are within the limits that hold at the other doors."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from small_project import Served, SmallProject, served

from tidemill.runtime import Predictor


def picture(side: int) -> str:
    """One of a single colour, which takes few bytes whatever its size."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def suggested(running: Served, *inputs: dict[str, Any]) -> httpx.Response:
    tasks = [{"data": row} for row in inputs]
    return running.client.post("/v1/label-studio/predict", json={"tasks": tasks})


def test_its_images_are_within_the_limits(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path, max_megapixels=2, max_rows=3)
    limits = project.config.limits.model_copy(update={"image_megapixels": 1.0})
    project.config = project.config.model_copy(update={"limits": limits})
    project.deploy(project.add_model("ridge"))
    with project.store, served(project) as running:
        for rows, status in (
            ([{"image": picture(9)}] * 3, 200),
            ([{"image": picture(9)}] * 4, 413),
            ([{"image": picture(900)}] * 2, 200),
            ([{"image": picture(900)}] * 3, 413),
            ([{"image": picture(1100)}], 413),
        ):
            ours = running.client.post("/v1/predict", json={"inputs": rows})
            assert (suggested(running, *rows).status_code, ours.status_code) == (status, status)


def test_its_texts_are_within_the_limits(tmp_path: Path) -> None:
    project = SmallProject.of_kind(tmp_path, "classification", {})
    limits = project.config.limits.model_copy(update={"text_mb": 0.01})
    project.config = project.config.model_copy(update={"limits": limits})
    with project.store, served(project) as running:
        assert suggested(running, {"size": 1, "note": "x" * 9000}).status_code == 200
        assert suggested(running, {"size": 1, "note": "x" * 11000}).status_code == 413


def test_who_waits_for_too_long_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what waits behind it is not begun any more."""
    project = SmallProject.create(tmp_path, timeout_s=0.5)
    project.deploy(project.add_model("ridge"))
    go, calls, predict = threading.Event(), [], Predictor.predict

    def slow(self: Predictor, rows: Any, **more: Any) -> Any:
        calls.append(len(rows))
        assert go.wait(20)
        return predict(self, rows, **more)

    with project.store, served(project) as running:
        monkeypatch.setattr(Predictor, "predict", slow)
        found = [suggested(running, {"image": picture(9)}) for _ in range(2)]
        assert [answer.status_code for answer in found] == [503, 503] and "retry-after" in found[0].headers
        go.set()
        assert suggested(running, {"image": picture(9)}).status_code == 200
    assert len(calls) == 2
