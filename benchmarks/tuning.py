"""Tuning: a cycle's search beside plain Optuna over the same space, and several processes beside one.

    python benchmarks/tuning.py                            # about 45 minutes on 2 cores
    python benchmarks/tuning.py --sets digits --seeds 2    # a part of it
    python benchmarks/tuning.py --quick                    # a look: one set, one seed, ten seconds
    python benchmarks/tuning.py --pictures docs/pictures   # the anytime curves as SVG

Digits, AG News and Adult's census. Tidemill runs one cycle with the budget, as it comes: baselines, a plan, a race of
short and long trials in as many processes as there are threads. The peer is Optuna's TPE sampler with its defaults,
in this process with all threads: which recipe, baselines among them, and that recipe's parameters, one whole fit a
trial, none stopped, until the budget is spent. Both begin with the same prepared data, make their features on the
clock, and are judged by the same fits: what a search has found at a moment is its best trial on validation rows so
far, and that model's score on the test rows is measured afterwards. Figures are paired by seeds: the mean difference on
the test rows with the 95 % interval of Student's t, and the share of the budget after which Tidemill's best validation
score was at least the one that the peer ended with.

The second table times the same number of trials with 1, 2 and 4 processes.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, in_process, machine, table
from tables import ADULT

SETS = ("digits", "ag-news", "adult")
TARGETS = {"digits": "label", "ag-news": "label", "adult": "income"}
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""The 97.5 % quantile of Student's t for so many pairs."""
COLOURS = {"tidemill": "#0b7285", "optuna": "#c2410c"}

