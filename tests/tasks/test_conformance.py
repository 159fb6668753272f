"""Every task that ships goes round the whole loop."""

from __future__ import annotations

from tidemill.tasks import task_names
from tidemill.testing import TaskConformance


class TestImageClassification(TaskConformance):
    task_name = "image-classification"


class TestTabularClassification(TaskConformance):
    task_name = "tabular-classification"


def test_every_task_has_its_suite() -> None:
    suites = (TestImageClassification, TestTabularClassification)
    assert set(task_names()) == {suite.task_name for suite in suites}
