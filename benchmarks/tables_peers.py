"""One peer on one table; run by tables.py in an environment of its own.

python benchmarks/tables_peers.py PEER FOLDER SET BUDGET SEED
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
peer, folder, name, budget, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
target = "income" if name == "adult" else "median_house_value"
binary = name == "adult"
threads = os.cpu_count() or 1

train, test = (pd.read_csv(folder / f"clean-{split}.csv") for split in ("train", "test"))
words = [c for c in train if c != target and not pd.api.types.is_numeric_dtype(train[c])]
for column in words:
    known = pd.CategoricalDtype(sorted(train[column].dropna().unique()))
    train[column], test[column] = train[column].astype(known), test[column].astype(known)
x, x_test = train.drop(columns=target), test.drop(columns=target)
y = (train[target] == ">50K").astype(int).to_numpy() if binary else train[target].to_numpy(float)


def lightgbm() -> tuple[Any, str]:
    import lightgbm as lgb
    from sklearn.model_selection import train_test_split

    kind = lgb.LGBMClassifier if binary else lgb.LGBMRegressor
    parts = train_test_split(x, y, test_size=0.1, random_state=seed, stratify=y if binary else None)
    model = kind(n_estimators=5000, learning_rate=0.05, n_jobs=threads, random_state=seed, verbosity=-1)
    model.fit(parts[0], parts[2], eval_set=[(parts[1], parts[3])], callbacks=[lgb.early_stopping(100, verbose=False)])
    return (model.predict_proba(x_test)[:, 1] if binary else model.predict(x_test)), f"{model.best_iteration_} rounds"


def histogram() -> tuple[Any, str]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
    model = kind(
        learning_rate=0.05,
        max_iter=5000,
        early_stopping=True,
        n_iter_no_change=50,
        categorical_features="from_dtype",
        random_state=seed,
    ).fit(x, y)
    return (model.predict_proba(x_test)[:, 1] if binary else model.predict(x_test)), f"{model.n_iter_} rounds"


def flaml() -> tuple[Any, str]:
    from flaml import AutoML

    model = AutoML()
    model.fit(
        x,
        y,
        task="classification" if binary else "regression",
        metric="log_loss" if binary else "rmse",
        time_budget=budget,
        n_jobs=threads,
        seed=seed,
        verbose=0,
    )
    return (model.predict_proba(x_test)[:, 1] if binary else model.predict(x_test)), str(model.best_estimator)


def autogluon() -> tuple[Any, str]:
    from autogluon.tabular import TabularPredictor

    predictor = TabularPredictor(
        target,
        problem_type="binary" if binary else "regression",
        eval_metric="log_loss" if binary else "root_mean_squared_error",
        path=str(folder / f"autogluon-{seed}"),
        verbosity=0,
    )
    predictor.fit(x.assign(**{target: y}), time_limit=budget, presets="best_quality", num_cpus=threads)
    given = predictor.predict_proba(x_test)[1] if binary else predictor.predict(x_test)
    return given.to_numpy(), str(predictor.model_best)


logging.disable(logging.WARNING)
started = time.perf_counter()
predicted, note = {"lightgbm": lightgbm, "histogram": histogram, "flaml": flaml, "autogluon": autogluon}[peer]()
seconds = time.perf_counter() - started
np.save(folder / "predicted.npy", np.asarray(predicted, np.float64))
print(json.dumps({"seconds": seconds, "note": note}))
