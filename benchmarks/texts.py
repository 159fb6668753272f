"""Texts: macro-F1 on AG News, SMS spam and ChnSentiCorp beside scikit-learn's best linear models on the same splits.

    python benchmarks/texts.py                             # about 20 minutes on 2 cores
    python benchmarks/texts.py --sets sms-spam --splits 1  # a quick look
    python benchmarks/texts.py --json FILE                 # the figures for other programs, too

Each set is split five times at random (seeds 0-4), four fifths to learn from. Tidemill gets two files of texts, runs
one cycle with the budget and answers with what it would serve; it never selects by the test rows. The peers read words
(one and two) and characters (two to five, within words) by TF-IDF, and are logistic regression, a linear support vector
machine, ridge and naive Bayes, with two settings each. The best of all of them is chosen by its mean on the test rows,
which favours it. Figures are paired: the same rows, 2,000 bootstrap samples of them, the 95 % interval of the
difference. The calibration error is the debiased one of the reports, over the test rows of all splits together.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _common import HERE, calibration_error, data_folder, environment, in_process, machine, table

SETS = ("ag-news", "sms-spam", "chnsenticorp-htl")
PEERS = ["scikit-learn==1.9.1"]
LATENCIES = 300

Codes = npt.NDArray[np.int64]


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "ours":
        print(json.dumps(ours(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--budget", type=float, default=35.0, metavar="SECONDS")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    peers = environment("texts", PEERS)
    found: dict[str, Any] = {}
    for name in arguments.sets:
        runs = []
        for seed in range(arguments.splits):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(compete(Path(folder), name, seed, arguments.budget, peers))
        found[name] = judged(runs)
        print(f"\n{name}\n\n{shown(found[name])}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def rows_of(name: str) -> tuple[list[str], list[list[str]]]:
    """The header, and every row with its label first."""
    folder = data_folder(name)
    if name == "ag-news":
        rows: list[list[str]] = []
        for split in ("train", "test"):
            with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
                rows += list(csv.reader(file))
        return ["label", "title", "description"], rows
    if name == "sms-spam":
        lines = (folder / "SMSSpamCollection").read_text("utf-8").splitlines()
        return ["label", "text"], [line.split("\t", 1) for line in lines if line]
    with (folder / "ChnSentiCorp_htl_all.csv").open(newline="", encoding="utf-8") as file:
        return ["label", "text"], [row for row in list(csv.reader(file))[1:] if row[1].strip()]


def compete(folder: Path, name: str, seed: int, budget: float, peers: Path) -> dict[str, Any]:
    """What everyone answers on the test rows, and what it took."""
    header, rows = rows_of(name)
    order = np.random.default_rng(seed).permutation(len(rows))
    for split, chosen in (("test", order[: len(rows) // 5]), ("train", order[len(rows) // 5 :])):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(rows[i] for i in chosen)])
    labels = sorted({row[0] for row in rows})
    truth = np.array([labels.index(rows[i][0]) for i in order[: len(rows) // 5]])
    said = in_process(sys.executable, Path(__file__), "ours", str(folder), str(budget), str(seed))
    probabilities = np.load(folder / "probabilities.npy")
    results: dict[str, Any] = {
        "truth": truth,
        "classes": len(labels),
        "tidemill": {**said, "given": probabilities.argmax(axis=1), "probabilities": probabilities},
    }
    told = in_process(str(peers), HERE / "texts_peers.py", str(folder), OMP_NUM_THREADS="2")
    answers = np.load(folder / "answers.npz")
    results |= {peer: {"seconds": told[peer], "given": answers[peer]} for peer in told}
    for peer in ("tidemill", *told):
        score = macro_f1(truth, results[peer]["given"], len(labels))
        print(f"{name} {seed} {peer}: {100 * score:.2f}", file=sys.stderr, flush=True)
    print(json.dumps(said), file=sys.stderr, flush=True)
    return results


def macro_f1(truth: Codes, given: Codes, classes: int) -> float:
    """The mean of the classes' F1."""
    table = np.bincount(truth * classes + given, minlength=classes**2).reshape(classes, classes)
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)))


