"""How many rows are answered at once follows from what they take and how long an answer may take."""

from __future__ import annotations

import pytest

from tidemill.serving.window import FIRST_ROWS, MOST_ROWS, Window


def under_load(window: Window, fixed: float, each: float, batches: int = 60) -> list[float]:
    """The seconds of each batch of a model when there is always more to answer than the window holds."""
    took = []
    for _ in range(batches):
        rows = window.rows
        took.append(fixed + rows * each)
        window.note(rows, took[-1])
    return took


@pytest.mark.parametrize("each", [0.0005, 0.002, 0.02])
def test_batches_of_a_slow_model_take_half_of_the_latency(each: float) -> None:
    window = Window(0.1)
    took = under_load(window, 0.001, each)
    assert max(took[20:]) <= 0.05 * 1.3 + each  # it tries a little more now and then, and takes it back
    assert max(took[20:]) >= 0.05 * 0.6 - each


def test_a_model_slower_than_the_latency_answers_row_by_row() -> None:
    window = Window(0.01)
    under_load(window, 0.0, 0.5)
    assert window.rows == 1


def test_a_fast_model_answers_as_much_as_there_is() -> None:
    window = Window(0.05)
    under_load(window, 0.0001, 1e-6)
    assert window.rows == MOST_ROWS


def test_batches_that_are_not_full_change_nothing_and_one_pause_little() -> None:
    window = Window(0.05)
    for rows in (1, 5, FIRST_ROWS - 1):
        window.note(rows, 0.001)
    assert window.rows == FIRST_ROWS
    window.note(3, 4.0)
    assert window.rows == FIRST_ROWS // 2
