"""Tables: log-loss on Adult's census and RMSE on California's housing, beside what people use for tables.

    python benchmarks/tables.py                          # about 35 minutes on 2 cores
    python benchmarks/tables.py --sets adult             # one set
    python benchmarks/tables.py --budget 10 --splits 1   # a quick look
    python benchmarks/tables.py --peers lightgbm flaml   # some peers
    python benchmarks/tables.py --json FILE              # the figures for other programs, too

Adult is judged on its own test file, California on five random fifths (seeds 0-4). Tidemill gets the files as they
are, runs one cycle with the budget and answers with what it would serve; it never selects by the test rows. FLAML and
AutoGluon get the same seconds; LightGBM (rate 0.05, early stopping on a tenth of the training rows) and scikit-learn's
histogram boosting (early stopping of its own) take what they need. Peers get cleaned data: categories as such, `?` as
missing. Figures are paired: the same rows, 2,000 bootstrap samples of them, the 95 % interval of how much worse
Tidemill is, relative to the peer. Beside them stands how well Tidemill's certainty holds on the test rows: the
debiased calibration error of the reports, and how many true values its intervals of 90 % cover.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _common import HERE, calibration_error, data_folder, environment, in_process, machine, table

PEERS = {
    "lightgbm": ("peers", ["lightgbm==4.7.0", "scikit-learn==1.9.1", "pandas==2.3.3"]),
    "histogram": ("peers", ["lightgbm==4.7.0", "scikit-learn==1.9.1", "pandas==2.3.3"]),
    "flaml": ("flaml", ["flaml[automl]==2.7.0", "lightgbm==4.7.0", "scikit-learn==1.9.1", "pandas==2.3.3"]),
    "autogluon": ("autogluon", ["autogluon.tabular[lightgbm,catboost,xgboost]==1.6.3"]),
}
ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
TARGETS = {"adult": "income", "california": "median_house_value"}
FLOOR = 1e-7

Floats = npt.NDArray[np.float64]


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "ours":
        print(json.dumps(ours(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--splits", type=int, default=5, help="of California")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    pythons = {name: environment(f"tables-{PEERS[name][0]}", PEERS[name][1]) for name in arguments.peers}
    found: dict[str, Any] = {}
    for name in arguments.sets:
        runs = []
        for seed in range(arguments.splits if name == "california" else 1):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(compete(Path(folder), name, seed, arguments.budget, pythons))
        found[name] = judged(name, runs)
        print(f"\n{name}\n\n{shown(found[name])}", flush=True)
        what = "intervals of 90 % cover" if name == "california" else "calibration error"
        print(f"\nTidemill's {what}: {100 * np.mean(found[name]['tidemill']['holds']):.2f} %", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def compete(folder: Path, name: str, seed: int, budget: float, pythons: dict[str, Path]) -> dict[str, Any]:
    """Everyone's loss by test row, ``{"tidemill": {"loss": [n], "seconds": s, "note": ...}, PEER: ...}``."""
    write(folder, name, seed)
    truth = np.load(folder / "truth.npy")
    results: dict[str, Any] = {}
    calls = {"tidemill": (sys.executable, Path(__file__), ("ours",))} | {
        peer: (str(python), HERE / "tables_peers.py", (peer,)) for peer, python in pythons.items()
    }
    for peer, (python, script, first) in calls.items():
        said = in_process(python, script, *first, str(folder), name, str(budget), str(seed))
        given = np.load(folder / "predicted.npy")
        assert given.shape == truth.shape and np.isfinite(given).all()
        results[peer] = {**said, "loss": losses(name, truth, given)}
        mean = float(results[peer]["loss"].mean())
        print(f"{name} {seed} {peer}: {figure(name, mean):.6g} {json.dumps(said)}", file=sys.stderr, flush=True)
    return results


def losses(name: str, truth: Floats, given: Floats) -> Floats:
    """The negative log-likelihood, or the squared error, of every test row."""
    if name == "california":
        return np.asarray(np.square(given - truth), np.float64)
    p = np.clip(given, FLOOR, 1 - FLOOR)
    return np.asarray(-np.log(np.where(truth == 1, p, 1 - p)), np.float64)


def figure(name: str, mean: float) -> float:
    """What is shown of a mean loss: RMSE for California."""
    return math.sqrt(mean) if name == "california" else mean


