"""The facade: a project with all of its verbs, as ``import tidemill`` and the command line use it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.api import mirroring
from tidemill.api.outside import OutsideProject
from tidemill.api.running import plan_cycle, run
from tidemill.api.watching import watched
from tidemill.config import Serve, changed, parse_duration
from tidemill.loop import OnEvent, unheard
from tidemill.project import (
    cleaning,
    data_page,
    desk,
    housekeeping,
    importing,
    labels,
    lineage,
    overview,
    rollouts,
    said,
)
from tidemill.project.pareto import pareto as pareto_of
from tidemill.project.rollouts import Phase
from tidemill.project.statements import read_statements
from tidemill.records import JSON, to_json
from tidemill.runtime import Predictor
from tidemill.serving import tokens
from tidemill.store import FeedbackOutcome
from tidemill.tasks import metric_of, selection_of


class Project(OutsideProject):
    """An opened project.

    >>> import tempfile, tidemill
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     project = tidemill.init(folder, data="sklearn:iris", target="target")
    ...     project.config.task
    'tabular-classification'
    """

    @property
    def champion(self) -> JSON | None:
        """The model in force, or ``None``."""
        deployment = self.store.champion()
        return None if deployment is None else to_json(self.model(deployment.model_id))

    @property
    def metric(self) -> str:
        """The per-row score that the gate judges: the task's, or the utility where answers have a price."""
        return metric_of(self.task, self.config.decision)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores that models are compared by: what the gate judges, then what recipes are chosen by."""
        return tuple(dict.fromkeys((self.metric, selection_of(self.task, self.config.decision))))

    def plan(
        self, *, budget: str | float | None = None, max_trials: int | None = None, max_epochs: int | None = None
    ) -> JSON:
        """What a cycle would do: recipes, trials, time, memory and disk. Changes nothing."""
        return plan_cycle(self, budget=budget, max_trials=max_trials, max_epochs=max_epochs)

    def cycle(
        self,
        *,
        budget: str | float | None = None,
        max_trials: int | None = None,
        max_epochs: int | None = None,
        seed: int | None = None,
        on_event: OnEvent = unheard,
        trigger: str = "asked",
    ) -> JSON:
        """Run one cycle, or go on with the one that was interrupted.

        Returns:
            ``{"cycle", "dataset", "candidates", "decision", "questions", "stages", "seconds"}``.

        Raises:
            BusyError: another process runs a cycle on this project.
            TidemillError: what stopped it.
        """
        return run(
            self,
            budget=budget,
            max_trials=max_trials,
            max_epochs=max_epochs,
            seed=seed,
            on_event=on_event,
            trigger=trigger,
        )

    def status(self) -> JSON:
        """How the project stands, and what to do next."""
        return overview.status(self)

    def runs(self) -> list[JSON]:
        """All runs, newest first."""
        return overview.runs(self)

    def models(self) -> list[JSON]:
        """All models, newest first."""
        return overview.models(self)

    def pareto(self) -> JSON:
        """The last cycle's candidates by quality, latency and size; see :func:`tidemill.project.pareto.pareto`."""
        return pareto_of(self)

    def cycles(self) -> list[JSON]:
        """All cycles, newest first."""
        return overview.cycles(self)

    def report(self, model: str | None = None) -> JSON:
        """Everything about a model (the champion's unless named)."""
        return overview.report(self, model)

    def report_html(self, path: str | Path, model: str | None = None) -> Path:
        """The report as one self-contained HTML page, with a summary of the data that the model was made from."""
        from tidemill.console.report import render_report

        found = self.report(model)
        return render_report(found, Path(path), data_page.data_of_report(self, found["model"]["dataset_id"]))

    def data(
        self,
        version: str | None = None,
        *,
        against: str | None = None,
        search: bool = True,
        say: Callable[[str], None] = data_page.unheard,
    ) -> JSON:
        """What is in a dataset version (the last cycle's unless named); see
        :func:`tidemill.project.data_page.data`.
        """
        return data_page.data(self, version, against=against, search=search, say=say)

    def data_html(
        self,
        path: str | Path,
        version: str | None = None,
        *,
        against: str | None = None,
        search: bool = True,
        say: Callable[[str], None] = data_page.unheard,
    ) -> Path:
        """The same as one self-contained HTML page."""
        from tidemill.console.data import render_data

        return render_data(self.data(version, against=against, search=search, say=say), Path(path))

    def gate(self) -> JSON:
        """The last decision, replayed from its evidence."""
        return overview.last_decision(self)

    def predict(
        self, inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, model: str | None = None
    ) -> list[JSON]:
        """Answers of the champion (or of *model*) to one input or several; not journaled.

        Raises:
            InputError: an input does not fit the signature.
            NotReadyError: nothing has been promoted yet.
        """
        rows = [inputs] if isinstance(inputs, Mapping) else list(inputs)
        return self._predictor(model).predict(rows, max_pixels=self.config.limits.image_pixels)

    def predict_file(
        self,
        source: str | Path,
        output: str | Path,
        *,
        model: str | None = None,
        keep_inputs: bool = False,
        scores: bool = False,
        ignore: Sequence[str] = (),
        skip_bad: bool = False,
        on_event: OnEvent = unheard,
    ) -> JSON:
        """Answer every row of a file in another one, in little memory; a run that was killed is gone on with.

        See :func:`tidemill.project.predicting.predict_file`.
        """
        from tidemill.project.predicting import predict_file

        return predict_file(
            self,
            source,
            output,
            model=model,
            keep_inputs=keep_inputs,
            scores=scores,
            ignore=ignore,
            skip_bad=skip_bad,
            on_event=on_event,
        )

    def feedback(
        self,
        prediction: str | None = None,
        value: Any = None,
        *,
        kind: str = "correction",
        author: str = "anonymous",
        asked: bool = False,
        key: str | None = None,
        episode: str | None = None,
        predictions: Sequence[str] | None = None,
    ) -> JSON:
        """State something about a prediction, or about an episode by its name; committed when this returns.

        Args:
            predictions: of an episode those that belong to it; others may be named later.
        """
        about: JSON = {"prediction": prediction}
        if episode is not None:
            about = {"episode": episode, "predictions": None if predictions is None else list(predictions)}
            about |= {} if prediction is None else {"prediction": prediction}
        item = {**about, "value": value, "kind": kind, "author": author, "asked": asked, "key": key}
        return _outcome(importing.add_feedback(self, [("feedback", item)])[0])

    def feedback_import(
        self, path: str | Path, *, author: str | None = None, skip: bool = False, on_event: OnEvent = unheard
    ) -> JSON:
        """Feedback from a JSONL, CSV or Parquet file of ``prediction``, ``kind``, ``value``, ``author``, ``asked`` and
        ``key``; see :func:`tidemill.project.importing.import_feedback`. An exported file may be imported, too.
        """
        return importing.import_feedback(self, Path(path), author=author, skip=skip, on_event=on_event)

    def feedback_list(
        self, n: int = 20, *, kind: str | None = None, author: str | None = None, about: str | None = None
    ) -> JSON:
        """The newest statements, and how many of each kind are in force; see
        :func:`tidemill.project.said.statements`.
        """
        return said.statements(self, n, kind=kind, author=author, about=about)

    def authors(self) -> JSON:
        """How everybody stands who stated a label, and why labels are held back; see
        :func:`tidemill.project.said.authors`.
        """
        return said.authors(self)

    def feedback_export(self, path: str | Path) -> JSON:
        """All feedback as JSONL, or as CSV where the file is named so."""
        return {"path": str(path), "rows": labels.export_feedback(self, Path(path))}

    def questions(
        self, n: int = 10, *, purpose: str | None = None, author: str | None = None, besides: Sequence[str] = ()
    ) -> list[JSON]:
        """The next questions for annotators, as these see them.

        With an *author*, at most 20 that nobody else is asked for a while (``annotation.lease``), *besides* those whose
        ids are given; without, a look at the queue.
        """
        if author is None:
            return [desk.shown(self, item) for item in labels.questions(self, n, purpose)]
        return [desk.shown(self, q) for q in desk.take(self, author, n, purpose=purpose, besides=besides)]

    def skip(self, question: str, *, author: str, unsure: bool = False, note: str | None = None) -> JSON:
        """Leave a question to others; see :func:`tidemill.project.desk.pass_over`."""
        return desk.pass_over(self, question, author=author, unsure=unsure, note=note)

    def requeue(self) -> JSON:
        """Order the questions anew, by the champion and by all that was said so far; how many wait, by purpose."""
        from tidemill.project.requeueing import requeue

        return requeue(self)

    def ask(self, subjects: Sequence[str], *, widget: str | None = None, reason: str | None = None) -> JSON:
        """Ask people about a prediction, or which of two is better; see :func:`tidemill.project.desk.ask`."""
        return desk.ask(self, subjects, widget=widget, reason=reason)

    def stated(self, texts: Sequence[str]) -> Any:
        """The label that somebody typed, as one text or several: a label, a list of labels, or a number's text."""
        return labels.stated(self, texts)

    def answer(
        self, subject: str, label: Any, *, author: str, note: str | None = None, question: str | None = None
    ) -> JSON:
        """Give the label of a sample or prediction; see :func:`tidemill.project.desk.answer`."""
        return desk.answer(self, subject, label, author=author, note=note, question=question)

    def answers_import(self, path: str | Path, *, author: str) -> JSON:
        """Answers from a JSONL or CSV file of ``subject``, ``label``, ``author`` and ``note``; *author* where a line
        names none.
        """
        items = list(read_statements(Path(path), self.signature, "label"))
        labels.check_answers(self, items)
        with self.store.transaction():
            for _, item in items:
                by = str(item.get("author") or author)
                desk.answer(self, item["subject"], item["label"], author=by, note=item.get("note"))
        return {"answers": len(items)}

    def promote(self, model: str, *, reason: str, author: str | None = None) -> JSON:
        """Put a model into force by hand; ``rollout`` is the roll-out that ended with it, if there was one."""
        return housekeeping.promote(self, model, reason=reason, author=author)

    def rollback(self, *, reason: str | None = None, author: str | None = None) -> JSON:
        """Put the model before the champion back into force; during a roll-out, take back its challenger instead."""
        return housekeeping.rollback(self, reason=reason, author=author)

    def rollout(self) -> JSON | None:
        """How the roll-out stands that is under way, or how the last one ended; ``None`` when there has been none."""
        return rollouts.show(self)

    def rollouts(self) -> list[JSON]:
        """All roll-outs, newest first."""
        return rollouts.listed(self)

    def start_rollout(
        self,
        model: str,
        *,
        phase: Phase | None = None,
        share: float | None = None,
        reason: str | None = None,
        author: str | None = None,
    ) -> JSON:
        """Let a model begin its roll-out by hand; phase and share are those of tidemill.yaml unless given."""
        return to_json(rollouts.start(self, model, phase=phase, share=share, reason=reason, author=author))

    def advance_rollout(self, *, share: float | None = None, author: str | None = None) -> JSON:
        """Make a canary of a challenger in the shadow, or give a canary another share of the callers."""
        return to_json(rollouts.advance(self, share=share, author=author))

    def stop_rollout(self, *, reason: str | None = None, author: str | None = None) -> JSON:
        """End the roll-out; the champion goes on alone."""
        return to_json(rollouts.stop(self, reason=reason, author=author))

    def trace(self, identifier: str) -> JSON:
        """The whole line that an id stands in; ``champion`` is the model in force."""
        return lineage.trace(self.store, self.model().id if identifier == "champion" else identifier)

    def export(self, model: str | None, folder: str | Path) -> JSON:
        """Copy a model's package to a folder (the champion's when *model* is ``None``)."""
        return housekeeping.export(self, model, Path(folder))

    def gc(self, *, dry_run: bool = False) -> JSON:
        """Remove what nothing needs any more."""
        return cleaning.gc(self, dry_run=dry_run)

    def forget(
        self,
        *,
        author: str | None = None,
        ids: Sequence[str] = (),
        same_content: bool = False,
        dry_run: bool = False,
    ) -> JSON:
        """Erase what a person gave, or what has some ids, everywhere it went; it cannot be undone.

        See :func:`tidemill.project.forgetting.forget`.
        """
        from tidemill.project.forgetting import forget

        return forget(self.store, author=author, identifiers=ids, same_content=same_content, dry_run=dry_run)

    def pretrain(
        self,
        name: str,
        *,
        start: str | None = None,
        steps: int = 2000,
        rate: float | None = None,
        seed: int = 0,
        on_event: OnEvent = unheard,
    ) -> JSON:
        """Learn an encoder from the training inputs alone; see :func:`tidemill.project.pretraining.pretrain`."""
        from tidemill.project.pretraining import pretrain

        return pretrain(self, name, start=start, steps=steps, rate=rate, seed=seed, on_event=on_event)

    def backup(self, path: str | Path, *, on_event: OnEvent = unheard) -> JSON:
        """Write everything the project holds to one file; see :func:`tidemill.project.backup.backup`."""
        from tidemill.project.backup import backup

        return backup(self, Path(path), on_event=on_event)

    def doctor(self) -> list[JSON]:
        """Check the installation and the project."""
        return housekeeping.doctor(self)

    def serve(
        self,
        *,
        on_ready: Callable[[int], None] | None = None,
        on_swap: Callable[[JSON], None] | None = None,
        **settings: Any,
    ) -> None:
        """Serve the champion over HTTP until stopped; follows every promotion and rollback.

        Args:
            on_ready: called with the port once requests are answered.
            on_swap: called with each deployment that is taken up, the first one included, on a thread of the service.
            settings: ``host``, ``port`` and other keys of ``serve`` in tidemill.yaml, which go before the file.
        """
        from tidemill.api.pages import pages_of
        from tidemill.serving.server import serve

        told = None if on_swap is None else (lambda deployment: on_swap(to_json(deployment)))
        worker = (sys.executable, "-m", "tidemill.api.worker")
        chosen = self.serve_settings(**settings)
        with mirroring.mirrored(self):
            serve(self, on_ready=on_ready, on_swap=told, settings=chosen, worker=worker, pages=pages_of(self, chosen))

    def serve_settings(self, **settings: Any) -> Serve:
        """``serve`` of tidemill.yaml, in which those *settings* that are not ``None`` are changed.

        Raises:
            ConfigError: one is out of its range.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        return changed(self.config, "serve", given).serve

    def new_token(self, name: str, scopes: Sequence[str], *, lifetime: str | float | None = None) -> JSON:
        """A new token for the service; its ``token`` is the text to show at the door, told this once.

        Args:
            name: whose it is.
            scopes: what it opens: ``predict``, ``feedback``, ``label``, ``admin``.
            lifetime: how long it is good, such as ``90d``; for ever unless given.

        Raises:
            ConflictError: a token with this name is good already.
        """
        seconds = None if lifetime is None else parse_duration(lifetime, where="expires")
        token, text = tokens.make_token(self.store, name, scopes, lifetime=seconds)
        return {**tokens.token_json(token), "token": text}

    def tokens(self) -> list[JSON]:
        """All tokens, newest first; their texts are not known here."""
        return tokens.list_tokens(self.store)

    def revoke_token(self, which: str) -> JSON:
        """Take a token back, by its id or name; it opens nothing a second later.

        Raises:
            NotFoundError: there is none that could be revoked.
        """
        return tokens.token_json(tokens.revoke_token(self.store, which))

    def up(
        self,
        *,
        after_labels: int | None = None,
        on_ready: Callable[[int], None] | None = None,
        on_swap: Callable[[JSON], None] | None = None,
        on_event: OnEvent = unheard,
        **settings: Any,
    ) -> None:
        """Serve, and start cycles in a process of their own whenever a trigger fires.

        Args:
            after_labels: new labels that start one; what ``triggers`` in tidemill.yaml says unless given.
            on_ready, on_swap, settings: see :meth:`serve`.
            on_event: told what the triggers and their cycles do.

        Raises:
            ConfigError: a trigger cannot be what its settings say.
        """
        if after_labels is not None:
            self.config = changed(self.config, "triggers", {"after_labels": after_labels})
        with watched(self, on_event):
            self.serve(on_ready=on_ready, on_swap=on_swap, **settings)

    def _predictor(self, model: str | None) -> Predictor:
        return self.open_serving(model)


def _outcome(outcome: FeedbackOutcome) -> JSON:
    return {**outcome._asdict(), "feedback": to_json(outcome.feedback)}
