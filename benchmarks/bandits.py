"""Learning from rewards: how honest off-policy estimates are, and how fast a bandit learns.

    python benchmarks/bandits.py --estimators           # 1,000 logs a cell of the grid: about 12 minutes
    python benchmarks/bandits.py --estimators --quick   # 100 logs a cell: about a minute and a half
    python benchmarks/bandits.py --logged               # Open Bandit, "men": a policy's value from another one's log
    python benchmarks/bandits.py --learning             # MNIST, of which only right or wrong comes back, beside VW
    python benchmarks/bandits.py --changing             # a world that turns: fast layer beside cycles alone

Peers run in `benchmarks/.venv-bandits`, made on first use: Open Bandit Pipeline's estimators on the same logs, and
Vowpal Wabbit's exploration policies on the same stream.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _common import HERE, data_folder, environment, in_process, machine, mnist, table
from tidemill.data.logged import Logged
from tidemill.learners.bandit.targets import fit_heads
from tidemill.metrics.off_policy import ESTIMATORS, Choices, Weighed, estimate, support, weigh
from tidemill.metrics.units import Floats
from tidemill.runtime.heads import Heads, represented
from tidemill.runtime.policies import Policy, draw
from tidemill.testing import BanditWorld
from tidemill.testing.bandits import Policy as World

REQUIREMENTS = ("numpy", "scipy", "scikit-learn", "pandas", "pyyaml", "matplotlib", "seaborn", "tqdm", "vowpalwabbit")
OBP = "obp==0.5.7"
SIZES = (200, 1000, 4000)
OVERLAPS = {"blind": 0.0, "prefer the worse": -0.35, "avoid the better": -0.7}
"""How sharply the logging policy prefers what is bad; the judged one is a softmax of sharpness 2."""
WORLDS = {"linear": True, "nonlinear": True, "nonlinear, judged in ignorance": False}
"""Truths, and whether the policies go by the true log-odds: else by their linear part alone, beside which the errors of
a linear model average out, so that believing it costs nothing."""
FOLDS = 5
REPLICATES = 400
ADEQUATE = 50.0
"""Effective choices from which the gate judges."""


def peers() -> Path:
    """The Python of the peers' environment; OBP without what it pins, which today's Python does not take."""
    python = environment("bandits", REQUIREMENTS)
    marker = python.parent.parent / "obp"
    if not marker.is_file():
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--ignore-requires-python", OBP], check=True)
        marker.write_text(OBP)
    return python


def expected_by_folds(contexts: Floats, choices: Choices, actions: int, seed: int) -> Floats:
    """What linear heads expect of each action, each fold of the rows by heads that saw the others."""
    z = represented(contexts.astype(np.float32))
    fold = np.random.default_rng(seed).permutation(len(z)) % FOLDS
    found = np.zeros((len(z), actions))
    for number in range(FOLDS):
        seen = fold != number
        heads = Heads.fitted([str(a) for a in range(actions)], z[seen], choices.action[seen], choices.reward[seen])
        found[~seen] = heads.expected(z[~seen])
    return found


def estimators(repeats: int, replicates: int) -> None:
    """Coverage, bias and error of every estimator over a grid of truths, overlap and size."""
    rows: list[list[str]] = []
    cells: list[tuple[bool, str, dict[str, float]]] = []
    for called, knows in WORLDS.items():
        world = BanditWorld("nonlinear" if called.startswith("non") else "linear", actions=5, seed=1)
        soft = partial(world.softmax, knowing=knows)
        truth = world.value(soft(2.0))
        print(f"{called}: the judged policy earns {truth:.4f}, choosing blindly {world.value(world.uniform):.4f}")
        for overlap, sharpness in OVERLAPS.items():
            for n in SIZES:
                made = _cell(world, soft(2.0), soft(sharpness), n, repeats, replicates)
                cells.append((made["effective"] >= ADEQUATE, called, made["rmse"]))
                for name in ESTIMATORS:
                    sure = "–" if name in ("snips", "calibrated") else f"{100 * made['sure'][name]:.1f} %"
                    where = [called, overlap, f"{n:,}", f"{made['effective']:,.0f}", name]
                    bias, rmse, held = (made[part][name] for part in ("bias", "rmse", "held"))
                    rows.append([*where, f"{bias:+.4f}", f"{rmse:.4f}", f"{100 * held:.1f} %", sure])
                    print(*rows[-1], sep=" | ", flush=True, file=sys.stderr)
    header = ["truth", "logs", "rows", "effective", "estimator", "bias", "RMSE", "bootstrap", "Bernstein"]
    print("\n" + table(header, rows) + "\n")
    for name in ("dr", "calibrated"):
        for title, of in (("of all", cells), ("with adequate overlap", [cell for cell in cells if cell[0]])):
            others = [{k: v for k, v in rmse.items() if k == name or k not in ("dr", "calibrated")} for *_, rmse in of]
            near = sum(rmse[name] <= 1.1 * min(rmse.values()) for rmse in others)
            worst = sum(rmse[name] >= max(rmse.values()) for rmse in others)
            print(f"{title}: {name} is best or within 10 % of the best in {near} of {len(of)} cells, worst in {worst}")
    beside_obp(BanditWorld("nonlinear", actions=5, seed=1))


def _cell(world: BanditWorld, target: World, logging: World, n: int, repeats: int, replicates: int) -> dict[str, Any]:
    """Many logs of one kind: means over them, of each estimator."""
    truth = world.value(target)
    values = {name: np.empty(repeats) for name in ESTIMATORS}
    held, sure = dict.fromkeys(ESTIMATORS, 0), dict.fromkeys(ESTIMATORS, 0)
    effective = []
    for repeat in range(repeats):
        logs = world.log(n, logging, seed=repeat)
        expected = expected_by_folds(logs.contexts, logs.choices, world.actions, repeat)
        policy = target(logs.contexts)
        seen = weigh(logs.choices, policy, expected)
        most = float((policy / logs.propensities).max())
        found = estimate(seen, replicates=replicates, seed=repeat, reward_range=(0, 1), largest=most)
        effective.append(support(seen).effective)
        for name, value in found.items():
            values[name][repeat] = value.value
            held[name] += value.low <= truth <= value.high
            sure[name] += value.sure_low <= truth <= value.sure_high
    return {
        "effective": float(np.mean(effective)),
        "bias": {name: float(v.mean() - truth) for name, v in values.items()},
        "rmse": {name: float(np.sqrt(np.square(v - truth).mean())) for name, v in values.items()},
        "held": {name: count / repeats for name, count in held.items()},
        "sure": {name: count / repeats for name, count in sure.items()},
    }


def beside_obp(world: BanditWorld) -> None:
    """The same logs, estimated by Open Bandit Pipeline."""
    logs = world.log(2000, world.softmax(-0.7), seed=9)
    policy = world.softmax(2.0)(logs.contexts)
    expected = expected_by_folds(logs.contexts, logs.choices, world.actions, 9)
    ours = {name: v.value for name, v in estimate(weigh(logs.choices, policy, expected), limit=3.0).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "logs.npz")
        c = logs.choices
        np.savez(path, action=c.action, reward=c.reward, pscore=c.propensity, policy=policy, expected=expected)
        theirs = in_process(peers(), HERE / "bandits_peers.py", "obp", str(path), "3.0")
    print("\n" + table(["estimator", "ours", "OBP", "difference"], [
        [name, f"{ours[name]:.12f}", f"{theirs[name]:.12f}", f"{abs(ours[name] - theirs[name]):.1e}"]
        for name in theirs
    ]))  # fmt: skip


def logged() -> None:
    """Open Bandit, men: what Thompson sampling earned by its own log, and by that of blind choices."""
    folder = data_folder("open-bandit-men")

    def read(policy: str) -> dict[str, np.ndarray]:
        with (folder / policy / "men.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {
            "item": np.array([int(row["item_id"]) for row in rows]),
            "position": np.array([int(row["position"]) for row in rows]) - 1,
            "click": np.array([float(row["click"]) for row in rows]),
            "propensity": np.array([float(row["propensity_score"]) for row in rows]),
        }

    blind, thompson = read("random"), read("bts")
    shares = np.zeros((3, 34))  # the log of a policy without contexts says how often it chose what where
    for position in range(3):
        there = thompson["position"] == position
        shares[position] = np.bincount(thompson["item"][there], minlength=34) / there.sum()
    choices = Choices(action=blind["item"], reward=blind["click"], propensity=blind["propensity"])
    seen = weigh(choices, shares[blind["position"]])
    own = estimate(Weighed(importance=np.ones(10_000), reward=thompson["click"]), estimators=["ips"])["ips"]
    rows = [["its own log", "mean", f"{own.value:.4%}", f"{own.low:.4%} to {own.high:.4%}"]]
    for name, value in estimate(seen).items():
        rows.append(["the random log", name, f"{value.value:.4%}", f"{value.low:.4%} to {value.high:.4%}"])
    mean = choices.reward.mean()
    rows.append(["(the random policy itself)", "mean", f"{mean:.4%}", ""])
    print("\n" + table(["from", "estimator", "clicks", "95 %"], rows))
    print(f"\neffective choices: {support(seen).effective:.0f} of 10,000")


def learning(rounds: int) -> None:
    """MNIST as a bandit: regret, and what was learned of it, beside Vowpal Wabbit."""
    from tidemill.features._base import FeatureInfo
    from tidemill.learners._base import Context, Problem, RecipeView
    from tidemill.learners.bandit import BanditLearner

    (images, labels), (tests, truths) = mnist()
    order = np.random.default_rng(0).permutation(len(images))[:rounds]
    images, labels = images[order], labels[order]
    info = {"image": FeatureInfo("uint8", (28, 28, 1), {"mean": [33.3], "std": [78.6]})}
    names = tuple("0123456789")
    policy, rng = Policy(name="thompson", floor=0.01), np.random.default_rng(1)
    action, reward, propensity = (np.zeros(rounds, kind) for kind in (np.int64, np.float64, np.float64))
    model = heads = None
    started, regret = time.perf_counter(), 0.0
    cycles = [c for c in (500, 1500, 4000, 10_000, 25_000) if c < rounds]
    for start in range(0, rounds, 50):
        part = slice(start, min(start + 50, rounds))
        if start in cycles:
            model = fit(BanditLearner(), images[:start], info, names, action, reward, propensity, start)
            heads = model.heads
        if heads is None or model is None:
            shares = np.full((part.stop - start, 10), 0.1)
        else:
            z = represented(model.scores({"image": images[part]}))
            shares = policy.shares(heads.expected(z), heads.deviation(z))
        action[part] = draw(shares, rng.random(len(shares)))
        propensity[part] = shares[np.arange(len(shares)), action[part]]
        reward[part] = action[part] == labels[part]
        if heads is not None:
            heads = heads.learned(z, action[part], reward[part])
        regret += float((1 - reward[part]).sum())
    model = fit(BanditLearner(), images, info, names, action, reward, propensity, rounds)
    z = represented(model.scores({"image": tests}))
    right = float((model.heads.expected(z).argmax(axis=1) == truths).mean())
    seconds = time.perf_counter() - started
    from tidemill.learners import get_learner

    whole = Problem(
        kind="classification", features={"image": images}, info=info, target=labels, train=rounds, classes=10
    )
    view = RecipeView(network={"name": "cnn-small"}, params={"epochs": 1})
    taught = get_learner("gradient").fit(whole, view, Context(max_epochs=1))
    supervised = float((taught.scores({"image": tests}).argmax(axis=1) == truths).mean())
    rows = [["Tidemill, thompson", f"{regret:,.0f}", f"{right:.2%}", f"{seconds:.0f}"]]
    rows.append(["the same network, told every label once", "", f"{supervised:.2%}", ""])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stream.npz")
        np.savez(
            path, images=images.reshape(rounds, -1), labels=labels, tests=tests.reshape(len(tests), -1), truths=truths
        )
        for name, found in in_process(peers(), HERE / "bandits_peers.py", "vw", str(path)).items():
            rows.append([f"VW {name}", f"{found['regret']:,.0f}", f"{found['right']:.2%}", f"{found['seconds']:.0f}"])
    print("\n" + table([f"after {rounds:,} rounds", "regret", "right on the test set", "seconds"], rows))


def fit(learner, images, info, names, action, reward, propensity, n):  # type: ignore[no-untyped-def]
    """A network's rewards from what was logged so far."""
    from tidemill.learners._base import Context, Problem, RecipeView

    problem = Problem(
        kind="choice",
        features={"image": images},
        info=info,
        target=reward[:n].astype(np.float32),
        train=n,
        classes=10,
        logged=Logged(action[:n], propensity[:n], None),
        labels=names,
    )
    params = {"reward": "network", "targets": "direct", "epochs": 3, "width": 32, "batch_size": 64}
    return learner.fit(problem, RecipeView(network={"name": "cnn-small"}, params=params), Context(seed=n))


