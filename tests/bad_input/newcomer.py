"""The program as its user meets it: commands with what they print, small tables, and what a refusal may not change."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidemill.cli.main import main

HEADER = "size,tide,label\n"


@dataclass(frozen=True)
class Outcome:
    """How ``tidemill … --json`` ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one document of stdout."""
        return json.loads(self.out)

    def refusal(self) -> str:
        """The message of a refusal, which has three parts and no traceback."""
        assert self.code == 2, self.out + self.err
        assert "Traceback" not in self.err
        error = self.document["error"]
        assert error["what"], error
        assert error["mend"], error
        return " | ".join(str(error[part]) for part in ("what", "where", "mend"))


def tidemill(*arguments: str | Path, cwd: Path | None = None) -> Outcome:
    """``tidemill ARGUMENTS --json`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if cwd is not None:
            stack.enter_context(contextlib.chdir(cwd))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        left = stack.enter_context(pytest.raises(SystemExit))
        main([*map(str, arguments), "--json"])
    return Outcome(int(left.value.code or 0), out.getvalue(), err.getvalue())


def rows(n: int, label: Callable[[int], str] = lambda i: ("ebb", "flood")[i % 2], *, seed: int = 0) -> str:
    """Rows whose label follows from their size."""
    rng = random.Random(seed)
    return "".join(f"{rng.gauss(i % 2 * 4, 1):.4f},{('spring', 'neap', 'mean')[i % 3]},{label(i)}\n" for i in range(n))


def quick(folder: Path) -> None:
    """Let the project try nothing but its baselines, which take no time."""
    config = folder / "tidemill.yaml"
    text = config.read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.strip(" #").startswith("exclude:")]
    slow = {"image": "[cnn, cnn-small]", "text": "[linear, ngram-net, transformer]", "tabular": "[lightgbm, mlp]"}
    offered = slow[text.partition("\ntask: ")[2].partition("-")[0]]
    config.write_text("\n".join(lines).replace("\nrecipes:", f"\nrecipes:\n  exclude: {offered}"), "utf-8")


def start(folder: Path, data: str | Path, *arguments: str | Path) -> Path:
    """A project on *data*, whose cycles are quick."""
    made = tidemill("init", folder, "--data", data, "--target", "label", *arguments)
    assert made.code == 0, made.out
    quick(folder)
    return folder


def cycle(folder: Path) -> Outcome:
    """One cycle."""
    return tidemill("cycle", "-C", folder, "--max-trials", 0)


def actions(folder: Path) -> dict[str, tuple[int, list[str]]]:
    """What the last dataset's report says was done: count and examples by what."""
    from tidemill.project import OpenProject

    with contextlib.closing(OpenProject(folder).store) as _store:
        dataset = OpenProject(folder).dataset
    assert dataset is not None
    return {a["what"]: (a["count"], a["examples"]) for a in dataset.report["actions"]}


def state(folder: Path) -> dict[str, Any]:
    """What a refusal may not change: the champion, and how many records of each kind there are."""
    from tidemill.project import OpenProject
    from tidemill.records import Dataset, Decision, Feedback, Model, Prediction, Run

    project = OpenProject(folder)
    with contextlib.closing(project.store) as store:
        champion = store.champion()
        kinds: Iterable[Any] = (Dataset, Decision, Feedback, Model, Prediction, Run)
        return {"champion": champion and champion.id, **{k.__name__: store.count(k) for k in kinds}}
