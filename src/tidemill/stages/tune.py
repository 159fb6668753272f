"""Tune: the search over one recipe's parameters, on validation data only.

Optuna's TPE proposes. The study lies in a journal file of its own, which ``optuna-dashboard`` opens: every trial with
its parameters, its learning curve, its score and its seconds. A search that was killed goes on where it stood: finished
trials are not repeated, those that were under way are started again with the same proposal, since every proposal
depends only on the seed, on its place in the search and on the finished trials before it. A :class:`Study` gives a
trial when it is asked for one, so that several searches can share what time there is (see :mod:`tidemill.loop.race`),
and several processes can work for one (see :mod:`tidemill.loop.crew`).
"""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
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

_STARTUP = 5
"""Trials before the sampler learns from them."""
_KEYS = {"float": {"low", "high", "log"}, "int": {"low", "high", "log"}, "categorical": {"choices"}}


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best parameters found (only those of the search space), their score, and how many trials finished."""

    params: JSON
    score: float
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A finished trial.

    Attributes:
        place: its place in the search, from 0 on.
        params: those of the search space that it set.
        score: larger is better; ``None`` where it was stopped early or failed.
        seconds: from its proposal to its end, by the journal, so that they stay what they are.
        curve: what it reported, by epoch.
        part: what it trained of a whole fit, more than 0 and at most 1.
        of: the place of the trial whose parameters it tries on a larger part; its own where they are new.
        error: why it failed.
    """

    place: int
    params: JSON
    score: float | None
    seconds: float
    curve: Mapping[int, float]
    part: float = 1.0
    of: int = 0
    error: str | None = None


class Asked:
    """A trial under way.

    Attributes:
        trial: Optuna's.
        place: its place in the search.
        params: what it sets.
        part: see :class:`Tried`.
        of: see there.
    """

    def __init__(self, trial: Any, place: int, part: float, of: int) -> None:
        self.trial = trial
        self.place = place
        self.params: JSON = dict(trial.params)
        self.part = part
        self.of = of

    def report(self, step: int, score: float) -> None:
        """Write a point of its learning curve into the journal; not a number is left out."""
        if math.isfinite(score):
            self.trial.report(score, step)


