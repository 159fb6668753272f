"""Classes never trained on, from five samples each: episodes of five classes on digits and on faces.

    python benchmarks/few.py           # four draws of classes, about ten minutes on two cores
    python benchmarks/few.py --quick   # one draw, two minutes

A pool's classes are drawn apart: on some everything is learned, of the others the episodes are made. An episode takes
five of the latter with five known images each, and asks about up to fifteen more of each. The peer compares raw pixels
with the mean of the five (nearest centroid, scikit-learn's) on the very same episodes. Pools: `digits` are
scikit-learn's, five classes train and five are new; `mnist` likewise, of a thousand images a class; `faces` are the ORL
faces, thirty people train and ten are new. The interval is over the episodes of all draws.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from _common import data_folder, machine, mnist, table
from tidemill.features._base import FeatureInfo
from tidemill.learners import prototypes
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.prototypical import Prototypical, inner

WAYS, SHOTS, QUERIES = 5, 5, 15
Images = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Images with their classes, and how many of these train."""

    name: str
    images: Images
    codes: Codes
    base: int


def larger() -> Pool:
    (images, codes), _ = mnist()
    few = np.concatenate([np.flatnonzero(codes == c)[:1000] for c in range(10)])
    return Pool("mnist", images[few], codes[few], 5)


def digits() -> Pool:
    pixels, codes = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) * 15.9375).astype(np.uint8)
    return Pool("digits", images, codes.astype(np.int64), 5)


def faces() -> Pool:
    folders = sorted(data_folder("orl-faces").glob("s*/"), key=lambda f: int(f.name[1:]))
    images = [[np.asarray(Image.open(p).convert("L")) for p in sorted(f.glob("*.pgm"))] for f in folders]
    stacked = np.stack([image for of_one in images for image in of_one])[..., None]
    return Pool("faces", stacked, np.repeat(np.arange(len(folders)), [len(i) for i in images]), 30)


def problem_of(images: Images, codes: Codes) -> Problem:
    classes, codes = np.unique(codes, return_inverse=True)
    meta = {"mean": [float(images.mean())], "std": [float(images.std())]}
    info = {"image": FeatureInfo("uint8", images.shape[1:], meta)}
    return Problem(
        kind="classification",
        features={"image": images},
        info=info,
        target=codes.astype(np.int64),
        train=len(codes),
        classes=len(classes),
    )


Placed = Callable[[Images], npt.NDArray[np.float32]]


def flat(images: Images) -> npt.NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def whitened(base: Images, codes: Codes, seed: int) -> Placed:
    space = prototypes.best_space(flat(base), codes, shots=SHOTS, seed=seed)
    return lambda images: space.placed(flat(images))


def network(base: Images, codes: Codes, seed: int, **params: Any) -> Placed:
    problem = problem_of(base, codes)
    view = RecipeView(network={"name": "cnn", "looks": True}, params=params)
    model = Prototypical().fit(problem, view, Context(seed=seed, threads=1, device="cpu"))
    rows = inner(model.network, {"image": base}, slice(None))
    space = prototypes.best_space(rows, codes, shots=SHOTS, seed=seed)
    return lambda images: space.placed(inner(model.network, {"image": images}, slice(None)))


METHODS: dict[str, Callable[..., Placed]] = {
    "pixels, whitened": whitened,
    "network, trained on all": lambda *given: network(*given, method="classify"),
    "network, by Reptile": lambda *given: network(*given, method="reptile"),
}


def compared(pool: Pool, draws: int, episodes: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Accuracy of each episode by method, and the seconds that learning took."""
    found: dict[str, list[float]] = {"centroids on pixels": []}
    seconds: dict[str, float] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        classes = rng.permutation(np.unique(pool.codes))
        known = np.isin(pool.codes, classes[: pool.base])
        new_images, new_codes = pool.images[~known], pool.codes[~known]
        parts = list(prototypes.episodes(new_codes, ways=WAYS, shots=SHOTS, count=episodes, rng=rng, queries=QUERIES))
        pixels = flat(new_images)
        for part in parts:
            peer = NearestCentroid().fit(pixels[part.support], part.support_codes)
            found["centroids on pixels"].append(float((peer.predict(pixels[part.query]) == part.query_codes).mean()))
        placed = {}
        for name, make in METHODS.items():
            begun = time.perf_counter()
            placed[name] = make(pool.images[known], pool.codes[known], draw)(new_images)
            seconds[name] = seconds.get(name, 0.0) + (time.perf_counter() - begun) / draws
        placed["all of them, side by side"] = np.concatenate([*placed.values()], axis=1) / np.sqrt(len(placed))
        for name, rows in placed.items():
            found.setdefault(name, []).extend(prototypes.accuracy(rows, [part]) for part in parts)
        print(
            pool.name,
            draw,
            {n: round(100 * float(np.mean(v[-episodes:])), 2) for n, v in found.items()},
            file=sys.stderr,
        )
    return found, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="self.within_class_std_dev_")  # pixels that are always black
    print(machine(), flush=True)
    for pool in (digits(), faces(), larger()):
        found, seconds = compared(pool, 1 if arguments.quick else 4, 100)
        peer = 1 - float(np.mean(found["centroids on pixels"]))
        rows = []
        for name, values in found.items():
            mean, half = float(np.mean(values)), 1.96 * float(np.std(values)) / np.sqrt(len(values))
            rows.append(
                [
                    name,
                    f"{100 * mean:.2f} ± {100 * half:.2f}",
                    f"{(1 - mean) / peer:.2f}",
                    f"{seconds.get(name, 0):.1f}",
                ]
            )
        title = f"{pool.name}: {pool.base} classes train, the others are new"
        print(f"\n{title}\n\n{table(['', 'accuracy %', 'error, of the peer', 'learning, s'], rows)}", flush=True)


if __name__ == "__main__":
    main()
