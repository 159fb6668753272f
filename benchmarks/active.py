"""How many labels it takes when the queue chooses what is asked, beside asking in random order.

    python benchmarks/active.py            # digits, AG News and ChnSentiCorp, 10 seeds each: about half an hour
    python benchmarks/active.py --quick    # 2 seeds of each, shorter curves: about two minutes
    python benchmarks/active.py --pictures docs/pictures

Everybody starts with the same few random labels. In each round the task's quick recipe is fitted on what is labelled,
judged on rows that nobody may ask about, and more is asked: at random; by plain margin, the closest two labels first;
or as the queue does it, by `tidemill.annotation.choosing`. A round asks for 10 labels while there are fewer than 100,
then for a tenth more. Features are fitted once, on all rows of the pool, since those need no labels.

Reported are the mean area under the curve (of accuracy over labels, to where the pictures end), and the labels at which
the curve, the mean of all seeds, stays at 98 % of the accuracy that the whole pool gives.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _common import data_folder, machine, table
from tidemill.annotation.choosing import Pool, disagreement_of, ordered
from tidemill.annotation.vectors import vectors_of
from tidemill.data.arrays import Ragged
from tidemill.data.schema import Field, Signature
from tidemill.features._base import Feature, FeatureInfo
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._folds import taken
from tidemill.monitor.label_errors import quick_recipe
from tidemill.records import Recipe
from tidemill.runtime.answers import probabilities as by_spec
from tidemill.tasks import get_task

Rows = npt.NDArray[np.int64]
Curve = list[tuple[int, float]]
Choose = Callable[["Round", int], Rows]
START = 20


@dataclass(frozen=True)
class Set:
    """A data set with its features: labels as codes ``[n]``, and how many labels the curves go to."""

    name: str
    features: Mapping[str, Feature]
    info: Mapping[str, FeatureInfo]
    vectors: npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    signature: Signature
    recipes: list[Recipe]
    most: int
    split: Callable[[np.random.Generator], tuple[Rows, Rows]]


@dataclass(frozen=True)
class Round:
    """What a strategy knows: the set, labelled rows, rows that it may ask about, and models fitted on the former."""

    data: Set
    known: Rows
    open: Rows
    fitted: list[Any]
    rng: np.random.Generator

    def probabilities(self, model: int = 0) -> npt.NDArray[np.float32]:
        """Of the open rows, ``[n, k]``."""
        scores = self.fitted[model].scores(taken(self.data.features, self.open))
        return by_spec({"kind": "classification", "labels": list(self.data.signature.labels)}, scores)


def at_random(now: Round, many: int) -> Rows:
    """In random order."""
    return now.rng.choice(now.open, many, replace=False)


def by_margin(now: Round, many: int) -> Rows:
    """The rows whose two best labels are closest."""
    best = np.sort(now.probabilities(), axis=1)
    return now.open[np.argsort(best[:, -1] - best[:, -2], kind="stable")[:many]]


def by_queue(now: Round, many: int) -> Rows:
    """As `tidemill label` asks."""
    p = now.probabilities()
    best = np.sort(p, axis=1)
    several = [p, *(now.probabilities(model) for model in range(1, len(now.fitted)))]
    pool = Pool(
        doubt=1 - (best[:, -1] - best[:, -2]).astype(np.float64),
        vectors=now.data.vectors[now.open],
        known=now.data.vectors[now.known],
        labels=len(now.known),
        disagreement=disagreement_of(several) if len(several) > 1 else None,
        guess=p.argmax(axis=1),
        counts=np.bincount(now.data.target[now.known], minlength=p.shape[1]),
    )
    return now.open[[pick.row for pick in ordered(pool, many, now.rng)]]


STRATEGIES: dict[str, Choose] = {"random order": at_random, "plain margin": by_margin, "the queue": by_queue}


def fit(data: Set, recipe: Recipe, rows: Rows, seed: int) -> Any:
    """A recipe on some rows."""
    problem = Problem(
        kind="classification",
        features=taken(data.features, rows),
        info=data.info,
        target=data.target[rows],
        train=len(rows),
        classes=len(data.signature.labels),
    )
    return get_learner(recipe.learner).fit(problem, RecipeView(params=dict(recipe.params)), Context(seed=seed))


def accuracy(data: Set, fitted: Any, rows: Rows) -> float:
    return float((fitted.scores(taken(data.features, rows)).argmax(axis=1) == data.target[rows]).mean())


def curve(data: Set, choose: Choose, seed: int, most: int, *, committee: bool = False) -> Curve:
    """Accuracy on the test rows by the number of labels."""
    rng = np.random.default_rng(seed)
    pool, test = data.split(rng)
    known = rng.choice(pool, START, replace=False)
    found: Curve = []
    while True:
        several = committee and choose is by_queue
        fitted = [fit(data, recipe, known, seed) for recipe in (data.recipes if several else data.recipes[:1])]
        found.append((len(known), accuracy(data, fitted[0], test)))
        if len(known) >= most:
            return found
        many = min(10 if len(known) < 100 else len(known) // 10, most - len(known))
        now = Round(data, known, np.setdiff1d(pool, known), fitted, rng)
        known = np.concatenate([known, choose(now, many)])


def digits() -> Set:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.clip(found.images * 16, 0, 255).astype(np.uint8)[..., None]
    field = Field(name="image", type="image", shape=(8, 8, 1))
    signature = Signature(
        inputs=(field,), target="label", kind="classification", labels=tuple(str(d) for d in range(10))
    )
    return _set("digits", "image-classification", signature, {"image": images}, found.target, 600, _fifths(len(images)))


def ag_news() -> Set:
    texts, codes = [], []
    for name in ("train", "test"):
        path = next(p for p in sorted(data_folder("ag-news").rglob("*.csv")) if name in p.name)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        texts += [f"{title} {text}" for _, title, text in rows]
        codes += [int(label) - 1 for label, *_ in rows]
        if name == "train":
            trained = len(texts)
    signature = _texts(("World", "Sports", "Business", "Sci/Tech"))

    def split(_rng: np.random.Generator) -> tuple[Rows, Rows]:
        return np.arange(trained), np.arange(trained, len(texts))

    columns = {"text": Ragged.from_strings(texts)}
    return _set("AG News", "text-classification", signature, columns, np.array(codes), 2400, split)


def chnsenticorp() -> Set:
    path = next(data_folder("chnsenticorp-htl").glob("*.csv"))
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["review"].strip()]
    columns = {"text": Ragged.from_strings([row["review"] for row in rows])}
    target = np.array([int(row["label"]) for row in rows])
    signature = _texts(("negative", "positive"))
    return _set("ChnSentiCorp", "text-classification", signature, columns, target, 2400, _fifths(len(rows)))


def _texts(labels: tuple[str, ...]) -> Signature:
    return Signature(inputs=(Field(name="text", type="text"),), target="label", kind="classification", labels=labels)


def _fifths(n: int) -> Callable[[np.random.Generator], tuple[Rows, Rows]]:
    def split(rng: np.random.Generator) -> tuple[Rows, Rows]:
        order = rng.permutation(n)
        return np.sort(order[n // 5 :]), np.sort(order[: n // 5])

    return split


def _set(
    name: str,
    task: str,
    signature: Signature,
    columns: dict[str, Any],
    target: npt.NDArray[Any],
    most: int,
    split: Callable[[np.random.Generator], tuple[Rows, Rows]],
) -> Set:
    chosen = quick_recipe(get_task(task), signature)
    others = [
        recipe
        for recipe in get_task(task).recipes(signature)
        if recipe.features == chosen.features and recipe.name != chosen.name and get_learner(recipe.learner).quick
    ]
    pipeline = Pipeline(list(chosen.features), signature)
    pipeline.fit([columns])
    features = pipeline.transform(columns)
    return Set(
        name,
        features,
        pipeline.info(),
        vectors_of(features),
        target.astype(np.int64),
        signature,
        [chosen, *others],
        most,
        split,
    )


def reached(mean: Curve, floor: float) -> int | None:
    """The labels from which on the curve stays at *floor* or above, between two rounds by a straight line."""
    below = [i for i, (_, value) in enumerate(mean) if value < floor]
    if not below:
        return mean[0][0]
    i = below[-1]
    if i + 1 == len(mean):
        return None
    (n, low), (m, high) = mean[i], mean[i + 1]
    return round(n + (m - n) * (floor - low) / (high - low))


def area(one: Curve) -> float:
    """The mean accuracy over the labels from the first round to the last."""
    x, y = np.array(one, np.float64).T
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def picture(data: Set, means: Mapping[str, Curve], floor: float) -> str:
    """The curves as SVG."""
    width, height, left, bottom = 640, 360, 56, 40
    top = max(value for one in means.values() for _, value in one) + 0.01
    low = min(value for one in means.values() for n, value in one if n >= 2 * START)
    most = max(n for one in means.values() for n, _ in one)

    def place(n: float, value: float) -> str:
        x = left + (width - left - 16) * n / most
        y = height - bottom - (height - bottom - 16) * (value - low) / (top - low)
        return f"{x:.1f},{min(max(y, 16.0), height - bottom):.1f}"

    colours = {"random order": "#8a8f98", "plain margin": "#c08a3e", "the queue": "#1f6f8b"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" '
        f'font-size="13"><title>{data.name}: accuracy by labels</title>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<polyline points="{place(0, low)} {place(most, low)}" stroke="#444" fill="none"/>',
        f'<polyline points="{place(0, floor)} {place(most, floor)}" stroke="#bbb" stroke-dasharray="4" fill="none"/>',
        f'<text x="{left + 6}" y="{float(place(0, floor).split(",")[1]) - 5:.0f}" fill="#666">98 % of all data</text>',
    ]
    for tick in range(0, most + 1, 100 if most <= 800 else 400):
        x, y = place(tick, low).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 18:.0f}" text-anchor="middle" fill="#444">{tick}</text>')
    for value in np.linspace(low, top, 5):
        y = float(place(0, value).split(",")[1])
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end" fill="#444">{value:.0%}</text>')
    for i, (name, one) in enumerate(means.items()):
        points = " ".join(place(n, value) for n, value in one)
        parts.append(f'<polyline points="{points}" stroke="{colours[name]}" stroke-width="2" fill="none"/>')
        y = height - bottom - 16 - 18 * i
        parts.append(f'<text x="{width - 120}" y="{y}" fill="{colours[name]}">{name}</text>')
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{height - 6}" text-anchor="middle" fill="#444">labels</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two seeds, shorter curves")
    parser.add_argument("--only", action="append", help="a set, by a part of its name")
    parser.add_argument("--committee", action="store_true", help="the queue looks at other quick recipes, too")
    parser.add_argument("--pictures", type=Path, help="a folder for the curves as SVG")
    arguments = parser.parse_args()
    seeds = 2 if arguments.quick else arguments.seeds
    print(machine(), flush=True)
    makers = {"digits": digits, "AG News": ag_news, "ChnSentiCorp": chnsenticorp}
    wanted = arguments.only or [""]
    rows = []
    for name, make in makers.items():
        if not any(part in name for part in wanted):
            continue
        data = make()
        most = data.most // 4 if arguments.quick else data.most
        full = np.mean([accuracy(data, fit(data, data.recipes[0], pool, s), test) for s, pool, test in _splits(data)])
        floor = 0.98 * float(full)
        means: dict[str, Curve] = {}
        begun = time.perf_counter()
        for strategy, choose in STRATEGIES.items():
            runs = [curve(data, choose, seed, most, committee=arguments.committee) for seed in range(seeds)]
            labels = [n for n, _ in runs[0]]
            means[strategy] = list(zip(labels, np.mean([[v for _, v in one] for one in runs], axis=0), strict=True))
            spread = np.std([area(one) for one in runs], ddof=1)
            needed, usual = reached(means[strategy], floor), reached(means["random order"], floor)
            share = f"{needed / usual:.2f}" if needed and usual else "–"
            rows.append([name, strategy, f"{area(means[strategy]):.4f} ± {spread:.4f}", str(needed or "–"), share])
            print("  ".join(rows[-1]), flush=True)
        print(f"{name}: {full:.4f} with all labels; {time.perf_counter() - begun:.0f} s", flush=True)
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            path = arguments.pictures / f"active-{name.lower().replace(' ', '-')}.svg"
            path.write_text(picture(data, means, floor), encoding="utf-8")
    print(table(["data", "asked", "area (mean of the seeds)", "labels to 98 % of all data", "of random's"], rows))


def _splits(data: Set) -> list[tuple[int, Rows, Rows]]:
    return [(seed, *data.split(np.random.default_rng(seed))) for seed in range(3)]


if __name__ == "__main__":
    main()
