"""Conformance suites for plug-in authors: subclass one in a test file of your own, and pytest runs it.

>>> from tidemill.testing import TaskConformance
>>> class TestMyTask(TaskConformance):
...     task_name = "tabular-classification"
"""

from __future__ import annotations

from tidemill.testing.bandits import BanditWorld
from tidemill.testing.tasks import TaskConformance

__all__ = ["BanditWorld", "TaskConformance"]
