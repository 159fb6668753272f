"""Time and anonymous memory as the data grow: images, a table, texts, through the real stages, each in a fresh process.

    python benchmarks/growth.py                        # 0.4 and 4 GB of each; about an hour on 2 cores, 15 GB of disk
    python benchmarks/growth.py --kinds table          # the table alone: minutes
    python benchmarks/growth.py --kinds mixed texts --rows 100000 1000000    # what preparing.py prepares
    python benchmarks/growth.py --sizes 0.04 0.4       # smaller sets
    python benchmarks/growth.py --recipes ridge cnn    # some recipes
    python benchmarks/growth.py --json FILE            # the figures for other programs, too

Synthetic data are written a piece at a time and removed afterwards. Networks train for one epoch. Memory is `RssAnon`
of /proc/self/status (pages of mapped files, which the system may drop at any time, are not in it), sampled every 10 ms;
what is shown is its peak above what the process held after its imports. The promise is 300 MB for whatever streams.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from _common import in_process, machine, measured, table
from preparing_data import write_mixed, write_texts

GIGABYTE = 10**9
SIDE, COARSE, CLASSES = 32, 4, 10
IMAGE_BYTES = SIDE * SIDE * 3
NUMBERS, CATEGORIES = 100, 4
ROW_BYTES = NUMBERS * 8 + CATEGORIES * 16
CHUNK = 16_384
PROMISE = 300
ROW_SIZES = {"images": IMAGE_BYTES, "table": ROW_BYTES, "mixed": 186, "texts": 95}
DISK = {"texts": 35}
"""Disk that a kind takes, times its raw bytes: a text has some 200 n-grams."""
RECIPES = {
    "images": ("naive-bayes", "ridge", "cnn-small", "cnn"),
    "table": ("naive-bayes", "ridge", "lightgbm"),
    "mixed": ("naive-bayes", "ridge", "mlp", "lightgbm"),
    "texts": ("naive-bayes", "ridge", "linear", "ngram-net", "transformer"),
}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "stage":
        print(json.dumps(stage(Path(sys.argv[2]), sys.argv[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.4, 4.0], metavar="GB", help="of the raw arrays")
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", help="so many rows instead")
    parser.add_argument("--kinds", nargs="+", choices=list(RECIPES), default=["images", "table"])
    parser.add_argument("--recipes", nargs="+", help="all of the task unless named")
    parser.add_argument("--dir", type=Path, help="where the data may lie while it runs; the usual place for such files")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    sizes = {
        kind: [rows * ROW_SIZES[kind] / GIGABYTE for rows in arguments.rows] if arguments.rows else arguments.sizes
        for kind in arguments.kinds
    }
    needed = max(max(sizes[kind]) * DISK.get(kind, 3.5) for kind in arguments.kinds) * GIGABYTE
    free = shutil.disk_usage(arguments.dir or tempfile.gettempdir()).free
    if free < needed:
        sys.exit(
            f"{needed / GIGABYTE:.0f} GB of disk are needed, and {free / GIGABYTE:.0f} are free; see --dir and --sizes."
        )
    found: list[dict[str, Any]] = []
    for kind in arguments.kinds:
        recipes = [name for name in RECIPES[kind] if not arguments.recipes or name in arguments.recipes]
        for size in sorted(sizes[kind]):
            with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
                for name in begin(Path(folder), kind, size, recipes):
                    one = in_process(sys.executable, Path(__file__), "stage", folder, name)
                    found.append({"kind": kind, "gigabytes": size, "stage": name, **one})
                    print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(shown(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def begin(folder: Path, kind: str, size: float, recipes: list[str]) -> Iterator[str]:
    """Write the data, start a project on them, and name its stages."""
    import tidemill

    write: dict[str, Callable[[Path, int], Path]] = {
        "images": write_images,
        "table": write_table,
        "mixed": lambda inside, count: write_mixed(inside / "mixed.csv", count),
        "texts": lambda inside, count: write_texts(inside / "texts.csv", count),
    }
    data = write[kind](folder, round(size * GIGABYTE / ROW_SIZES[kind]))
    tidemill.init(folder / "project", data=data, target="label").store.close()
    yield "prepare"
    yield from recipes
    yield "evaluate"


def write_images(folder: Path, rows: int) -> Path:
    """Coarse random pictures under noise; the label is the brightness of one corner."""
    rng = np.random.default_rng(0)
    path = folder / "images.npz"
    labels = np.empty(rows, np.int64)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (rows, SIDE, SIDE, 3)}
            np.lib.format.write_array_header_2_0(file, header)
            for start in range(0, rows, CHUNK):
                count = min(CHUNK, rows - start)
                coarse = rng.integers(0, 240, (count, COARSE, COARSE, 3), np.uint8)
                labels[start : start + count] = coarse[:, 0, 0, 0] // (240 // CLASSES)
                fine = coarse.repeat(SIDE // COARSE, 1).repeat(SIDE // COARSE, 2)
                fine += rng.integers(0, 16, fine.shape, np.uint8)
                file.write(fine.tobytes())
        with archive.open("y.npy", "w") as file:
            np.lib.format.write_array(file, labels)
    return path


def write_table(folder: Path, rows: int) -> Path:
    """Random numbers and words; the label depends on some of both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    path = folder / "table.parquet"
    writer = None
    for start in range(0, rows, 4 * CHUNK):
        count = min(4 * CHUNK, rows - start)
        numbers = rng.normal(size=(NUMBERS, count))
        words = rng.integers(0, 30, (CATEGORIES, count))
        label = numbers[:3].sum(0) + words[0] / 10 > 1.5
        columns = {f"number{i}": pa.array(column) for i, column in enumerate(numbers)}
        columns |= {f"word{i}": pa.array(np.char.add("word ", column.astype(str))) for i, column in enumerate(words)}
        block = pa.table({**columns, "label": pa.array(np.where(label, "yes", "no"))})
        writer = writer or pq.ParquetWriter(path, block.schema)
        writer.write_table(block)
    assert writer is not None
    writer.close()
    return path


