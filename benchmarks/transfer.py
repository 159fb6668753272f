"""Transfer: AG News with 100 labels a class. A frozen encoder, LoRA and full fine-tuning beside the best baseline.

    python benchmarks/transfer.py                      # about 15 minutes on 2 cores
    python benchmarks/transfer.py --quick              # two draws, frozen only: a minute
    python benchmarks/transfer.py --fine 2 --judged 800 --words 64    # LoRA and full fine-tuning in less time

Five draws of 100 training texts a class (seeds 0-4) out of 6,000; 1,600 test texts judge and choose nothing. Every
recipe is the one that a project is offered, learned as a cycle learns it: nine tenths of the labels to train on, one
tenth to choose penalties, then once more on all of them with what was chosen. The best baseline is the one of naive
Bayes, ridge and the linear model of n-grams with the best mean on the test rows, which favours it; scikit-learn's
logistic regression on TF-IDF stands beside. The time is that of features and fits, the loading of the encoder included.
Differences are paired (2,000 bootstrap samples of draws and rows) with their 95 % interval. `--fine`, `--judged` and
`--words` have LoRA and full fine-tuning learn from fewer draws, judged by fewer test texts, of fewer tokens each.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _common import data_folder, machine, table

LABELS = 100
BASELINES = ("naive-bayes", "ridge", "linear", "logistic regression, TF-IDF")
FINE = ("minilm-lora", "minilm-full")

Codes = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two draws, and no fine-tuning")
    parser.add_argument("--fine", type=int, metavar="DRAWS", help="how many draws are fine-tuned on; unless given: all")
    parser.add_argument("--judged", type=int, metavar="TEXTS", help="how many test texts judge what is fine-tuned")
    parser.add_argument(
        "--words", type=int, metavar="TOKENS", help="of a text that fine-tuning reads: 128 unless given"
    )
    parser.add_argument("--only", nargs="+", metavar="RECIPE", help="nothing but these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    draws = 2 if arguments.quick else arguments.draws
    found: dict[str, list[dict[str, Any]]] = {}
    (texts, labels), (test_texts, truth) = rows_of("train"), rows_of("test")
    for seed in range(draws):
        chosen = drawn(labels, seed)
        fine = 0 if arguments.quick else draws if arguments.fine is None else arguments.fine
        named = [*BASELINES, "minilm-frozen", *(FINE if seed < fine else ())]
        for name in named if arguments.only is None else [n for n in named if n in arguments.only]:
            judged, words = (arguments.judged, arguments.words) if name in FINE else (None, None)
            given = [texts[i] for i in chosen], labels[chosen], test_texts[:judged]
            learned = learn(name, *given, arguments.threads, seed, words)
            right = learned.pop("given") == truth[:judged]
            found.setdefault(name, []).append({**learned, "right": right})
            print(f"{seed} {name}: {100 * right.mean():.2f} %, {learned['seconds']:.1f} s", file=sys.stderr, flush=True)
    print("\n" + shown(found))
    if arguments.json:
        plain = {n: [{**run, "right": float(run["right"].mean())} for run in runs] for n, runs in found.items()}
        arguments.json.write_text(json.dumps(plain, indent=1))


def rows_of(split: str) -> tuple[list[str], Codes]:
    """Title and description of every text, with a line break between, and its class."""
    with (data_folder("ag-news") / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return [f"{row[1]}\n{row[2]}" for row in rows], np.array([int(row[0]) - 1 for row in rows])


def drawn(labels: Codes, seed: int) -> Codes:
    """:data:`LABELS` rows of each class, in random order."""
    random = np.random.default_rng(seed)
    each = [random.permutation(np.flatnonzero(labels == label))[:LABELS] for label in range(4)]
    return random.permutation(np.concatenate(each))


def learn(
    name: str, texts: list[str], labels: Codes, test: list[str], threads: int, seed: int, words: int | None
) -> dict[str, Any]:
    """What one recipe answers on the test texts, and what learning took."""
    if name.startswith("logistic"):
        return peer(texts, labels, test)
    from tidemill.data.arrays import Ragged
    from tidemill.features.pipeline import Pipeline
    from tidemill.learners import get_learner
    from tidemill.learners._base import Context, Problem, RecipeView

    recipe = recipe_of(name)
    context = Context(threads=threads, seed=seed)
    begun = time.perf_counter()
    columns = {"text": Ragged.from_strings(texts)}
    size = {} if words is None else {"max_length": words}
    pipeline = Pipeline([{**step, **size, "columns": ["text"]} for step in recipe.features], None)
    pipeline.fit([columns])
    features = pipeline.transform(columns)
    learner, params, train = get_learner(recipe.learner), dict(recipe.params), len(texts) * 9 // 10
    fitted = None
    for rows in (len(texts),) if name in FINE else (train, len(texts)):
        problem = Problem(
            kind="classification", features=features, info=pipeline.info(), target=labels, train=rows, classes=4
        )
        fitted = learner.fit(problem, RecipeView(network=recipe.network, params=params), context)
        params |= fitted.summary.get("chosen", {})
    assert fitted is not None
    seconds = time.perf_counter() - begun
    scores = fitted.scores(read(name, pipeline, test))
    share = fitted.summary.get("trained", 0) / fitted.summary["parameters"]
    return {"given": scores.argmax(axis=1), "seconds": seconds, "trained": share}


def read(name: str, pipeline: Any, test: list[str]) -> Any:
    """The test texts' features; what knows nothing of the training texts is made once for all draws."""
    from tidemill.data.arrays import Ragged

    if name not in _READ:
        made = pipeline.transform({"text": Ragged.from_strings(test)})
        if pipeline.learns:
            return made
        _READ[name] = made
    return _READ[name]


