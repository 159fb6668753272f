"""Tune: the search over one recipe's parameters, on validation data only.

Optuna's TPE proposes, its median rule stops trials whose learning curve falls behind. The study lies in a journal file
of its own, which ``optuna-dashboard`` opens. A search that was killed goes on where it stood: finished trials are not
repeated, the one that was under way is started again with the same proposal, since every proposal depends only on the
seed and on the finished trials before it. A :class:`Study` makes a trial when it is asked for one, so that several
searches can share what time there is (see :mod:`tidemill.loop.race`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.errors import ConfigError, TrainingError
from tidemill.learners._base import Pruned
from tidemill.records import JSON

log = logging.getLogger(__name__)
Report = Callable[[int, float], None]
Fit = Callable[[JSON, Report], float]
"""One trial: train with these parameters, report the validation score after each epoch, return the last one."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best parameters found (only those of the search space), their score, and how many trials finished."""

    params: JSON
    score: float
    trials: int


class Study:
    """The search over one recipe's parameters, a trial at a time, in a journal that is continued where it stands.

    Args:
        space: ``{name: {"type": "float" | "int" | "categorical", "low", "high", "log", "choices"}}``.
        seed: of every proposal.
        journal: the study's file; created when missing, continued when not.

    Raises:
        ConfigError: the search space is malformed.
    """

    def __init__(self, space: JSON, *, seed: int, journal: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = {name: _distribution(name, spec) for name, spec in space.items()}
        self._seed = seed
        journal.parent.mkdir(parents=True, exist_ok=True)
        # The cycle's lock makes this process the only writer; a lock file here was left by one that was killed.
        Path(f"{journal}.lock").unlink(missing_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(journal)))
            self._study = optuna.create_study(
                study_name=journal.stem,
                storage=storage,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
                load_if_exists=True,
            )
        states = optuna.trial.TrialState
        for stale in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.tell(stale.number, state=states.FAIL)

    def _finished(self) -> list[Any]:
        return [
            t
            for t in self._study.get_trials(deepcopy=False)
            if t.state.name in ("COMPLETE", "PRUNED") or "error" in t.user_attrs
        ]

    def trials(self) -> list[tuple[float | None, float]]:
        """Score and seconds of each finished trial in their order; no score where it was pruned or failed.

        The journal says when a trial began and ended, so these seconds stay what they are.
        """
        return [
            (t.value if t.state.name == "COMPLETE" else None, max(0.0, t.duration.total_seconds()))
            for t in self._finished()
        ]

    def trial(self, fit: Fit) -> float | None:
        """Finish one more trial; the first one keeps the recipe's own defaults.

        Args:
            fit: trains and scores one setting.

        Returns:
            Its score; ``None`` when it was pruned or failed.
        """
        import optuna
        from optuna.trial import TrialState

        number = len(self._finished())
        # seeded anew each time: a proposal depends on the seed and on the finished trials alone
        self._study.sampler = optuna.samplers.TPESampler(seed=self._seed * 10_007 + number, n_startup_trials=5)
        trial = self._study.ask(self._distributions if number else {})

        def report(step: int, score: float) -> None:
            trial.report(score, step)
            if trial.should_prune():
                raise Pruned

        try:
            score = _finite(fit(dict(trial.params), report))
        except Pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        except TrainingError as error:
            log.info("trial %d with %s failed: %s", number, trial.params, error)
            trial.set_user_attr("error", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score)
            return score
        return None

    def best(self) -> Tuned:
        """The best finished trial, the earlier one of equals.

        Raises:
            TrainingError: every trial failed.
        """
        finished = self._finished()
        complete = [t for t in finished if t.state.name == "COMPLETE"]
        if not complete:
            errors = {str(t.user_attrs.get("error", "stopped early")) for t in finished}
            raise TrainingError("no trial finished", where="; ".join(sorted(errors)), mend="Widen the search space.")
        best = max(complete, key=lambda t: (t.value, -t.number))
        return Tuned(dict(best.params), float(best.value), len(finished))


def _finite(score: float) -> float:
    if not math.isfinite(score):  # the study would count the trial as never made
        raise TrainingError(f"the validation score is {score}")
    return score


def _distribution(name: str, spec: JSON) -> Any:
    from optuna import distributions as d

    try:
        match spec["type"]:
            case "float":
                return d.FloatDistribution(spec["low"], spec["high"], log=spec.get("log", False))
            case "int":
                return d.IntDistribution(spec["low"], spec["high"], log=spec.get("log", False))
            case "categorical":
                return d.CategoricalDistribution(spec["choices"])
            case other:
                raise ConfigError(
                    f"unknown type {other!r}", where=f"space.{name}", mend="Use float, int or categorical."
                )
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the search space is malformed: {error!r}",
            where=f"space.{name}",
            mend="Give `type` and either `low` and `high` (low < high; above 0 with log) or `choices`.",
        ) from error
