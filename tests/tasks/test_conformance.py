"""Every task that ships goes round the whole loop."""

from __future__ import annotations

from tidemill.tasks import task_names
from tidemill.testing import TaskConformance


class TestContextualBandit(TaskConformance):
    task_name = "contextual-bandit"
    rows = 1500


class TestImageClassification(TaskConformance):
    task_name = "image-classification"


class TestImageMultiLabel(TaskConformance):
    task_name = "image-multi-label"


class TestTabularClassification(TaskConformance):
    task_name = "tabular-classification"


class TestTabularRegression(TaskConformance):
    task_name = "tabular-regression"


class TestTextClassification(TaskConformance):
    task_name = "text-classification"


class TestTextMultiLabel(TaskConformance):
    task_name = "text-multi-label"


def test_every_task_has_its_suite() -> None:
    suites = [suite for suite in TaskConformance.__subclasses__() if suite.__module__ == __name__]
    assert set(task_names()) == {suite.task_name for suite in suites}