def judged(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over splits, and how much worse Tidemill is than each peer, with the bootstrap's 95 % interval."""
    rng = np.random.default_rng(0)
    peers = list(runs[0])
    means = {peer: [figure(name, float(run[peer]["loss"].mean())) for run in runs] for peer in peers}
    drawn: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(2000):
        rows = [rng.integers(0, len(run["tidemill"]["loss"]), len(run["tidemill"]["loss"])) for run in runs]
        own, *others = (
            np.mean([figure(name, float(run[peer]["loss"][r].mean())) for run, r in zip(runs, rows, strict=True)])
            for peer in ["tidemill", *(p for p in peers if p != "tidemill")]
        )
        for peer, other in zip([p for p in peers if p != "tidemill"], others, strict=True):
            drawn[peer].append(float(own / other - 1))
    return {
        peer: {
            "mean": float(np.mean(means[peer])),
            "each": means[peer],
            "seconds": [run[peer]["seconds"] for run in runs],
            "holds": [run[peer]["holds"] for run in runs if "holds" in run[peer]],
            "notes": [run[peer].get("note", "") for run in runs],
            "worse": float(np.mean(means["tidemill"]) / np.mean(means[peer]) - 1),
            "interval": np.quantile(drawn[peer], [0.025, 0.975]).tolist() if drawn[peer] else None,
        }
        for peer in peers
    }


def shown(found: dict[str, Any]) -> str:
    rows = []
    for peer, result in sorted(found.items(), key=lambda item: item[1]["mean"]):
        interval = result["interval"]
        span = "" if interval is None else f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f} %"
        rows.append(
            [
                peer,
                f"{result['mean']:.6g}",
                "" if interval is None else f"{100 * result['worse']:+.2f} %",
                span,
                f"{np.mean(result['seconds']):.0f} s",
                ", ".join(dict.fromkeys(str(note) for note in result["notes"] if note)),
            ]
        )
    return table(["", "loss", "Tidemill worse by", "95 % interval", "time", "model"], rows)


def write(folder: Path, name: str, seed: int) -> None:
    """``train.csv`` and ``test.csv`` as they come, cleaned ones for the peers, and ``truth.npy``."""
    if name == "adult":
        for split in ("train", "test"):
            with (data_folder("adult-census") / f"adult-{split}.csv").open(newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(ADULT)]
            write_csv(folder / f"{split}.csv", ADULT, rows)
            clean = [["" if cell.strip() == "?" else cell.strip().rstrip(".") for cell in row] for row in rows]
            write_csv(folder / f"clean-{split}.csv", ADULT, clean)
            if split == "test":
                np.save(folder / "truth.npy", np.array([row[-1] == ">50K" for row in clean], np.float64))
        return
    with (data_folder("california-housing") / "housing.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = {"test": order[: len(rows) // 5], "train": order[len(rows) // 5 :]}
    for split, chosen in parts.items():
        for stem in (split, f"clean-{split}"):
            write_csv(folder / f"{stem}.csv", header, [rows[i] for i in chosen])
    place = header.index("median_house_value")
    np.save(folder / "truth.npy", np.array([float(rows[i][place]) for i in parts["test"]]))


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def ours(folder: Path, name: str, budget: float, seed: int) -> dict[str, Any]:
    """One cycle; what its model says of the test rows goes to ``predicted.npy``."""
    import tidemill
    from tidemill.records import Decision, Model
    from tidemill.runtime import load

    started = time.perf_counter()
    target = TARGETS[name]
    project = tidemill.init(folder / "project", data=[folder / "train.csv", folder / "test.csv"], target=target)
    project.cycle(budget=f"{budget:g}s", seed=seed)
    seconds = time.perf_counter() - started
    store = project.store
    model = store.get(Model, store.find(Decision, newest_first=True, limit=1)[0].challenger_id)
    predictor = load(store.root / model.path, threads=project.threads)
    predicted = np.concatenate([predictor.probabilities(predictor.encode(part)) for part in records(folder, target)])
    truth = np.load(folder / "truth.npy")
    if name == "adult":
        place = predictor.signature.labels.index(">50K")
        holds = calibration_error(predicted, np.where(truth == 1, place, 1 - place))
        predicted = predicted[:, [place]]
    else:
        holds = float(np.mean((truth >= predicted[:, 1]) & (truth <= predicted[:, 2])))
    np.save(folder / "predicted.npy", np.asarray(predicted[:, 0], np.float64))
    return {"seconds": seconds, "note": model.recipe, "holds": holds}


def records(folder: Path, target: str) -> Iterator[list[dict[str, Any]]]:
    """The test rows as requests would bring them: numbers as numbers, nothing where nothing is known."""
    with (folder / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for start in range(0, len(rows), 1000):
        yield [
            {name: value_of(cell) for name, cell in row.items() if name != target} for row in rows[start : start + 1000]
        ]


def value_of(cell: str) -> str | float | None:
    text = cell.strip()
    if text in ("", "?"):
        return None
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
