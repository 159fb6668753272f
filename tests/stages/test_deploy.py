"""What serves changes in one transaction: by the gate, by a roll-out, by hand, and under kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # rollout_ender.py is a program too, so it is in no package

from rollout_ender import begun

from tidemill.errors import ConflictError, PackageError
from tidemill.records import Decision, Deployment, Generation, Rollout, new_id
from tidemill.stages.deploy import begin_rollout, change_rollout, deploy, end_rollout, put_into_force
from tidemill.store import Store, create_store, open_store, running_rollout

KILLS = 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(create_store(tmp_path / "store")) as made:
        made.insert(Generation(id="gen_1", number=1, alpha=0.05))
        yield made


def decided(store: Store, challenger: str, outcome: Literal["promoted", "refused"] = "promoted") -> Decision:
    champion = store.champion()
    return Decision(
        id=new_id(Decision.prefix),
        cycle_id=None,
        challenger_id=challenger,
        champion_id=champion.model_id if champion else None,
        outcome=outcome,
        reason="It is better.",
        alpha=0.005,
        generation=1,
        evidence={},
    )


def put(store: Store, decision: Decision, *, rolled: bool = True) -> Decision:
    def rollout(champion: str) -> Rollout:
        return Rollout(
            id=new_id(Rollout.prefix),
            name="default",
            champion_id=champion,
            challenger_id=decision.challenger_id,
            phase="shadow",
            share=0.1,
            status="running",
            reason=decision.reason,
            decision_id=decision.id,
        )

    generation = store.get(Generation, "gen_1")
    return deploy(store, decision, generation, spends=0.005, warm_up=lambda: None, rollout=rollout if rolled else None)


def deployed(store: Store, model: str) -> Deployment:
    made = Deployment(id=new_id("deploy"), name="default", model_id=model, action="promote", reason="by a test")
    store.deploy(made)
    return made


def test_the_first_winner_serves_at_once_and_the_next_one_is_rolled_out(store: Store) -> None:
    put(store, decided(store, "model_1"))
    assert store.champion().model_id == "model_1" and running_rollout(store) is None  # type: ignore[union-attr]
    second = put(store, decided(store, "model_2"))
    rollout = running_rollout(store)
    assert rollout is not None and (rollout.champion_id, rollout.challenger_id) == ("model_1", "model_2")
    assert (second.outcome, rollout.decision_id) == ("promoted", second.id)
    assert store.champion().model_id == "model_1"  # type: ignore[union-attr]
    third = put(store, decided(store, "model_3"))
    assert (third.outcome, third.reason) == ("refused", "the roll-out of model_2 is still under way")
    at_once = put(store, decided(store, "model_4"), rolled=False)
    assert at_once.outcome == "refused", "whatever the policy is by now"
    assert store.count(Rollout) == 1 and store.get(Generation, "gen_1").spent == pytest.approx(0.02)
    assert store.get(Decision, third.id) == third


def test_a_refused_or_broken_challenger_is_not_rolled_out(store: Store) -> None:
    deployed(store, "model_1")
    put(store, decided(store, "model_2", "refused"))

    def broken() -> None:
        raise PackageError("a file is missing")

    made = deploy(
        store, decided(store, "model_3"), store.get(Generation, "gen_1"), spends=0.0, warm_up=broken,
        rollout=lambda champion: begun(store, champion),
    )  # fmt: skip
    assert made.outcome == "refused" and "does not start" in made.reason
    assert store.count(Rollout) == 0 and store.count(Decision, outcome="refused") == 2


def test_one_rollout_at_a_time_of_a_model_that_does_not_serve(store: Store) -> None:
    deployed(store, "model_1")
    with pytest.raises(ConflictError, match="serves already"):
        begun(store, "model_1")
    first = begun(store, "model_2")
    with pytest.raises(ConflictError, match="model_2 is still under way"):
        begun(store, "model_3")
    end_rollout(store, first.id, "stopped", "enough")
    deployed(store, "model_4")
    with pytest.raises(ConflictError, match="just now"):
        begin_rollout(store, Rollout(**{**_fields(first), "id": new_id("roll"), "champion_id": "model_1"}))
    assert store.count(Rollout) == 1


def _fields(rollout: Rollout) -> dict[str, object]:
    return {name: getattr(rollout, name) for name in rollout.__slots__} | {"created": rollout.created}


def test_only_the_first_end_counts(store: Store) -> None:
    deployed(store, "model_1")
    rollout = begun(store, "model_2")
    ended = end_rollout(store, rollout.id, "promoted", "proven", evidence={"a": 1}, author="ann")
    champion = store.champion()
    assert champion is not None and ended.deployment_id == champion.id
    assert (champion.model_id, champion.reason, champion.author) == ("model_2", "proven", "ann")
    assert (ended.status, ended.reason, ended.evidence, ended.author) == ("promoted", "proven", {"a": 1}, "ann")
    assert end_rollout(store, rollout.id, "rolled-back", "too late") == ended
    assert change_rollout(store, rollout.id, share=0.9, reason="too late") == ended
    assert store.count(Deployment) == 2 and store.get(Rollout, rollout.id) == ended


@pytest.mark.parametrize(("model", "status"), [("model_2", "promoted"), ("model_3", "stopped")])
def test_a_promotion_by_hand_ends_a_rollout(store: Store, model: str, status: str) -> None:
    deployed(store, "model_1")
    rollout = put(store, decided(store, "model_2")) and running_rollout(store)
    assert rollout is not None
    by_hand = Deployment(id=new_id("deploy"), name="default", model_id=model, action="promote", reason="hurry")
    _, ended = put_into_force(store, by_hand)
    assert ended is not None and ended.status == status and "hurry" in ended.reason
    champion = store.champion()
    assert champion is not None and champion.model_id == model
    if status == "promoted":
        assert (ended.deployment_id, champion.decision_id) == (by_hand.id, rollout.decision_id)
    assert put_into_force(store, Deployment(**{**_record(by_hand), "id": new_id("deploy")}))[1] is None


def _record(deployment: Deployment) -> dict[str, object]:
    return {"name": "default", "model_id": deployment.model_id, "action": "promote", "reason": "again"}


def test_kill_9_leaves_a_rollout_running_or_wholly_ended(store: Store) -> None:
    deployed(store, "model_1")
    root = store.root
    store.close()
    program = Path(__file__).with_name("rollout_ender.py")
    chance = random.Random(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(program), str(root)], **pipes) as parent:  # type: ignore[call-overload]
        for _ in range(KILLS):
            parent.stdin.write("go\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            assert [parent.stdout.readline() for _ in range(2)] == ["ended\n"] * 2
            time.sleep(chance.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
            while parent.stdout.readline() != "dead\n":
                pass
        parent.stdin.close()
    with open_store(root) as left:
        rollouts, deployments = left.find(Rollout), left.find(Deployment)[1:]
        promoted = [rollout for rollout in rollouts if rollout.status == "promoted"]
        assert len(promoted) >= 2 * KILLS
        assert [r.deployment_id for r in promoted] == [d.id for d in deployments]
        assert [r.challenger_id for r in promoted] == [d.model_id for d in deployments]
        assert len(rollouts) - len(promoted) <= 1 and {r.status for r in rollouts} <= {"promoted", "running"}
