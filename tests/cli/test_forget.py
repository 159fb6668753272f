"""``tidemill forget`` shows what would go, asks before it erases, and says what it could not erase."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tidemill
from tidemill.records import Prediction
from tidemill.store import new_prediction_id

ROW = {"petal length (cm)": 1.4}


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived") / "irises"
    tidemill.init(folder, data="sklearn:iris", target="target").store.close()
    project = tidemill.open(folder)
    with contextlib.closing(project.store) as store:
        for caller in ("ann", "ann", "bob"):
            made = Prediction(
                id=new_prediction_id(store.secret),
                deployment="d",
                model_id="model_1",
                key=f"{store.count(Prediction):016x}",
                inputs=ROW,
                answer={},
                caller=caller,
            )
            store.insert(made)
        project.backup(folder / "kept.tar.zst")
    return folder


@pytest.fixture
def folder(_lived: Path, tmp_path: Path) -> Path:
    return shutil.copytree(_lived, tmp_path / "irises")


def erased(folder: Path) -> list[str]:
    with contextlib.closing(tidemill.open(folder).store) as store:
        return [p.id for p in store.find(Prediction) if p.erased]


def test_a_dry_run_says_what_would_go(run: Callable[..., Any], folder: Path) -> None:
    said = run("forget", "--author", "ann", "--dry-run", "-C", folder)
    assert said.code == 0 and "would erase  2 predictions" in said.out and "kept.tar.zst, made 2" in said.out
    assert erased(folder) == []


def test_nobody_is_asked_where_nobody_can_answer(run: Callable[..., Any], folder: Path) -> None:
    for more in ((), ("--json",)):
        said = run("forget", "--author", "ann", "-C", folder, *more)
        assert said.code == 2 and "nothing was erased" in said.out + said.err and "--yes" in said.out + said.err
    assert erased(folder) == []


@pytest.mark.parametrize(("answer", "gone"), [("n\n", 0), ("y\n", 2)])
def test_somebody_at_a_terminal_is_asked(
    answer: str, gone: int, run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    said = run("forget", "--author", "ann", "-C", folder)
    assert said.code == 0 and "would erase" in said.err and "Erase this for good?" in said.err
    assert ("nothing was erased" in said.err) is (gone == 0)
    assert len(erased(folder)) == gone


def test_it_says_what_it_did_and_that_it_did_it_before(run: Callable[..., Any], folder: Path) -> None:
    done = run("forget", "--author", "ann", "--yes", "--json", "-C", folder).json
    assert done["counts"]["predictions"] == 2 and done["next"] == [] and done["models"] == []
    one = erased(folder)[0]
    again = run("forget", "--id", one, "--yes", "-C", folder)
    assert again.code == 0 and f"erased before  {one}" in again.out
    assert "there is nothing of it here" in run("forget", "--author", "ann", "--yes", "-C", folder).out
    traced = run("trace", one, "-C", folder)
    assert traced.out.startswith("erased") and done["erasure"] in traced.out
    traced = run("trace", done["erasure"], "-C", folder)
    assert one in traced.out and "ann" not in traced.out


def test_it_is_told_what_to_forget(run: Callable[..., Any], folder: Path) -> None:
    said = run("forget", "--yes", "-C", folder)
    assert said.code == 2 and "--author NAME, or --id ID" in said.err
    said = run("forget", "--id", "run_1", "--yes", "-C", folder)
    assert said.code == 2 and "nothing that a person gave" in said.err


def test_restoring_reminds_of_what_was_erased(run: Callable[..., Any], folder: Path) -> None:
    run("forget", "--author", "ann", "--yes", "-C", folder)
    said = run("restore", folder / "kept.tar.zst", folder.parent / "back")
    assert said.code == 0 and "erase it anew with `tidemill forget`" in said.err
    assert erased(folder.parent / "back") == []