def changing(rounds: int = 20_000) -> None:
    """A world whose actions change places every 5,000 rounds: rounds until it is learned again."""
    world = BanditWorld("drifting", actions=5, period=5000, seed=2, strength=2.5)
    names = [str(a) for a in range(world.actions)]
    every, rows, again = 1000, [], {}
    for called, fast, memory in (("cycles alone", False, 1.0), ("with the fast layer", True, 0.99)):
        rng = np.random.default_rng(5)
        heads = Heads.blank(names, 7)
        policy = Policy(name="thompson", floor=0.05)
        at = rng.integers(0, len(world.pool), rounds)
        z = represented(world.pool[at].astype(np.float32))
        action, reward, earned = np.zeros(rounds, int), np.zeros(rounds), np.zeros(rounds)
        propensity = np.ones(rounds)
        for start in range(0, rounds, 20):
            part = slice(start, start + 20)
            shares = policy.shares(heads.expected(z[part]), heads.deviation(z[part]))
            action[part] = draw(shares, rng.random(len(shares)))
            propensity[part] = shares[np.arange(20), action[part]]
            means = world.means(at[part], np.arange(start, start + 20))
            earned[part] = means[np.arange(20), action[part]] / means.max(axis=1)
            reward[part] = rng.random(20) < means[np.arange(20), action[part]]
            if fast:
                heads = heads.learned(z[part], action[part], reward[part], memory=memory)
            if (start + 20) % every == 0:  # a cycle learns from what is left of its window
                rows_of = slice(max(0, start + 20 - 2 * every), start + 20)
                log = Logged(action[rows_of], propensity[rows_of], None)
                if not fast:
                    heads = fit_heads(
                        names, z[rows_of], log, reward[rows_of], None,
                        method="iw", clip=10.0, ridge=1.0, folds=3, shared=False, seed=0,
                    )  # fmt: skip
        lag = []
        for turn in range(world.period, rounds, world.period):
            before = earned[turn - 1000 : turn].mean()
            smooth = np.convolve(earned[turn : turn + world.period], np.ones(200) / 200, "valid")
            reached = np.flatnonzero(smooth >= 0.95 * before)
            lag.append(int(reached[0]) + 200 if len(reached) else world.period)
        again[called] = float(np.median(lag))
        rows.append([called, f"{earned.mean():.1%}", f"{again[called]:,.0f}", " ".join(map(str, lag))])
    print("\n" + table(["", "of the best reward", "rounds until 95 % of before (median)", "each turn"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("estimators", "logged", "learning", "changing", "quick"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--logs", type=int, default=1000, help="of each cell of the estimators' grid")
    given = parser.parse_args()
    print(machine())
    if given.estimators:
        estimators(100 if given.quick else given.logs, REPLICATES)
    if given.logged:
        logged()
    if given.learning:
        learning(5000 if given.quick else 60_000)
    if given.changing:
        changing()


if __name__ == "__main__":
    main()