def stage(folder: Path, name: str) -> dict[str, Any]:
    """Run one stage in this process; rows, seconds, and growth of anonymous memory in MB."""
    import tidemill
    from tidemill.data.dataset import open_dataset
    from tidemill.learners._base import Context
    from tidemill.records import Model, Run, new_id
    from tidemill.runtime import load
    from tidemill.stages.evaluate import evaluate
    from tidemill.stages.feedback import feedback
    from tidemill.stages.prepare import prepare
    from tidemill.stages.train import Aim, Fit, fit, train
    from tidemill.tasks import answer_spec, metric_of, selection_of

    project = tidemill.open(folder / "project")
    store, task, config = project.store, project.task, project.config
    if name == "prepare":
        settled = feedback(store, task, until=time.time(), config=config)
        took = measured(lambda: prepare(store, task, config, project.sources, settled))
        return {"rows": sum(newest(store).counts.values()), **took}
    dataset = open_dataset(store.root, newest(store))
    if name == "evaluate":
        model = store.find(Model, newest_first=True, limit=1)[0]
        predictor = load(store.root / model.path, threads=project.threads)
        predictor.warm_up()
        told = {"model_id": model.id, "task": task, "metric": metric_of(task, config.decision)}
        took = measured(lambda: evaluate(store, dataset, predictor, "reference", **told))
        return {"rows": len(dataset.rows("reference")), **took}
    recipe = next(r for r in project.recipes(dataset.signature) if r.name == name)
    if recipe.learner == "gradient":
        import tidemill.learners.gradient
    elif recipe.learner == "trees":
        import lightgbm  # noqa: F401
    context = Context(max_epochs=1 if recipe.learner == "gradient" else None, threads=project.threads)
    rule = config.decision
    answer = answer_spec(task, dataset.signature, config)
    aim = Aim(task=task.name, answer=answer, metric=metric_of(task, rule), selection=selection_of(task, rule))
    seconds = 0.0

    def make() -> Fit:
        nonlocal seconds
        made = fit(store, aim, dataset, recipe, {}, context)
        seconds = made.fitted.summary.get("seconds", 0.0)
        return made

    took = measured(lambda: train(store, aim, dataset, recipe, make, run_id=new_id(Run.prefix), cycle_id=None, seed=0))
    return {"rows": len(dataset.rows("train")), **took, "training_seconds": round(seconds, 2)}


def newest(store: Any) -> Any:
    """The record of the dataset version that was made last."""
    from tidemill.records import Dataset

    return store.find(Dataset, newest_first=True, limit=1)[0]


def shown(found: list[dict[str, Any]]) -> str:
    """One line a stage and size; times beside the next smaller size's."""
    rows = []
    for one in sorted(
        found, key=lambda f: (f["kind"], list(stages(found, f["kind"])).index(f["stage"]), f["gigabytes"])
    ):
        smaller = [
            f for f in found if f["kind"] == one["kind"] and f["stage"] == one["stage"] and f["rows"] < one["rows"]
        ]
        times = "-"
        if smaller:
            base = max(smaller, key=lambda f: f["rows"])
            grown = one["rows"] / base["rows"]
            wall, cpu = (one[name] / base[name] for name in ("seconds", "cpu_seconds"))
            times = f"{wall:.1f} (CPU {cpu:.1f}) for {grown:.1f}"
        size = f"{one['gigabytes']:.3g} GB"
        memory = f"{one['anonymous_mb']:.0f} MB" + ("" if one["anonymous_mb"] < PROMISE else " (!)")
        seconds = f"{one['seconds']:.1f}"
        rows.append([one["kind"], one["stage"], size, f"{one['rows']:,}", seconds, times, memory])
    return table(["data", "stage", "size", "rows", "seconds", "times the smaller set's", "anonymous memory"], rows)


def stages(found: list[dict[str, Any]], kind: str) -> dict[str, None]:
    """The stages in the order in which they ran."""
    return dict.fromkeys(f["stage"] for f in found if f["kind"] == kind)


if __name__ == "__main__":
    main()