class Study:
    """The search over one recipe's parameters, a trial at a time, in a journal that is continued where it stands.

    Args:
        space: ``{name: {"type": "float" | "int" | "categorical", "low", "high", "log", "choices"}}``.
        seed: of every proposal.
        journal: the study's file; created when missing, continued when not.

    Attributes:
        seed: of every proposal.

    Raises:
        ConfigError: the search space is malformed.
    """

    def __init__(self, space: JSON, *, seed: int, journal: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = distributions(space)
        self.seed = seed
        journal.parent.mkdir(parents=True, exist_ok=True)
        # The cycle's lock makes this process the only writer; a lock file here was left by one that was killed.
        Path(f"{journal}.lock").unlink(missing_ok=True)
        _mend(journal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(journal)))
            self._study = optuna.create_study(
                study_name=journal.stem,
                storage=storage,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),  # it draws nothing: every trial is given its setting
            )
        states = optuna.trial.TrialState
        while self._study.get_trials(deepcopy=False, states=(states.WAITING,)):  # killed before it was taken up
            self._study.ask()
        for stale in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.tell(stale.number, state=states.FAIL)

    def finished(self) -> list[Tried]:
        """The finished trials, in the order in which they were begun."""
        found: list[Tried] = []
        for trial in self._study.get_trials(deepcopy=False):
            known, state = trial.user_attrs, trial.state.name
            if state not in ("COMPLETE", "PRUNED") and "error" not in known:
                continue
            place = known.get("place", len(found))
            score = trial.value if state == "COMPLETE" else known.get("score") if state == "PRUNED" else None
            found.append(
                Tried(
                    place=place,
                    params=dict(trial.params),
                    score=score,
                    seconds=max(0.0, trial.duration.total_seconds()) if trial.duration is not None else 0.0,
                    curve=trial.intermediate_values,
                    part=known.get("part", 1.0),
                    of=known.get("of", place),
                    error=known.get("error"),
                )
            )
        return found

    def trials(self) -> list[tuple[float | None, float]]:
        """Score and seconds of each finished trial in their order; no score where it was pruned or failed."""
        return [(tried.score, tried.seconds) for tried in self.finished()]

    def ask(self, place: int, params: JSON, *, part: float = 1.0, of: int | None = None) -> Asked:
        """Begin a trial.

        Args:
            place: its place in the search.
            params: what it sets; ``{}`` keeps the recipe's own defaults.
            part: see :class:`Tried`.
            of: see there.
        """
        if params:
            self._study.enqueue_trial(params)
        trial = self._study.ask(self._distributions if params else {})
        trial.set_user_attr("place", place)
        if part < 1:
            trial.set_user_attr("part", part)
        if of is not None and of != place:
            trial.set_user_attr("of", of)
        return Asked(trial, place, part, place if of is None else of)

    def proposals(self, place: int, count: int, known: Sequence[tuple[JSON, float]] = ()) -> list[JSON]:
        """So many settings that the sampler proposes for a place; nothing is begun.

        Args:
            place: the same place, seed and finished trials give the same proposals.
            count: how many.
            known: settings of the space, and their scores, that the sampler learns from besides its trials.
        """
        import optuna

        rehearsal = optuna.create_study(direction="maximize")
        states = optuna.trial.TrialState
        rehearsal.add_trials(self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED)))
        for params, score in known:
            rehearsal.add_trial(
                optuna.trial.create_trial(params=params, distributions=self._distributions, value=score)
            )
        found: list[JSON] = []
        for number in range(count):
            # seeded anew each time: a proposal depends on the seed and on the trials before it alone
            seed = (self.seed * 10_007 + place) * count + number
            rehearsal.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=_STARTUP)
            found.append(dict(rehearsal.ask(self._distributions).params))
        return found

    def tell(self, asked: Asked, score: float) -> None:
        """End a trial that trained a whole fit, with its score, which is a number."""
        self._study.tell(asked.trial, score)

    def tell_part(self, asked: Asked, score: float, step: int) -> None:
        """End a trial that trained a part of a fit; for the sampler it is one that was stopped at *step*."""
        from optuna.trial import TrialState

        asked.report(step, score)
        asked.trial.set_user_attr("score", score)
        self._study.tell(asked.trial, state=TrialState.PRUNED)

    def tell_stopped(self, asked: Asked) -> None:
        """End a trial that was stopped early."""
        from optuna.trial import TrialState

        self._study.tell(asked.trial, state=TrialState.PRUNED)

    def tell_failed(self, asked: Asked, error: str) -> None:
        """End a trial that could not be trained."""
        from optuna.trial import TrialState

        log.info("trial %d with %s failed: %s", asked.place + 1, asked.params, error)
        asked.trial.set_user_attr("error", error)
        self._study.tell(asked.trial, state=TrialState.FAIL)

    def trial(self, fit: Fit) -> float | None:
        """Finish one more trial in this process; the first one keeps the recipe's own defaults.

        Args:
            fit: trains and scores one setting.

        Returns:
            Its score; ``None`` when it was pruned or failed.
        """
        number = len(self.finished())
        asked = self.ask(number, self.proposals(number, 1)[0] if number else {})
        try:
            score = finite(fit(dict(asked.params), asked.report))
        except Pruned:
            self.tell_stopped(asked)
        except TrainingError as error:
            self.tell_failed(asked, str(error))
        else:
            self.tell(asked, score)
            return score
        return None

    def best(self) -> Tuned:
        """The best trial that finished a whole fit, the earlier one of equals.

        Raises:
            TrainingError: every trial failed.
        """
        finished = self.finished()
        complete = [t for t in finished if t.score is not None and t.part == 1]
        if not complete:
            errors = {t.error or "stopped early" for t in finished}
            raise TrainingError("no trial finished", where="; ".join(sorted(errors)), mend="Widen the search space.")
        best = max(complete, key=lambda t: (t.score, -t.place))
        assert best.score is not None
        return Tuned(dict(best.params), best.score, len(finished))


def _mend(journal: Path) -> None:
    """Cut off the half of a line that a full disk or a power cut left: Optuna would append to it, and read neither."""
    if not journal.is_file():
        return
    with journal.open("r+b") as file:
        written = file.read()
        if not written.endswith(b"\n"):
            file.truncate(written.rfind(b"\n") + 1)


def finite(score: float) -> float:
    """The *score*, which must be a number: the study would count the trial as never made.

    Raises:
        TrainingError: it is none.
    """
    if not math.isfinite(score):
        raise TrainingError(f"the validation score is {score}")
    return score


def distributions(space: JSON) -> dict[str, Any]:
    """Optuna's distributions of a search space, by parameter.

    Raises:
        ConfigError: a parameter's entry is malformed, its range is empty or contradicts itself, or the whole space
            leaves nothing to choose.

    >>> list(distributions({"rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True}}))
    ['rate']
    >>> distributions({"depth": {"type": "int", "low": 9, "high": 3}})
    Traceback (most recent call last):
        ...
    tidemill.errors.ConfigError: space.depth: the search space is malformed: low is 9 and high is 3. Give ...
    """
    found = {name: _distribution(name, spec) for name, spec in space.items()}
    if found and combinations(space) == 1:
        raise ConfigError(
            "the search space leaves nothing to choose: every parameter has one value",
            where="space",
            mend="Give a range or several choices, or move the values to the recipe's params.",
        )
    return found


