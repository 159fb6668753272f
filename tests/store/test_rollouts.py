"""What a roll-out asks of the tables, on either database."""

from __future__ import annotations

from collections.abc import Callable

from tidemill.records import LiveKey, Prediction, Rollout, new_id
from tidemill.store import Store, running_rollout
from tidemill.store.rollouts import Traffic, asked_since, audited_since, newest_row, traffic_since

SHADOW = {"model_id": "model_2", "answer": {"label": "b"}}


def rollout(status: str, name: str = "default") -> Rollout:
    return Rollout(
        id=new_id("roll"), name=name, champion_id="model_1", challenger_id="model_2", phase="shadow", share=0.1,
        status=status, reason="a test",  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_one_that_runs_is_found(store: Store) -> None:
    assert running_rollout(store) is None
    runs, other = rollout("running"), rollout("running", "another")
    store.insert(rollout("promoted"), other, runs, rollout("stopped"))
    assert running_rollout(store) == runs and running_rollout(store, "another") == other


def test_what_came_after_a_row_is_counted(store: Store, make_prediction: Callable[..., Prediction]) -> None:
    assert newest_row(store) == 0 and traffic_since(store, "roll_1", 0) == Traffic(0, 0, 0)
    store.insert(make_prediction(shadow=SHADOW, audited=True))
    start = newest_row(store)
    made = [
        make_prediction(key="aa", audited=True, shadow=SHADOW),
        make_prediction(key="aa", audited=True, shadow=SHADOW),
        make_prediction(key="bb", audited=True, shadow=SHADOW, deployment="roll_1"),
        make_prediction(key="cc", audited=True),
        make_prediction(key="dd", shadow=SHADOW),
        make_prediction(key="ee", deployment="roll_1"),
    ]
    store.insert(*made)
    keys = [("aa", "recent-test"), ("bb", "train"), ("cc", "recent-test"), ("dd", "recent-test")]
    store.insert(*(LiveKey(id=new_id("key"), key=k, split=s, probability=0.5, drawn=True) for k, s in keys))  # type: ignore[arg-type]
    assert traffic_since(store, "roll_1", start) == Traffic(newest_row(store), 5, 2)
    assert traffic_since(store, "roll_1", newest_row(store)) == Traffic(newest_row(store), 0, 0)
    found = audited_since(store, start)
    assert [p for _, p in found] == made[:3] and [row for row, _ in found] == sorted(row for row, _ in found)
    assert [p for _, p in audited_since(store, found[0][0], limit=1)] == made[1:2]
    assert [p for _, p in audited_since(store, start, among={made[2].id, made[4].id, "pred_x"})] == made[2:3]
    assert audited_since(store, start, among=()) == []
    assert asked_since(store, start) == 1, "a key counts once, and not when it trains"
