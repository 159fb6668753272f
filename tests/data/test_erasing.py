"""Rows of parts and versions are overwritten where they lie, do not train again, and are found by nobody."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.data import erasing
from tidemill.data.build import build_index
from tidemill.data.clean import Tally
from tidemill.data.dataset import DatasetArrays, write_version
from tidemill.data.erasing import DONE, OVERWRITTEN, erase_in_version, finish, overwrite, rows_in, rows_of, without
from tidemill.data.forgotten import WHAT, Forgotten, digest_of, digests, veiled
from tidemill.data.keys import key_array, key_text
from tidemill.data.parts import Part, SideColumns, import_part, live_part, open_part
from tidemill.data.schema import Field, Signature
from tidemill.data.sources import open_source
from tidemill.data.splits import DROPPED, UNKNOWN, Assignments, SplitPolicy
from tidemill.data.tied import LiveLabel

MARK = "Zyxomma petiolatum"
FIRST = "Zyxomma"
SECRET = b"k" * 32
SIGNATURE = Signature(
    inputs=(Field(name="text", type="text"), Field(name="size", type="number"), Field(name="kind", type="category")),
    target="label",
    kind="classification",
    labels=("no", "yes"),
)
NONE = Forgotten(SECRET, np.empty(0, np.uint64))
ROWS = 120
GONE = (113, 40)
"""Rows of the source that are erased; the second is a near copy of row 41, whose content nobody erases."""


def row_of(number: int) -> tuple[str, float, str]:
    """Text, size and kind of a row of the source."""
    if number == 40:
        return f"{MARK} 41!", 41 / 7, f"{FIRST}-41"
    return f"{MARK} {number}", number / 7, f"{FIRST}-{number}"


def write_source(folder: Path) -> Path:
    rows = [(*row_of(i), "yes" if i % 2 else "no") for i in range(ROWS)]
    path = folder / "people.csv"
    lines = "".join(f"{','.join(map(str, row))}\n" for row in rows)
    path.write_text(f"text,size,kind,label\n{lines}", encoding="utf-8")
    return path


def imported(root: Path, source: Path, forgotten: Forgotten = NONE) -> Part:
    return import_part(root, open_source(str(source)), SIGNATURE, SideColumns(), forgotten=forgotten)


def version(
    root: Path, parts: list[Part], previous: Assignments, work: Path, name: str, spoken: tuple[str, ...] = ("pred_1",)
) -> tuple[DatasetArrays, Tally]:
    work.mkdir()
    tally = Tally()
    live = {identifier: LiveLabel("yes", "train", 1.0) for identifier in spoken}
    index = build_index(parts, SIGNATURE, live, {}, previous, SplitPolicy(), tally, work)
    path = write_version(root, name, SIGNATURE, parts, index, {"actions": []})
    return DatasetArrays(root, path), tally


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    inputs = [{"text": f"live {i}", "size": i, "kind": "k"} for i in (1, 2)]
    live = live_part(root, SIGNATURE, [(f"pred_{i}", row) for i, row in enumerate(inputs, 1)])
    assert live is not None
    parts = [imported(root, write_source(root)), live]
    version(root, parts, Assignments.empty(), root / "work", "data_1", ("pred_1", "pred_2"))
    return root


@pytest.fixture
def root(_made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(_made, tmp_path / "root")


def opened(root: Path) -> DatasetArrays:
    return DatasetArrays(root, "data/versions/data_1")


def erase(root: Path, rows: tuple[int, ...] = GONE) -> None:
    """Those rows of the source, and what pred_2 asked."""
    arrays, origins = opened(root), {"pred_2"}
    content = np.asarray(arrays.content[list(rows)])
    for part in arrays.parts:
        overwrite(root, part, rows_of(part, content, origins))
    erase_in_version(root / "data/versions/data_1", opened(root).parts, np.empty(0, np.int64), SECRET)
    for part in opened(root).parts:
        finish(root, part, SECRET)


def traces(root: Path, *needles: bytes) -> list[str]:
    files = [path for path in (root / "data").rglob("*") if path.is_file()]
    assert len(files) > 20
    return sorted(path.name for path in files if any(needle in path.read_bytes() for needle in needles))


def test_every_byte_of_a_row_goes_and_no_other(root: Path) -> None:
    before, row = opened(root), GONE[0]
    text, size, kind = row_of(row)
    keys = [before.content[row], before.keys[row], before.parts[0].array("near")[row]]
    needles = [text.encode(), kind.encode(), np.float64(size).tobytes(), f"people.csv, row {row + 1}".encode()]
    needles += [np.uint64(key).tobytes() for key in keys]
    assert all(traces(root, needle) for needle in needles) and traces(root, b"live 2")
    shown = {i: before.show(i) for i in range(before.n) if i not in (row, ROWS + 1)}
    erase(root, (row,))
    assert traces(root, *needles, b"live 2") == []
    after = opened(root)
    assert {i: after.show(i) for i in shown} == shown
    assert after.origin(row).strip() == "" and after.origin(ROWS + 1) == "pred_2", "the ids of predictions stay"


def test_erased_rows_leave_their_version_and_its_neighbours_stay(root: Path) -> None:
    before = opened(root)
    split, target, content = (np.array(a) for a in (before.split, before.target, before.content))
    cluster = np.flatnonzero(before.keys == before.keys[41])
    assert cluster.tolist() == [40, 41], "near copies share a key"
    erase(root)
    after = opened(root)
    gone = [*GONE, ROWS + 1]
    assert (np.delete(after.split, gone) == np.delete(split, gone)).all() and (after.split[gone] == DROPPED).all()
    assert (np.delete(after.target, gone) == np.delete(target, gone)).all() and (after.target[gone] == -1).all()
    assert (np.delete(after.content, gone) == np.delete(content, gone)).all() and (after.weight[gone] == 0).all()
    assert len(np.unique(after.content)) == len(content)
    for array in (after.content, after.samples, after.keys):
        assert not np.isin(content[gone], array).any(), "also where a cluster was named by it"


def test_a_content_that_somebody_else_has_too_keeps_its_split(root: Path) -> None:
    arrays = opened(root)
    content, (text, size, kind) = arrays.content[5], row_of(5)
    known = Assignments.open(root / "data/versions/data_1")
    assert known.lookup(np.array([content]))[0] != UNKNOWN
    other = live_part(root, SIGNATURE, [("pred_9", {"text": text, "size": size, "kind": kind})])
    assert other is not None and other.array("content")[0] == content
    parts = [*arrays.parts, other]
    version(root, parts, known, root / "again", "data_2", ("pred_9",))
    for part in parts:
        overwrite(root, part, rows_of(part, np.array([content]), ()))
    for name in ("data_1", "data_2"):
        folder = root / "data/versions" / name
        erase_in_version(folder, DatasetArrays(root, f"data/versions/{name}").parts, np.empty(0, np.int64), SECRET)
    codes = [Assignments.open(root / f"data/versions/data_{i}").lookup(np.array([content]))[0] for i in (1, 2)]
    assert codes[0] == UNKNOWN and codes[1] != UNKNOWN


def test_rows_whose_label_is_taken_back_keep_their_inputs(root: Path) -> None:
    erase_in_version(root / "data/versions/data_1", opened(root).parts, np.array([ROWS]), SECRET)
    after = opened(root)
    assert after.split[ROWS] == DROPPED and after.target[ROWS] == -1
    assert after.show(ROWS)["text"] == "live 1" and (np.delete(after.split, ROWS) != DROPPED).sum() > 100


STEPS = {"_blank": 5, "_put": 5, "_forget_assignments": 1, "replace_manifest": 1, "save_array": 1}
"""Where to stop, and how often one step of that kind is passed over for each at which it is stopped."""


@pytest.mark.parametrize("step", STEPS)
def test_whoever_is_stopped_anywhere_begins_again_and_comes_to_the_same_end(
    step: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "_flush", lambda _array: None)  # what is written is seen at once here
    whole = shutil.copytree(root, tmp_path / "whole")
    calls = counted(monkeypatch, step, None)
    content = np.asarray(opened(root).content[list(GONE)])
    KNOWN.update(np.delete(opened(root).content, [*GONE, ROWS + 1]).tolist())
    again(whole, content)
    expected = state(whole)
    assert calls[0] >= 1
    for at in range(0, calls[0], STEPS[step]):
        copy = shutil.copytree(root, tmp_path / f"{at}")
        with monkeypatch.context() as patch:
            counted(patch, step, at)
            with pytest.raises(Stopped):
                again(copy, content)
        again(copy, content)
        assert state(copy) == expected
        assert traces(copy, *(np.uint64(key).tobytes() for key in content)) == []


KNOWN: set[int] = set()
"""The keys of rows that are not erased."""


class Stopped(BaseException):
    """The process ends here."""


def counted(patch: pytest.MonkeyPatch, step: str, at: int | None) -> list[int]:
    """Count calls of a step, and stop at the one with this number, before it does anything."""
    calls, real = [0], getattr(erasing, step)

    def called(*arguments: Any) -> Any:
        calls[0] += 1
        if at is not None and calls[0] == at + 1:
            raise Stopped
        return real(*arguments)

    patch.setattr(erasing, step, called)
    return calls


def again(root: Path, content: Any) -> None:
    """As an erasure does it, from what is found."""
    for part in opened(root).parts:
        overwrite(root, part, rows_of(part, content, {"pred_2"}))
    parts = opened(root).parts
    if any(len(rows_in(part, OVERWRITTEN)) for part in parts):
        erase_in_version(root / "data/versions/data_1", parts, np.empty(0, np.int64), SECRET)
    for part in parts:
        finish(root, part, SECRET)


def state(root: Path) -> dict[str, Any]:
    """Every file; of erased rows not their keys, which may have become digests of digests."""
    parts = opened(root).parts
    assert all(len(rows_in(part, OVERWRITTEN)) == 0 and len(rows_in(part, DONE)) for part in parts)
    left = {}
    for path in (root / "data").rglob("*.*"):
        content: Any = path.read_bytes()
        if content.startswith(b"\x93NUMPY") and (keys := np.load(path)).dtype == np.uint64:
            content = sorted(set(keys.tolist()) & KNOWN)
        left[str(path.relative_to(root))] = content
    return left


@pytest.mark.parametrize("gone", [[0], [9], [0, 1, 2], [3, 4, 8, 9], list(range(10))])
def test_assignments_that_go_leave_the_others_in_order(gone: list[int], tmp_path: Path) -> None:
    keys = np.sort(np.random.default_rng(0).integers(1, 2**63, 10).astype(np.uint64))
    codes = (np.arange(10) % 5).astype(np.uint8)
    Assignments(keys, codes).save(tmp_path)
    erasing._forget_assignments(tmp_path, keys[gone])
    left = Assignments.open(tmp_path)
    assert (np.diff(left.keys.astype(np.float64)) >= 0).all() and len(left.keys) == 10
    stays = np.setdiff1d(np.arange(10), gone)
    assert (left.lookup(keys[stays]) == codes[stays]).all()
    assert (left.lookup(keys[gone]) == UNKNOWN).all()
    (tmp_path / "work").mkdir()
    more = left.extended([(np.array([5], np.uint64), np.array([1], np.uint8))], tmp_path / "work")
    assert (more.lookup(keys[stays]) == codes[stays]).all() and more.lookup(np.array([5], np.uint64))[0] == 1


@pytest.mark.parametrize("in_memory", [10**6, 50])
def test_a_source_that_still_has_them_is_read_without_them(
    in_memory: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("table", "splits", "sorting"):
        monkeypatch.setattr(f"tidemill.data.{module}.IN_MEMORY", in_memory)
    before = opened(root)
    known = Forgotten(SECRET, np.sort(digests(SECRET, np.asarray(before.content[list(GONE)]))))
    erase(root)
    previous = Assignments.open(root / "data/versions/data_1")
    same, tally = version(root, opened(root).parts, previous, tmp_path / "same", "data_2")
    assert tally.counts[WHAT] == 2 and tally.examples[WHAT] == []
    fresh = imported(tmp_path / "fresh", write_source(tmp_path), known)
    assert fresh.n == ROWS - 2
    assert [a["count"] for a in fresh.actions if a["what"] == WHAT] == [2]
    assert not any(b"41!" in path.read_bytes() for path in (tmp_path / "fresh").rglob("*.*"))
    assert int((same.split != DROPPED).sum()) == ROWS - 2 + 1
    other, more = version(tmp_path / "fresh", [fresh], Assignments.empty(), tmp_path / "other", "data_3")
    assert WHAT not in more.counts and other.n == ROWS - 2


def test_digests_need_the_secret_and_follow_the_content() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    one, other = digests(SECRET, keys), digests(b"x" * 32, keys)
    assert len(np.unique(one)) == 1000 and not np.isin(one, keys).any() and not np.isin(one, other).any()
    sample = f"smp_{key_text(7)}"
    assert digest_of(SECRET, sample) == f"smp~{key_text(digests(SECRET, key_array([key_text(7)]))[0])}"
    known = Forgotten(SECRET, np.sort(digests(SECRET, keys[3:5])))
    assert np.flatnonzero(known.mask(keys)).tolist() == [3, 4] and not NONE.mask(keys).any() and not NONE
    assert veiled(["a", "b", "a"], SECRET)[0] == veiled(["a"], SECRET)[0] and len(set(veiled(["a", "b"], SECRET))) == 2


def test_examples_that_name_a_row_are_left_out() -> None:
    actions: list[dict[str, Any]] = [{"what": "w", "count": 3, "examples": ["a.csv, row 1", "a.csv, row 2: 'x'"]}]
    assert without(actions, []) == actions
    assert without(actions, ["a.csv, row 2"])[0]["examples"] == ["a.csv, row 1"]


def test_a_part_that_was_never_erased_from_has_no_states(root: Path) -> None:
    part = open_part(root, opened(root).parts[0].path)
    assert "forgotten" not in part.index and len(rows_in(part, OVERWRITTEN)) == 0
