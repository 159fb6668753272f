"""The guard against busy neighbours takes one thread when that is faster, and gives it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tidemill.learners.gradient import guard as module
from tidemill.learners.gradient.guard import WARM_UP, WINDOW, ThreadGuard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that the test sets, and a system that never preempts."""
    now = [0.0]
    monkeypatch.setattr(module, "preemptions", lambda: 0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield now
    torch.set_num_threads(threads)


def warm() -> ThreadGuard:
    """A guard past the first steps, which it does not judge."""
    guard = ThreadGuard(2)
    for _ in range(WARM_UP):
        guard.stepped(9.0)
    return guard


def feed(guard: ThreadGuard, clock: list[float], seconds: float) -> None:
    for _ in range(WINDOW):
        clock[0] += seconds
        guard.stepped(seconds)


def test_slow_steps_lead_to_one_thread_and_back_when_the_neighbour_leaves(clock: list[float]) -> None:
    guard = warm()
    for _ in range(3):
        feed(guard, clock, 0.01)
    assert torch.get_num_threads() == 2
    feed(guard, clock, 0.2)
    assert torch.get_num_threads() == 1
    feed(guard, clock, 0.02)
    assert torch.get_num_threads() == 1
    assert guard.reduced == WINDOW
    clock[0] += 5
    feed(guard, clock, 0.02)  # asks again
    assert torch.get_num_threads() == 2
    feed(guard, clock, 0.01)
    assert torch.get_num_threads() == 2


def test_one_thread_is_given_up_when_it_is_no_faster(clock: list[float]) -> None:
    guard = warm()
    feed(guard, clock, 0.01)
    feed(guard, clock, 0.05)
    assert torch.get_num_threads() == 1
    feed(guard, clock, 0.06)
    assert torch.get_num_threads() == 2
    feed(guard, clock, 0.05)  # and the question waits a while
    assert torch.get_num_threads() == 2


def test_a_neighbour_from_the_start_is_noticed_by_preemptions(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter(range(0, 100_000, 500))
    monkeypatch.setattr(module, "preemptions", lambda: next(counts))
    guard = warm()
    feed(guard, clock, 0.2)
    assert torch.get_num_threads() == 1


def test_one_thread_needs_no_guard(clock: list[float]) -> None:
    guard = ThreadGuard(1)
    for seconds in (0.01, 1.0, 5.0):
        feed(guard, clock, seconds)
    assert torch.get_num_threads() == 2  # untouched
    assert guard.reduced == 0
