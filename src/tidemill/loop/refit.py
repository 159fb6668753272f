"""The chosen recipe once more, on training and validation rows together: the model that the gate judges."""

from __future__ import annotations

import dataclasses
import shutil
import time

import numpy as np

from tidemill.data.dataset import DatasetArrays
from tidemill.errors import TrainingError
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Scores
from tidemill.loop._base import Setting
from tidemill.loop.steps import Steps
from tidemill.monitor.label_errors import keep_doubts
from tidemill.records import JSON, Dataset, Model, Recipe, Report, Run, new_id
from tidemill.runtime import load
from tidemill.stages.train import FOLDS, Fit, refit, train

ENOUGH = 2000
"""Validation rows from which on their held-out scores alone calibrate a model well."""
FEW = 100
"""Validation rows under which even a slow learner is fitted by folds, since they are too few to calibrate on."""


def refitted(
    setting: Setting, steps: Steps, dataset: DatasetArrays, recipe: Recipe, work: JSON, candidate: JSON
) -> str:
    """The model that *recipe* makes of all rows that may train; the candidate itself where there is nothing to add.

    What validation showed of the candidate is the best that is known of the refit too, so its validation report goes
    with it, marked by whose it is.

    Args:
        work: the recipe's share of the plan.
        candidate: the chosen one, as :class:`tidemill.loop.attempt.Attempt` gave it.
    """
    store = setting.store
    chosen = store.get(Model, candidate["model"])
    if not len(dataset.rows("validation")):
        return chosen.id
    step = steps.once(
        f"refit {recipe.name}",
        lambda token: _refit(setting, steps, dataset, recipe, work, chosen, token),
        stage="train",
    )
    model: str = step["model"]
    if model != chosen.id and not store.find(Report, model_id=model, dataset_id=dataset.id, split="validation"):
        for shown in store.find(Report, model_id=chosen.id, dataset_id=dataset.id, split="validation"):
            content = {**shown.content, "measured_on": chosen.id}
            store.insert(
                dataclasses.replace(
                    shown, id=new_id(Report.prefix), model_id=model, content=content, created=time.time()
                )
            )
    return model


def _refit(
    setting: Setting, steps: Steps, dataset: DatasetArrays, recipe: Recipe, work: JSON, chosen: Model, token: str
) -> JSON:
    store = setting.store
    run_id = f"{Run.prefix}_{token.partition('_')[2]}"
    workdir = store.root / "work" / run_id
    assert chosen.run_id is not None  # a candidate is what a run made
    before = store.get(Run, chosen.run_id)
    params = {**before.params, **before.metrics.get("chosen", {})}

    def make() -> Fit:
        held_out = _held_out(setting, dataset, recipe, chosen)
        workdir.mkdir(parents=True, exist_ok=True)
        context = Context(
            seed=steps.cycle.seed,
            max_epochs=work["max_epochs"],
            threads=setting.threads,
            workdir=workdir,
            team=None if held_out is None else setting.team,  # fits by folds are small
        )
        made = refit(store, setting.aim(dataset.signature), dataset, recipe, params, context, held_out=held_out)
        if made.unseen is not None and setting.config.annotation.check_labels:
            by = {"recipe": recipe.name, "folds": FOLDS if held_out is None else 1}
            keep_doubts(store.root, store.get(Dataset, dataset.id), dataset, *made.unseen, by=by)
        return made

    steps.say("train", "once more on training and validation rows", recipe=recipe.name)
    try:
        model_id = train(
            store,
            setting.aim(dataset.signature),
            dataset,
            recipe,
            make,
            run_id=run_id,
            cycle_id=steps.cycle.id,
            seed=steps.cycle.seed,
            kind="refit",
            parents=(chosen.id,),
        )
    except TrainingError as error:
        # The candidate stands and was chosen; that it cannot be made of more rows is no reason to lose it.
        steps.say("train", f"stays as it is: {error}", recipe=recipe.name)
        shutil.rmtree(workdir, ignore_errors=True)
        return {"model": chosen.id, "failed": str(error)}
    shutil.rmtree(workdir, ignore_errors=True)  # not when it is stopped: its checkpoints are what it goes on from
    return {"model": model_id}


def _held_out(setting: Setting, dataset: DatasetArrays, recipe: Recipe, chosen: Model) -> Scores | None:
    """The candidate's raw scores of the validation rows, where these suffice for calibration."""
    rows = dataset.rows("validation")
    if len(rows) < (ENOUGH if get_learner(recipe.learner).quick else FEW):
        return None
    predictor = load(setting.store.root / chosen.path, threads=setting.threads)
    return np.concatenate([predictor.scores(columns) for columns in dataset.chunks(rows)])