Curve = list[tuple[float, float, float, str]]
"""Seconds, validation score, test score and recipe of each new best."""


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("ours", "optuna", "workers"):
        work = {"ours": ours, "optuna": optuna_alone, "workers": timed_race}[sys.argv[1]]
        print(json.dumps(work(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seeds", type=int, default=5, help="0: the processes' table alone")
    parser.add_argument(
        "--trials", type=int, default=12, help="of each recipe, for the processes' table; 0 leaves it out"
    )
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sets, arguments.budget, arguments.seeds, arguments.trials = ["digits"], 10.0, 1, 3
    print(machine(), flush=True)
    found: dict[str, Any] = {}
    for name in arguments.sets if arguments.seeds else ():
        found[name] = [compete(name, arguments.budget, seed) for seed in range(arguments.seeds)]
        print(f"{name}: {json.dumps([{k: v[-1][:3] for k, v in run.items()} for run in found[name]])}", file=sys.stderr)
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            (arguments.pictures / f"tuning-{name}.svg").write_text(picture(name, found[name], arguments.budget))
    if found:
        print(f"\n{shown(found, arguments.budget)}\n", flush=True)
    if arguments.trials:
        found["workers"] = workers(arguments.sets[-1], arguments.trials)
        print(shown_workers(found["workers"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def compete(name: str, budget: float, seed: int) -> dict[str, Curve]:
    """Both curves, from the same data in folders of their own."""
    curves: dict[str, Curve] = {}
    for who, how in (("tidemill", "ours"), ("optuna", "optuna")):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), name)
            said = in_process(sys.executable, Path(__file__), how, folder, name, str(budget), str(seed))
        curves[who] = [tuple(point) for point in said["curve"]]
    return curves


def shown_workers(runs: dict[int, dict[str, float]]) -> str:
    alone = runs[1]["seconds"]
    rows = [[str(n), f"{r['seconds']:.1f}", str(r["trials"]), f"{r['seconds'] / alone:.2f}"] for n, r in runs.items()]
    return table(["processes", "seconds", "trials", "of one process's time"], rows)


def shown(found: dict[str, Any], budget: float) -> str:
    rows = []
    for name, runs in found.items():
        gained = [run["tidemill"][-1][2] - run["optuna"][-1][2] for run in runs]
        spread = STUDENT.get(len(runs), float("nan")) * (
            statistics.stdev(gained) / len(runs) ** 0.5 if len(runs) > 1 else 0
        )
        when = [reached(run["tidemill"], run["optuna"][-1][1]) for run in runs]
        mean = statistics.mean(gained)
        rows.append(
            [
                name,
                *(f"{statistics.mean(run[who][-1][2] for run in runs):.4f}" for who in ("tidemill", "optuna")),
                f"{mean:+.4f}" + (f" ({mean - spread:+.4f} to {mean + spread:+.4f})" if len(runs) > 1 else ""),
                ", ".join("never" if t is None else f"{t / budget:.0%}" for t in when),
                ", ".join(dict.fromkeys(run["tidemill"][-1][3] for run in runs)),
                ", ".join(dict.fromkeys(run["optuna"][-1][3] for run in runs)),
            ]
        )
    head = ["test score", "Tidemill", "Optuna", "difference", "as good on validation after", "its model", "Optuna's"]
    return table(head, rows)


def reached(curve: Curve, score: float) -> float | None:
    """Seconds after which a curve's validation score was at least *score*."""
    return next((seconds for seconds, validation, *_ in curve if validation >= score), None)


def write(folder: Path, name: str) -> None:
    """The set as a file, with its own test rows where it has some."""
    if name == "adult":
        for split in ("train", "test"):
            with (data_folder("adult-census") / f"adult-{split}.csv").open(newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(ADULT)]
            write_csv(folder / f"{split}.csv", ADULT, rows)
    elif name == "ag-news":
        for split in ("train", "test"):
            with (data_folder("ag-news") / f"{split}.csv").open(newline="", encoding="utf-8") as file:
                write_csv(folder / f"{split}.csv", ["label", "title", "description"], list(csv.reader(file)))
    else:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
        order = np.random.default_rng(0).permutation(len(labels))
        train, test = order[:1200], order[1200:]
        arrays = {"x_train": images[train], "y_train": labels[train], "x_test": images[test], "y_test": labels[test]}
        np.savez(folder / "digits.npz", **arrays)


def write_csv(path: Path, header: Sequence[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def started(folder: Path, name: str, **settings: Any) -> Any:
    """A project of the set."""
    import tidemill

    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".npz")]
    return tidemill.init(folder / "project", data=files, target=TARGETS[name], **settings)


def ours(folder: Path, name: str, budget: float, seed: int) -> dict[str, Any]:
    """One cycle; what its runs say, from the moment when its data were prepared."""
    from tidemill.records import Dataset, Recipe, Run, Step, from_json

    project = started(folder, name)
    done = project.cycle(budget=f"{budget:g}s", seed=seed)
    store = project.store
    (begun,) = store.find(Step, cycle_id=done["cycle"], name="recipes")
    (planned,) = store.find(Step, cycle_id=done["cycle"], name="plan")
    runs = [run for run in store.find(Run, kind=["train", "trial"], status="done") if "part" not in run.metrics]
    trials = store.find(Run, kind="trial", cycle_id=done["cycle"])
    searched = {run.recipe["name"] for run in trials}
    selection = selection_of(project)
    points = []
    for run in runs:
        recipe = from_json(Recipe, run.recipe)
        if run.kind == "trial" or recipe.name not in searched:
            epochs = (planned.output or {})[recipe.name]["max_epochs"]
            score = float(run.metrics["validation"][selection])
            points.append((run.created - begun.created, score, recipe, run.params, epochs))
    dataset = store.get(Dataset, done["dataset"]["id"])
    return {"curve": scored(project, dataset, points, seed, budget), "trials": len(trials)}


def optuna_alone(folder: Path, name: str, budget: float, seed: int) -> dict[str, Any]:
    """Optuna's TPE as it comes, over which recipe and that recipe's parameters."""
    import optuna
    from optuna.trial import TrialState

    from tidemill.api.running import setting_of
    from tidemill.data.dataset import open_dataset
    from tidemill.data.settled import Settled
    from tidemill.errors import TrainingError
    from tidemill.learners._base import Context
    from tidemill.records import Dataset
    from tidemill.stages.prepare import prepare
    from tidemill.stages.train import fit

    project = started(folder, name)
    setting = setting_of(project)
    record = project.store.get(
        Dataset, prepare(project.store, project.task, project.config, project.sources, Settled())
    )
    dataset = open_dataset(project.store.root, record)
    recipes = {recipe.name: recipe for recipe in offered(project, dataset)}
    aim = setting.aim(dataset.signature)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    points = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < budget:
        trial = study.ask()
        recipe = recipes[trial.suggest_categorical("recipe", list(recipes))]
        params = {key: suggested(trial, f"{recipe.name} {key}", spec) for key, spec in recipe.space.items()}
        try:
            made = fit(project.store, aim, dataset, recipe, params, Context(seed=seed, threads=project.threads))
        except TrainingError:
            study.tell(trial, state=TrialState.FAIL)
            continue
        study.tell(trial, made.score)
        points.append((time.perf_counter() - begun, made.score, recipe, params, None))
    return {"curve": scored(project, record, points, seed, budget), "trials": len(study.trials)}


def suggested(trial: Any, name: str, spec: dict[str, Any]) -> Any:
    """One parameter, as a script would ask for it."""
    if spec["type"] == "categorical":
        return trial.suggest_categorical(name, spec["choices"])
    suggest = trial.suggest_int if spec["type"] == "int" else trial.suggest_float
    return suggest(name, spec["low"], spec["high"], log=spec.get("log", False))


def offered(project: Any, dataset: Any) -> Any:
    """The recipes that a cycle would try."""
    from tidemill.api.running import setting_of
    from tidemill.loop.revolution import Revolution
    from tidemill.records import Cycle, new_id

    cycle = Cycle(id=new_id(Cycle.prefix), status="done", trigger="asked", seed=0, plan={})
    project.store.insert(cycle)
    return Revolution(setting_of(project), cycle, lambda _event: None)._recipes(dataset)  # noqa: SLF001


def selection_of(project: Any) -> str:
    from tidemill.tasks import selection_of as of

    return of(project.task, project.config.decision)


def scored(project: Any, record: Any, points: list[Any], seed: int, budget: float) -> Curve:
    """The new bests in the budget of ``(seconds, score, recipe, params, most epochs)``, with their test scores."""
    from tidemill.api.running import setting_of
    from tidemill.data.dataset import open_dataset
    from tidemill.learners._base import Context
    from tidemill.metrics import row_scores
    from tidemill.runtime.answers import Answers
    from tidemill.stages.train import fit

    dataset = open_dataset(project.store.root, record)
    aim = setting_of(project).aim(dataset.signature)
    rows = dataset.rows("reference")
    columns, truth = dataset.columns(rows), dataset.target[rows]
    best, found = -float("inf"), []
    for seconds, score, recipe, params, epochs in sorted(points, key=lambda point: point[0]):
        if score <= best or (seconds > budget and found):
            continue
        best = score
        context = Context(seed=seed, threads=project.threads, max_epochs=epochs)
        made = fit(project.store, aim, dataset, recipe, params, context)
        rule = Answers(made.answer)
        p = rule.probabilities(made.fitted.scores(made.features.pipeline.transform(columns)))
        test = float(row_scores(selection_of(project), truth, p, rule.decide(p)).mean())
        found.append((seconds, score, test, recipe.name))
    return found


def workers(name: str, trials: int) -> dict[int, dict[str, float]]:
    """Seconds of the same race with so many processes."""
    found = {}
    for count in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), name)
            found[count] = in_process(sys.executable, Path(__file__), "workers", folder, name, str(trials), str(count))
    return found


def timed_race(folder: Path, name: str, trials: float, count: int) -> dict[str, Any]:
    """A cycle of so many trials a recipe, none stopped early; what its race took."""
    from tidemill.records import Run, Step

    project = started(folder, name, tuning={"workers": count, "stopping": "none"})
    done = project.cycle(max_trials=int(trials), seed=0)
    (race,) = project.store.find(Step, cycle_id=done["cycle"], name="race")
    assert race.finished is not None
    made = project.store.find(Run, kind="trial", cycle_id=done["cycle"])
    return {"seconds": race.finished - race.created, "trials": len(made)}


def picture(name: str, runs: list[dict[str, Curve]], budget: float) -> str:
    """The best validation score by seconds as SVG: each seed thin, their mean thick."""
    width, height, left, bottom = 640, 300, 64, 40
    values = [score for run in runs for curve in run.values() for _, score, *_ in curve]
    low, high = np.quantile(values, 0.15), max(values)
    grid = np.linspace(0, budget, 241)

    def xy(seconds: float, score: float) -> str:
        x = left + (width - left - 10) * seconds / budget
        y = 16 + (height - bottom - 16) * (1 - (max(score, low) - low) / max(high - low, 1e-12))
        return f"{x:.1f},{y:.1f}"

    def at(curve: Curve) -> Any:
        return np.array([max((s for t, s, *_ in curve if t <= moment), default=np.nan) for moment in grid])

    lines = []
    for who, colour in COLOURS.items():
        each = [at(run[who]) for run in runs]
        for number, scores in enumerate([*each, np.mean(each, axis=0)]):
            drawn = " ".join(xy(t, s) for t, s in zip(grid, scores, strict=True) if np.isfinite(s))
            style = 'stroke-width="2.5"' if number == len(each) else 'stroke-width="0.8" opacity="0.35"'
            lines.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" {style}/>')
    texts = [(left, height - 22, "0 s"), (width - 40, height - 22, f"{budget:g} s"), (4, 22, f"{high:.4f}")]
    texts += [(4, height - bottom + 4, f"{low:.4f}"), (left, height - 6, f"{name}: best validation score so far")]
    said = "".join(f'<text x="{x}" y="{y}" fill="currentColor">{text}</text>' for x, y, text in texts)
    key = "".join(
        f'<text x="{width - 200 + 100 * n}" y="{height - 6}" fill="{colour}">{who}</text>'
        for n, (who, colour) in enumerate(COLOURS.items())
    )
    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>'
    return f"{head}{''.join(lines)}{said}{key}</svg>\n"


if __name__ == "__main__":
    main()
