"""One training of the recipe ``cnn`` with its defaults. Run by mnist.py and cifar.py in a process of its own.

python benchmarks/mnist_ours.py DATA.npz SEED [EPOCHS]
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView

data = np.load(sys.argv[1])
images, labels = data["images"], data["labels"]
params = {"epochs": float(sys.argv[3])} if len(sys.argv) > 3 else {}
learner = get_learner("gradient")
began = time.perf_counter()
axes = (0, 1, 2)
sample = images[:: max(1, len(images) // 10_000)].astype(np.float32)
info = FeatureInfo("uint8", images.shape[1:], {"mean": sample.mean(axes).tolist(), "std": sample.std(axes).tolist()})
problem = Problem(
    kind="classification",
    features={"image": images},
    info={"image": info},
    target=labels,
    train=len(labels),
    classes=int(labels.max()) + 1,
)
recipe = RecipeView(network={"name": "cnn"}, params=params)
model = learner.fit(problem, recipe, Context(seed=int(sys.argv[2]), threads=os.cpu_count() or 1))
seconds = time.perf_counter() - began
scores = model.scores({"image": data["test_images"]})
accuracy = float((scores.argmax(1) == data["test_labels"]).mean())
print(json.dumps({"seconds": seconds, "accuracy": accuracy, **{f"fit_{k}": v for k, v in model.summary.items()}}))
