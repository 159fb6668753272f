"""Answers to all rows of a file, in another file: any number of rows in little memory, and on again after a kill.

The answers are written in parts beside the output, in ``OUTPUT.parts``. A part is durable before it counts; a run that
was killed goes on behind its last whole part, with the model with which it began, and in the end has made the same file
as one that was not. The parts are joined then, and the output appears under its name as a whole.

These answers are no predictions in the journal: nobody is given their ids, and rows by the million that nobody looks at
would only crowd out the traffic from which the loop learns.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.config import Config
from tidemill.data.rows import Bad, Row, RowFile, require_short
from tidemill.data.schema import Signature
from tidemill.errors import BusyError, InputError, NotFoundError, StoreError
from tidemill.project.opened import OpenProject
from tidemill.project.sheets import Parquet, Sheet, sheet_class
from tidemill.records import JSON
from tidemill.runtime import Predictor
from tidemill.store import seam
from tidemill.tasks._sources import source_limits

PART_ROWS = 5000
PART_BYTES = 64 << 20
AT_ONCE = 500
"""Rows that are answered at once: images are decoded for them, and lie in memory as pixels."""
SCHEMA = 1
ORIGIN = "origin"
_CELLS = ("value", "label", "labels", "score", "guess", "action", "propensity")

OnEvent = Callable[[JSON], None]


def _unheard(_event: JSON) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands in the output.

    Attributes:
        answers: the columns of the answer, with their types.
        kept: those of the input that are kept.
    """

    answers: Mapping[str, Any]
    kept: Mapping[str, Any]

    @property
    def all(self) -> dict[str, Any]:
        """All of them in their order."""
        return {**self.kept, ORIGIN: pa.string(), **self.answers}


@dataclass(slots=True)
class _Done:
    """How far it has come."""

    parts: list[Path] = field(default_factory=list)
    rejects: list[Path] = field(default_factory=list)
    read: int = 0
    written: int = 0
    rejected: int = 0


def row_file(
    spec: str, signature: Signature, config: Config, *, ignore: Iterable[str] = (), keep: bool = False
) -> RowFile:
    """The rows of *spec* for a model: without its target, and without the columns that the project ignores."""
    dropped = {config.target, signature.target, *config.ignore, *ignore}
    lines = Path(spec).name.removesuffix(".gz").endswith((".jsonl", ".ndjson")) and Path(spec).is_file()
    inputs = None if lines else config.inputs

    def wanted(name: str) -> bool:
        return name not in dropped and (inputs is None or name in inputs)

    return RowFile(spec, {f.name: f for f in signature.inputs}, source_limits(config), wanted, keep=keep)


def predict_file(
    project: OpenProject,
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    keep_inputs: bool = False,
    scores: bool = False,
    ignore: Sequence[str] = (),
    skip_bad: bool = False,
    on_event: OnEvent = _unheard,
) -> JSON:
    """Answer every row of *source* in *output*.

    Args:
        project: whose model answers.
        source: a file, a folder, or a data set by name.
        output: CSV, JSON lines or Parquet, by its name; it is replaced when everything is answered.
        model: the champion unless given.
        keep_inputs: every column of the source is written before the answer, but for pixels.
        scores: the probability of each label or action is written, too.
        ignore: columns that are no inputs.
        skip_bad: rows that cannot be answered are written to ``OUTPUT.rejects.jsonl``; otherwise the first one ends it.
        on_event: told how far it is.

    Returns:
        ``{"model", "output", "rows", "rejected", "rejects", "resumed"}``: the rows answered, those left out, the file
        that names them, and after how many rows it went on.

    Raises:
        InputError: a row cannot be answered; the message names its place and field.
        SourceError: the source cannot be read.
        NotFoundError: there is no folder for the output.
        BusyError: another process is writing the same output.
        StoreError: the disk is full.
    """
    target = Path(output)
    made = sheet_class(target)
    if not target.absolute().parent.is_dir():
        raise NotFoundError("there is no such folder", where=str(target.parent), mend="Make it, or check the path.")
    run = _Run(project, str(source), target, made, model, keep_inputs, scores, tuple(ignore), skip_bad, on_event)
    try:
        return run.run()
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(target)):
            raise
        what = f"the answers cannot be written ({error.strerror})"
        mend = "Check the disk and that you may write there, and give the same command again: it goes on from here."
        raise StoreError(what, where=str(target), mend=mend) from error