_READ: dict[str, Any] = {}


def recipe_of(name: str) -> Any:
    """The recipe of that name as a project of texts is offered it."""
    from tidemill.checkpoints import EMBEDDED
    from tidemill.data.schema import Field, Signature
    from tidemill.tasks import get_task
    from tidemill.tasks._transfer import transfer_recipes

    inputs = (Field(name="text", type="text"),)
    signature = Signature(inputs=inputs, target="label", kind="classification", labels=("1", "2", "3", "4"))
    task = get_task("text-classification")
    started = transfer_recipes(task.name, "minilm", EMBEDDED, "text", ("frozen", "lora", "full"))
    return next(recipe for recipe in [*task.recipes(signature), *started] if recipe.name == name)


def peer(texts: list[str], labels: Codes, test: list[str]) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    begun = time.perf_counter()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(texts, labels)
    return {"seconds": time.perf_counter() - begun, "given": model.predict(test), "trained": 1.0}


def shown(found: dict[str, list[dict[str, Any]]]) -> str:
    means = {name: 100 * float(np.mean([run["right"].mean() for run in runs])) for name, runs in found.items()}
    best = max((name for name in BASELINES if name in means), key=lambda name: means[name], default=None)
    rows = []
    for name, runs in found.items():
        each = [100 * run["right"].mean() for run in runs]
        against = ""
        if best is not None and name != best:
            better, (low, high) = difference(runs, found[best])
            against = f"{better:+.2f} ({low:+.2f} to {high:+.2f})"
        share = f"{100 * runs[0]['trained']:.2f} %" if name in FINE else ""
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
        slowest = max(run["seconds"] for run in runs)
        rows.append([name, f"{means[name]:.2f} ± {spread:.2f}", against, f"{slowest:.1f} s", share])
    text = table(["", "accuracy, %", f"better than {best} by", "slowest draw", "trains"], rows)
    if FINE[0] in found:
        loss, (low, high) = difference(found[FINE[1]], found[FINE[0]])
        text += f"\n\nLoRA loses {loss:+.2f} points to full fine-tuning ({low:+.2f} to {high:+.2f})."
    return text


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[float, tuple[float, float]]:
    """The mean difference in points, and its interval: draws and rows are sampled anew."""
    both = [(a["right"].astype(float), b["right"][: len(a["right"])]) for a, b in zip(ours, theirs, strict=False)]
    pairs = np.stack([100.0 * (a - b) for a, b in both])
    random = np.random.default_rng(0)
    n, rows = pairs.shape
    means = [pairs[random.integers(0, n, n)][:, random.integers(0, rows, rows)].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(pairs.mean()), (float(low), float(high))


if __name__ == "__main__":
    main()