def combinations(space: JSON) -> int | None:
    """How many settings a well-formed search space holds; ``None`` for too many to count.

    >>> kind = {"type": "categorical", "choices": ["a", "b"]}
    >>> combinations({"kind": kind, "n": {"type": "int", "low": 1, "high": 3}})
    6
    >>> combinations({"rate": {"type": "float", "low": 0.01, "high": 0.3}}) is None
    True
    """
    total = 1
    for spec in space.values():
        if spec["type"] == "categorical":
            total *= len(spec["choices"])
        elif spec["low"] != spec["high"]:
            if spec["type"] == "float":
                return None
            total *= spec["high"] - spec["low"] + 1
    return total


def grid(space: JSON, most: int) -> list[JSON]:
    """Every setting of a well-formed search space, where there are at most so many; else none.

    >>> grid({"n": {"type": "int", "low": 1, "high": 3}}, 100), grid({"n": {"type": "int", "low": 1, "high": 3}}, 2)
    ([{'n': 1}, {'n': 2}, {'n': 3}], [])
    """
    total = combinations(space)
    if total is None or total > most:
        return []
    values = [
        spec["choices"]
        if spec["type"] == "categorical"
        else [spec["low"]]
        if spec["type"] == "float"
        else range(spec["low"], spec["high"] + 1)
        for spec in space.values()
    ]
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)]


def within(space: JSON, params: Mapping[str, Any]) -> JSON | None:
    """The parameters of a search space as *params* set them; ``None`` where one is missing or outside of it.

    >>> within({"n": {"type": "int", "low": 1, "high": 3}}, {"n": 2, "other": 5})
    {'n': 2}
    >>> within({"n": {"type": "int", "low": 1, "high": 3}}, {"n": 4}) is None
    True
    """
    for name, spec in space.items():
        value = params.get(name)
        if spec["type"] == "categorical":
            if name not in params or value not in spec["choices"]:
                return None
            continue
        number = isinstance(value, int if spec["type"] == "int" else int | float) and not isinstance(value, bool)
        if not number or not spec["low"] <= value <= spec["high"]:
            return None
    return {name: params[name] for name in space}


def clipped(space: JSON, params: Mapping[str, Any]) -> JSON | None:
    """The setting of a search space that is closest to *params*; ``None`` where one is missing or is no choice of it.

    >>> clipped({"n": {"type": "int", "low": 1, "high": 3}}, {"n": 7, "other": 5})
    {'n': 3}
    """
    found = dict(params)
    for name, spec in space.items():
        if spec["type"] != "categorical" and isinstance(found.get(name), int | float):
            found[name] = min(max(found[name], spec["low"]), spec["high"])
    return within(space, found)


def _distribution(name: str, spec: Any) -> Any:
    from optuna import distributions as d

    def malformed(why: str) -> ConfigError:
        return ConfigError(
            f"the search space is malformed: {why}",
            where=f"space.{name}",
            mend="Give `type` and either `low` and `high` (low < high; above 0 with log) or `choices`.",
        )

    if not isinstance(spec, Mapping) or spec.get("type") not in _KEYS:
        said = spec.get("type") if isinstance(spec, Mapping) else spec
        raise ConfigError(f"unknown type {said!r}", where=f"space.{name}", mend="Use float, int or categorical.")
    kind = spec["type"]
    unknown = sorted(set(spec) - _KEYS[kind] - {"type"})
    missing = sorted(_KEYS[kind] - {"log"} - set(spec))
    if unknown or missing:
        raise malformed(f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]} is missing")
    if kind == "categorical":
        choices = spec["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise malformed(f"choices is {choices!r}, and there must be one at least")
        if not all(choice is None or isinstance(choice, bool | int | float | str) for choice in choices):
            raise malformed("a choice is no text, number, true, false or null")
        if len({repr(choice) for choice in choices}) < len(choices):
            raise malformed("a choice stands there twice")
        return d.CategoricalDistribution(choices)
    low, high, logarithmic = spec["low"], spec["high"], spec.get("log", False)
    for end, value in (("low", low), ("high", high)):
        number = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise malformed(f"{end} is {value!r}, which is no {'whole number' if kind == 'int' else 'number'}")
    if low > high:
        raise malformed(f"low is {low!r} and high is {high!r}")
    if not isinstance(logarithmic, bool):
        raise malformed(f"log is {logarithmic!r}, and may be true or false")
    if logarithmic and low <= 0:
        raise malformed(f"log is true and low is {low!r}")
    return (d.IntDistribution if kind == "int" else d.FloatDistribution)(low, high, log=logarithmic)
