"""The peers of bandits.py, in an environment of their own; the last line of the output is JSON."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np


def obp(path: str, limit: float) -> dict[str, float]:
    """Open Bandit Pipeline's estimates of the logs in *path*."""
    package = Path(str(find_spec("obp").origin)).parent  # type: ignore[union-attr]
    for name, folder in (("obp", package), ("obp.ope", package / "ope")):
        sys.modules[name] = ModuleType(name)  # its own __init__ would load torch and all of its learners
        sys.modules[name].__path__ = [str(folder)]
    sys.modules["torch"] = ModuleType("torch")  # named by what checks arrays, and used by nothing here
    sys.modules["torch"].Tensor = sys.modules["torch"].tensor = np.ndarray
    from obp.ope.estimators import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
        SwitchDoublyRobust,
    )

    logs = np.load(path)
    policy, expected = logs["policy"][:, :, None], logs["expected"][:, :, None]
    given = {
        "reward": logs["reward"],
        "action": logs["action"],
        "position": np.zeros(len(logs["action"]), int),
        "action_dist": policy,
    }
    weighed = {**given, "pscore": logs["pscore"]}
    modelled = {**weighed, "estimated_rewards_by_reg_model": expected}
    return {
        "ips": InverseProbabilityWeighting().estimate_policy_value(**weighed),
        "snips": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**weighed),
        "dm": DirectMethod().estimate_policy_value(
            action_dist=policy, estimated_rewards_by_reg_model=expected, position=given["position"]
        ),
        "dr": DoublyRobust().estimate_policy_value(**modelled),
        "switch": SwitchDoublyRobust(lambda_=limit).estimate_policy_value(**modelled),
    }


POLICIES = {
    "epsilon 0.05": "--epsilon 0.05",
    "cover 3": "--cover 3",
    "softmax": "--softmax --lambda 20",
    "squarecb": "--squarecb --gamma_scale 100",
}


def vw(path: str) -> dict[str, dict[str, float]]:
    """Regret and accuracy of Vowpal Wabbit's exploration policies, one pass over the stream in *path*."""
    from vowpalwabbit import Workspace

    stream = np.load(path)

    def line(pixels: np.ndarray) -> str:
        at = np.flatnonzero(pixels)
        return "shared |p " + " ".join(f"{i}:{pixels[i] / 255:.3f}" for i in at.tolist())

    actions = [f"|a a={digit}" for digit in range(10)]
    shared = [line(row) for row in stream["images"]]
    tests = [line(row) for row in stream["tests"]]
    found = {}
    for name, flags in POLICIES.items():
        rng = np.random.default_rng(1)
        learner = Workspace(f"--cb_explore_adf --cb_type mtr -q pa -b 20 --ignore_linear p --quiet {flags}")
        started, regret = time.perf_counter(), 0
        for context, label in zip(shared, stream["labels"].tolist(), strict=True):
            shares = np.array(learner.predict([context, *actions]))
            shares /= shares.sum()
            chosen = int(rng.choice(10, p=shares))
            wrong = int(chosen != label)
            regret += wrong
            told = list(actions)
            told[chosen] = f"0:{wrong}:{shares[chosen]} {told[chosen]}"
            learner.learn([context, *told])
        right = [int(np.argmax(learner.predict([context, *actions]))) for context in tests]
        found[name] = {
            "regret": regret,
            "right": float((np.array(right) == stream["truths"]).mean()),
            "seconds": time.perf_counter() - started,
        }
        learner.finish()
    return found


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    print(json.dumps(obp(arguments[0], float(arguments[1])) if kind == "obp" else vw(arguments[0])))