class _Run:
    def __init__(
        self,
        project: OpenProject,
        source: str,
        target: Path,
        sheet: type[Sheet],
        model: str | None,
        keep: bool,
        scores: bool,
        ignore: tuple[str, ...],
        skip_bad: bool,
        on_event: OnEvent,
    ) -> None:
        self.project = project
        self.source = source
        self.target = target
        self.sheet = sheet
        self.model = model
        self.keep = keep
        self.scores = scores
        self.ignore = ignore
        self.skip_bad = skip_bad
        self.on_event = on_event
        self.folder = target.with_name(f"{target.name}.parts")
        self.rejects = target.with_name(f"{target.name}.rejects.jsonl")
        self.most = project.config.limits.image_pixels

    def run(self) -> JSON:
        with self._locked():
            try:
                return self._answer_all()
            finally:
                if self.folder.exists() and _read(self.folder / "000001.json") is None:
                    shutil.rmtree(self.folder)  # there is nothing to go on from

    def _answer_all(self) -> JSON:
        model, predictor, rows = self._begin()
        done = self._found()
        resumed = done.read
        total, estimated = rows.about()
        columns = self._columns(predictor, rows)
        sheet = self.sheet(columns.all, predictor.signature.separator or ";")
        written = [path for path in done.parts if path.exists()]
        if written and isinstance(sheet, Parquet):
            sheet.settle(written[0])

        def tell(read: int) -> None:
            event = {"stage": "predict", "what": "answering", "done": read, "total": total, "estimated": estimated}
            self.on_event(event)

        for part in _parts(itertools.islice(iter(rows), done.read, None)):
            self._write(sheet, predictor, part, done, tell)
        self._finish(sheet, done)
        return {
            "model": model,
            "output": str(self.target),
            "rows": done.written,
            "rejected": done.rejected,
            "rejects": str(self.rejects) if done.rejected else None,
            "resumed": resumed,
        }

    def _rows(self, signature: Signature) -> RowFile:
        return row_file(self.source, signature, self.project.config, ignore=self.ignore, keep=self.keep)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The folder of the parts, for this process alone."""
        self.folder.mkdir(exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = "another process is writing this file"
                raise BusyError(what, where=str(self.target), mend="Wait for it, or name another file.") from None
            yield
        finally:
            os.close(descriptor)

    def _begin(self) -> tuple[str, Predictor, RowFile]:
        """The model that answers, and the rows. What a run of another plan has left is removed."""
        before = _read(self.folder / "plan.json")
        wanted = self.project.model(self.model).id
        began = None if before is None or self.model is not None else before.get("model")
        for model in dict.fromkeys(filter(None, (began, wanted))):
            try:
                predictor = self.project.open_serving(model)
            except NotFoundError:
                if model == wanted:
                    raise
                continue  # cleaned away meanwhile
            rows = self._rows(predictor.signature)
            plan = {
                "schema": SCHEMA,
                "model": model,
                "state": predictor.state_id,
                "source": rows.fingerprint(),
                "format": self.sheet.__name__,
                "keep_inputs": self.keep,
                "scores": self.scores,
                "ignore": sorted(self.ignore),
            }
            if plan == before:
                return model, predictor, rows
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()
        _keep(self.folder / "plan.json", json.dumps(plan).encode())
        return model, predictor, rows

    def _found(self) -> _Done:
        """The parts that are whole, one after the other."""
        done = _Done()
        while (said := _read(self._named(done, "json"))) is not None:
            done.parts.append(self._named(done, "part"))
            _count(done, said, self._named(done, "rejects", back=1))
        return done

    def _named(self, done: _Done, kind: str, back: int = 0) -> Path:
        return self.folder / f"{len(done.parts) + 1 - back:06}.{kind}"

    def _columns(self, predictor: Predictor, rows: RowFile) -> Columns:
        spec = predictor.manifest.answer
        answers = answer_columns(spec, scores=self.scores)
        kept: dict[str, Any] = {}
        if self.keep:
            kept = rows.types() or dict.fromkeys(self._first_kept(rows))
            clash = next((name for name in kept if name in answers or name == ORIGIN), None)
            if clash is not None:
                raise InputError(
                    f"the file has a column {clash!r}, and so has the answer",
                    where=self.source,
                    mend="Rename it, or leave --keep-inputs out.",
                )
        return Columns(answers, kept)

    def _first_kept(self, rows: RowFile) -> list[str]:
        """The columns of JSON lines: the fields of the first part, in the order in which they come."""
        first = (row.kept for row in itertools.islice(iter(rows), PART_ROWS) if isinstance(row, Row))
        return list(dict.fromkeys(name for kept in first for name in kept))

    def _write(
        self, sheet: Sheet, predictor: Predictor, part: Sequence[Row | Bad], done: _Done, tell: Callable[[int], None]
    ) -> None:
        """Answer a part, and make it durable; its marker comes last."""
        rows: list[Mapping[str, Any]] = []
        bad: list[InputError] = []
        for item in part:
            if isinstance(item, Bad):
                self._reject(item.error, bad)
        good = [(done.read + place, item) for place, item in enumerate(part) if isinstance(item, Row)]
        for start in range(0, len(good), AT_ONCE):
            chunk = good[start : start + AT_ONCE]
            tell(done.read + start)
            for row, answer in self._answers(predictor, chunk, bad):
                rows.append({**self._kept(sheet, row), ORIGIN: row.origin, **flat(answer, scores=self.scores)})
        if rows:
            draft = self._named(done, "draft")
            sheet.write(rows, draft)
            _settle(draft, self._named(done, "part"))
        else:
            self._named(done, "part").unlink(missing_ok=True)
        if bad:
            lines = b"".join(json.dumps(error.to_json()["error"]).encode() + b"\n" for error in bad)
            _keep(self._named(done, "rejects"), lines)
        said = {"read": len(part), "written": len(rows), "rejected": len(bad)}
        _keep(self._named(done, "json"), json.dumps(said).encode())
        done.parts.append(self._named(done, "part"))
        _count(done, said, self._named(done, "rejects", back=1))
        tell(done.read)

    def _kept(self, sheet: Sheet, row: Row) -> Mapping[str, Any]:
        if not self.keep:
            return {}
        strange = next((name for name in row.kept if name not in sheet.types), None)
        if strange is not None and not self.target.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            raise InputError(
                f"the first rows have no field {strange!r}",
                where=row.origin,
                mend="Give all rows the same fields, or write JSON lines.",
            )
        return row.kept

    def _answers(
        self, predictor: Predictor, rows: Sequence[tuple[int, Row]], bad: list[InputError]
    ) -> Iterator[tuple[Row, JSON]]:
        """The answers to good rows, each with its place in the file; of the others the errors, or the first raised."""
        checked: list[tuple[int, Row]] = []
        for place, row in rows:
            try:
                require_short(row, self.project.config.limits.text_mb)
                checked.append((place, row))
            except InputError as error:
                self._reject(error, bad)
        if not checked:
            return
        try:
            yield from self._answered(predictor, checked)
        except InputError:
            yield from self._answered(predictor, [item for item in checked if self._fits(predictor, item[1], bad)])

    def _answered(self, predictor: Predictor, placed: Sequence[tuple[int, Row]]) -> Iterator[tuple[Row, JSON]]:
        places, rows = [place for place, _ in placed], [row for _, row in placed]
        yield from zip(rows, predictor.predict(rows, max_pixels=self.most, places=places), strict=True)

    def _fits(self, predictor: Predictor, row: Row, bad: list[InputError]) -> bool:
        try:
            predictor.encode([row], max_pixels=self.most)
        except InputError as error:
            where = ", ".join(part for part in (row.origin, error.where) if part is not None)
            self._reject(type(error)(error.what, where=where or None, mend=error.mend), bad)
            return False
        return True

    def _reject(self, error: InputError, bad: list[InputError]) -> None:
        if not self.skip_bad:
            mend = f"{error.mend or ''} Or leave such rows out with --skip-bad: it goes on from here.".strip()
            raise type(error)(error.what, where=error.where, mend=mend)
        bad.append(error)

    def _finish(self, sheet: Sheet, done: _Done) -> None:
        """Join the parts, put the whole in its place, and tidy up."""
        if done.read == 0:
            raise InputError("there is no row", where=self.source, mend="Give at least one row.")
        draft = self.target.with_name(f"{self.target.name}.tmp")
        sheet.join([path for path in done.parts if path.exists()], draft)
        if done.rejects:
            rejects = self.rejects.with_name(f"{self.rejects.name}.tmp")
            with rejects.open("wb") as file:
                for path in done.rejects:
                    file.write(path.read_bytes())
            _settle(rejects, self.rejects)
        else:
            self.rejects.unlink(missing_ok=True)
        _settle(draft, self.target)
        shutil.rmtree(self.folder)


def answer_columns(spec: Mapping[str, Any], *, scores: bool) -> dict[str, Any]:
    """The columns of the answers by *spec*, with their Arrow types.

    >>> list(answer_columns({"kind": "regression", "interval": {"level": 0.9, "offset": 0.0}}, scores=False))
    ['predicted_value', 'predicted_low', 'predicted_high']
    """
    number, text = pa.float64(), pa.string()
    if spec["kind"] == "choice":
        shares = {f"predicted_propensity_{action}": number for action in spec["labels"]} if scores else {}
        return {"predicted_action": text, "predicted_propensity": number, **shares}
    if spec["kind"] == "regression":
        return {f"predicted_{n}": number for n in ("value", *(("low", "high") if spec.get("interval") else ()))}
    each = {f"predicted_score_{label}": number for label in spec["labels"]} if scores else {}
    if spec["kind"] == "multilabel":
        return {"predicted_labels": pa.list_(text), **each}
    columns = {"predicted_label": text, "predicted_score": number}
    if any(spec.get(key) is not None for key in ("abstain_cost", "threshold")):
        columns["predicted_guess"] = text
    return {**columns, **each}


def flat(answer: Mapping[str, Any], *, scores: bool) -> dict[str, Any]:
    """One answer as cells of these columns.

    >>> flat({"label": None, "abstained": True, "guess": "ebb", "score": 0.5, "scores": {}}, scores=True)
    {'predicted_label': None, 'predicted_score': 0.5, 'predicted_guess': 'ebb'}
    """
    cells = {f"predicted_{n}": answer[n] for n in _CELLS if n in answer}
    if "interval" in answer:
        cells["predicted_low"], cells["predicted_high"] = answer["interval"]
    if scores:
        cells |= {f"predicted_score_{label}": score for label, score in answer.get("scores", {}).items()}
        cells |= {f"predicted_propensity_{action}": p for action, p in answer.get("propensities", {}).items()}
    return cells


def _parts(items: Iterator[Row | Bad]) -> Iterator[list[Row | Bad]]:
    """So many rows, or so many bytes, at a time: where they end depends on the rows alone."""
    part: list[Row | Bad] = []
    size = 0
    for item in items:
        part.append(item)
        size += sum(_size(value) for value in item.values()) if isinstance(item, Row) else 0
        if len(part) >= PART_ROWS or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _size(value: Any) -> int:
    return int(getattr(value, "nbytes", 0)) or (len(value) if isinstance(value, str | bytes | list) else 8)


def _count(done: _Done, said: Mapping[str, int], rejects: Path) -> None:
    done.read += said["read"]
    done.written += said["written"]
    done.rejected += said["rejected"]
    if said["rejected"]:
        done.rejects.append(rejects)


def _read(path: Path) -> JSON | None:
    try:
        said = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _keep(path: Path, content: bytes) -> None:
    """Write a small file that is there as a whole or not at all, and stays."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    _settle(draft, path)


def _settle(draft: Path, path: Path) -> None:
    """Give a file that is written its name, after which both survive a loss of power."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        seam.sync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    seam.sync_folder(path.parent)