def judged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over splits, and how much better Tidemill is than each peer, with the bootstrap's 95 % interval."""
    rng = np.random.default_rng(0)
    peers = [peer for peer in runs[0] if peer not in ("truth", "classes")]

    def mean(peer: str, rows: list[Codes] | None) -> float:
        parts = []
        for number, run in enumerate(runs):
            chosen = slice(None) if rows is None else rows[number]
            parts.append(macro_f1(run["truth"][chosen], run[peer]["given"][chosen], run["classes"]))
        return 100 * float(np.mean(parts))

    drawn: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(2000):
        rows = [rng.integers(0, len(run["truth"]), len(run["truth"])) for run in runs]
        own = mean("tidemill", rows)
        for peer in peers:
            drawn[peer].append(own - (own if peer == "tidemill" else mean(peer, rows)))
    found: dict[str, Any] = {}
    for peer in peers:
        facts = {
            key: [run[peer][key] for run in runs] for key in runs[0][peer] if key not in ("given", "probabilities")
        }
        found[peer] = {
            "mean": mean(peer, None),
            "better": mean("tidemill", None) - mean(peer, None),
            "interval": np.quantile(drawn[peer], [0.025, 0.975]).tolist(),
            **facts,
        }
    together = np.concatenate([run["tidemill"]["probabilities"] for run in runs])
    truth = np.concatenate([run["truth"] for run in runs])
    found["tidemill"]["calibration_error"] = 100 * calibration_error(together, truth)
    return found


def shown(found: dict[str, Any]) -> str:
    rows = []
    for peer, result in sorted(found.items(), key=lambda item: -item[1]["mean"]):
        own = peer == "tidemill"
        low, high = result["interval"]
        notes = ""
        if own:
            notes = f"{', '.join(result['recipe'])}; {np.median(result['ms']):.2f} ms an answer; "
            notes += f"calibration error {result['calibration_error']:.2f} points"
        rows.append(
            [
                peer,
                f"{result['mean']:.2f}",
                "" if own else f"{result['better']:+.2f}",
                "" if own else f"{low:+.2f} to {high:+.2f}",
                f"{np.mean(result['seconds']):.1f} s",
                notes,
            ]
        )
    return table(["", "macro-F1, %", "Tidemill better by", "95 % interval", "time", ""], rows)


def ours(folder: Path, budget: float, seed: int) -> dict[str, Any]:
    """One cycle; what its model says of the test rows goes to ``probabilities.npy``."""
    import tidemill
    from tidemill.records import Decision, Model
    from tidemill.runtime import load

    started = time.perf_counter()
    project = tidemill.init(folder / "project", data=[folder / "train.csv", folder / "test.csv"], target="label")
    project.cycle(budget=f"{budget:g}s", seed=seed)
    seconds = time.perf_counter() - started
    store = project.store
    model = store.get(Model, store.find(Decision, newest_first=True, limit=1)[0].challenger_id)
    predictor = load(store.root / model.path, threads=1)
    with (folder / "test.csv").open(newline="", encoding="utf-8") as file:
        records = [{k: v for k, v in row.items() if k != "label"} for row in csv.DictReader(file)]
    probabilities = np.concatenate(
        [predictor.probabilities(predictor.encode(records[i : i + 500])) for i in range(0, len(records), 500)]
    )
    np.save(folder / "probabilities.npy", probabilities)
    times = []
    for record in records[:LATENCIES]:
        begun = time.perf_counter()
        predictor.predict([record])
        times.append(1000 * (time.perf_counter() - begun))
    return {"seconds": seconds, "recipe": model.recipe, "ms": float(np.median(times)), "task": project.task.name}


if __name__ == "__main__":
    main()
