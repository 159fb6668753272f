"""Preparing a million rows of mixed columns, and a million short texts, beside polars and scikit-learn.

    python benchmarks/preparing.py                         # about an hour on one core, 8 GB of disk, 12 GB of memory
    python benchmarks/preparing.py --rows 100000           # minutes
    python benchmarks/preparing.py --sets mixed-csv texts  # some sets
    python benchmarks/preparing.py --json FILE             # the figures for other programs, too

Both sides start from the same file and end with features of the training and validation rows on disk: fitted on the
training rows, written for both. Tidemill's way is `init` (which finds out what the columns are), `prepare` and
`feature_set`, each as every cycle calls it; the peer's is a polars script and a scikit-learn pipeline that know the
columns beforehand. Sides take turns, each in a fresh process with as many threads. Seconds are those of the processor;
memory is the peak of `RssAnon` above what the process held after its imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import HERE, environment, in_process, machine, measured, table
from preparing_data import write_mixed, write_texts

PEERS = ["polars==2.1.0", "scikit-learn==1.9.1"]
WORDS, CHARACTERS = [1, 2], [2, 5]
MIXED: list[dict[str, Any]] = [
    {"step": "numbers"},
    {"step": "dates"},
    {"step": "categories"},
    {"step": "ngrams", "words": [1, 1], "characters": None, "max_features": 20_000},
]
SETS: dict[str, tuple[Callable[[Path, int], Path], str, list[dict[str, Any]]]] = {
    "mixed-csv": (write_mixed, "mixed.csv", MIXED),
    "mixed-parquet": (write_mixed, "mixed.parquet", MIXED),
    "texts": (write_texts, "texts.csv", [{"step": "ngrams", "words": WORDS, "characters": CHARACTERS}]),
    "texts-hashed": (
        write_texts,
        "texts.csv",
        [
            {
                "step": "ngrams",
                "words": WORDS,
                "characters": CHARACTERS,
                "buckets": 1 << 20,
                "sublinear": False,
                "idf": False,
            }
        ],
    ),
}
SIDES = ("tidemill", "peer")
STAGES = ("look", "prepare", "features")


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "ours":
        print(json.dumps(ours(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["mixed-csv", "mixed-parquet", "texts"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where the data may lie while it runs; the usual place for such files")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    python = environment("preparing", PEERS)
    found: list[dict[str, Any]] = []
    for name in arguments.sets:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
            write, file, _specs = SETS[name]
            data = write(Path(folder) / file, arguments.rows)
            for turn in range(arguments.rounds):
                for side in arguments.sides if turn % 2 == 0 else arguments.sides[::-1]:
                    one = run(side, python, data, name, arguments.threads)
                    found.append({"set": name, "rows": arguments.rows, "side": side, **one})
                    print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(shown(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def run(side: str, python: Path, data: Path, name: str, threads: int) -> dict[str, Any]:
    """One side on one set; what it writes lies in a folder that is gone afterwards."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "TIDEMILL_THREADS", "POLARS_MAX_THREADS"), str(threads))
    with tempfile.TemporaryDirectory(dir=data.parent) as work:
        if side == "peer":
            return in_process(python, HERE / "preparing_peers.py", str(data), work, name, **variables)
        return in_process(sys.executable, Path(__file__), "ours", str(data), work, name, **variables)


def ours(data: Path, folder: Path, name: str) -> dict[str, Any]:
    """Tidemill's way, and how many rows train and validate; 300 rows go first, so that no import is measured."""
    write, file, specs = SETS[name]
    through(write(folder / f"few-{file}", 300), folder / "few", specs)
    return through(data, folder / "project", specs)


def through(data: Path, folder: Path, specs: list[dict[str, Any]]) -> dict[str, Any]:
    """From a file to features; what each stage took, and the shape of what came out."""
    import tidemill
    from tidemill.data.dataset import open_dataset
    from tidemill.data.settled import settled_labels
    from tidemill.features.cache import feature_set
    from tidemill.records import Dataset
    from tidemill.stages.prepare import prepare

    made: list[Any] = []
    results: dict[str, Any] = {}
    results["look"] = measured(lambda: made.append(tidemill.init(folder, data=data, target="label")))
    project = made[0]
    store, task, config = project.store, project.task, project.config
    settled = settled_labels(store, task, until=time.time())
    results["prepare"] = measured(lambda: prepare(store, task, config, project.sources, settled))
    dataset = open_dataset(store.root, store.find(Dataset, newest_first=True, limit=1)[0])
    results["features"] = measured(lambda: made.append(feature_set(dataset, specs, store.root / "features")))
    features = made[1]
    results["shape"] = [len(features.rows), *(size for info in features.info.values() for size in info.shape)]
    return results


def shown(found: list[dict[str, Any]]) -> str:
    """One line a set and side: medians, and the ratio of rows a second of the same round."""
    rows = []
    for name in dict.fromkeys(one["set"] for one in found):
        runs = {side: [f for f in found if f["set"] == name and f["side"] == side] for side in SIDES}
        for side in SIDES:
            if not runs[side]:
                continue
            stages = [f"{median(runs[side], stage):.1f}" for stage in STAGES]
            totals = [total(one) for one in runs[side]]
            middle = statistics.median(totals)
            rate = runs[side][0]["rows"] / middle
            pairs = [total(b) / total(a) for a, b in zip(runs["tidemill"], runs["peer"], strict=False)]
            ratio = f"{statistics.median(pairs):.2f}" if side == "tidemill" and pairs else ""
            memory = max(one[stage]["anonymous_mb"] for one in runs[side] for stage in STAGES if stage in one)
            rows.append(
                [name, side, *stages, f"{statistics.median(totals):.1f}", f"{rate:,.0f}", ratio, f"{memory:.0f}"]
            )
    header = ["set", "side", *STAGES, "all, CPU s", "rows a second", "times the peer's", "memory, MB"]
    return table(header, rows)


def median(runs: list[dict[str, Any]], stage: str) -> float:
    return statistics.median(one[stage]["cpu_seconds"] if stage in one else 0.0 for one in runs)


def total(one: dict[str, Any]) -> float:
    return float(sum(one[stage]["cpu_seconds"] for stage in STAGES if stage in one))


if __name__ == "__main__":
    main()
