"""Several labels a row through the data room, on MovieLens titles and genres: lists and separated texts alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.data.build import build_index
from tidemill.data.clean import Tally
from tidemill.data.dataset import DatasetArrays, write_version
from tidemill.data.parts import SideColumns, import_part, live_part
from tidemill.data.schema import Field, Signature
from tidemill.data.sources import open_source
from tidemill.data.splits import Assignments, SplitPolicy
from tidemill.data.targets import label_bits
from tidemill.data.tied import LiveLabel


def movies(data_dir: Path) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    """Titles, their genres, and all genres."""
    folder = data_dir / "ml-100k"
    names = [line.split("|")[0] for line in (folder / "u.genre").read_text("latin-1").splitlines() if "|" in line]
    titles, genres = [], []
    for line in (folder / "u.item").read_text("latin-1").splitlines():
        cells = line.split("|")
        titles.append(cells[1])
        genres.append([name for name, given in zip(names, cells[5:], strict=True) if given == "1"])
    return titles, genres, tuple(sorted(names))


def signature_of(labels: tuple[str, ...], separator: str | None = None) -> Signature:
    title = Field(name="title", type="text")
    return Signature(inputs=(title,), target="genres", kind="multilabel", labels=labels, separator=separator)


def version(
    root: Path,
    path: Path,
    signature: Signature,
    *,
    live: Mapping[str, tuple[str, LiveLabel]] | None = None,
    annotations: Mapping[str, Any] | None = None,
) -> tuple[DatasetArrays, dict[str, tuple[int, list[str]]]]:
    """A dataset version of one file and some live titles, and what was done on the way."""
    parts = [import_part(root, open_source(path), signature, SideColumns())]
    if live:
        samples = [(name, {"title": title}) for name, (title, _) in live.items()]
        part = live_part(root, signature, samples)
        assert part is not None
        parts.append(part)
    tally = Tally()
    tally.merge(parts[0].actions)
    (root / "work").mkdir(exist_ok=True)
    labels = {name: label for name, (_, label) in (live or {}).items()}
    index = build_index(
        parts, signature, labels, annotations or {}, Assignments.empty(), SplitPolicy(), tally, root / "work"
    )
    name = index.identifier(signature)
    data = DatasetArrays(root, write_version(root, name, signature, parts, index, {}))
    return data, {a["what"]: (a["count"], a["examples"]) for a in tally.to_json()}


def table(path: Path, titles: list[Any], genres: Any) -> Path:
    pq.write_table(pa.table({"title": titles, "genres": genres}), path)
    return path


def test_lists_and_separated_texts_are_the_same_labels(tmp_path: Path, data_dir: Path) -> None:
    titles, genres, labels = movies(data_dir)
    lists, _ = version(tmp_path, table(tmp_path / "a.parquet", titles, genres), signature_of(labels))
    texts = ["|".join(g) for g in genres]
    parted, _ = version(tmp_path, table(tmp_path / "b.parquet", titles, texts), signature_of(labels, "|"))
    assert lists.target.dtype == np.int8 and lists.target.shape == (1682, 19)
    assert np.array_equal(lists.target, parted.target) and np.array_equal(lists.split, parted.split)
    assert lists.target[0].nonzero()[0].tolist() == [labels.index(g) for g in ("Animation", "Children's", "Comedy")]
    kept = lists.split < 5
    # 18 titles of the catalogue stand in it twice.
    assert int((~kept).sum()) == 18 and set(lists.target[kept].ravel().tolist()) == {0, 1}
    assert 250 < len(lists.rows("reference")) < 420 and not len(lists.rows("train", labelled=False))


def test_nothing_none_and_unlabelled_are_told_apart(tmp_path: Path) -> None:
    signature = signature_of(("a", "b"))
    genres = pa.array([["a"], [], None, ["b", "a", "a"], [" A. "], ["z"], [None, "b"]], pa.list_(pa.string()))
    data, report = version(tmp_path, table(tmp_path / "a.parquet", list("stuvwxy"), genres), signature)
    assert data.target.tolist() == [[1, 0], [0, 0], [-1, -1], [1, 1], [1, 0], [0, 0], [0, 1]]
    assert report["samples without a label were kept, to be asked about"] == (1, ["a.parquet, row 3"])
    assert report["variant spellings of a label were merged"] == (1, ["'A.' is 'a'"])
    assert report["labels of no known name were left out of their lists"] == (1, ["'z'"])

    texts = ["a", "|", None, "b| a|a", "A.|", "", "?"]
    data, report = version(
        tmp_path, table(tmp_path / "b.parquet", list("stuvwxy"), texts), signature_of(("a", "b"), "|")
    )
    assert data.target.tolist() == [[1, 0], [0, 0], [-1, -1], [1, 1], [1, 0], [-1, -1], [-1, -1]]
    assert report["samples without a label were kept, to be asked about"][0] == 3
    assert "genres = '?'" in next(e for w, (_, e) in report.items() if w.startswith("labels spelled like"))[0]


def test_what_people_say_overrides_and_adds(tmp_path: Path, data_dir: Path) -> None:
    titles, genres, labels = movies(data_dir)
    path = table(tmp_path / "a.parquet", titles[:200], [*genres[:199], None])
    signature = signature_of(labels)
    data, _ = version(tmp_path, path, signature)
    first, open_row = data.sample_id(0), data.sample_id(199)
    live = {
        "pred_1": ("A tide of mills (1996)", LiveLabel(["Drama", "War"], "train", 1.0)),
        "pred_2": ("A film of no kind (1997)", LiveLabel([], "recent-test", 4.0)),
        "pred_3": ("A film of an unknown kind (1998)", LiveLabel(["Silent"], "train", 1.0)),
    }
    said = {first: ["Comedy"], open_row: [], "smp_00": ["Drama"]}
    data, report = version(tmp_path, path, signature, live=live, annotations=said)
    assert data.target[0].nonzero()[0].tolist() == [labels.index("Comedy")]
    assert data.target[199].tolist() == [0] * 19
    assert [labels[i] for i in data.target[200].nonzero()[0]] == ["Drama", "War"]
    assert data.target[201].tolist() == [0] * 19 and data.weight[201] == 4.0 and data.split[202] == 255
    assert report["labels of the source were overridden by annotators"][0] == 1
    assert report["unlabelled samples were labelled by annotators"][0] == 1
    assert report["live labels of no known class were left out"] == (1, ["pred_3: ['Silent']"])
    assert report["annotations that fit no class or sample were left out"][0] == 1


def test_contradicting_duplicates_are_readable(tmp_path: Path) -> None:
    titles = ["same"] * 2 + ["most"] * 3 + ["other"]
    genres = [["a"], ["a", "b"], ["b"], ["b"], [], ["a"]]
    data, report = version(tmp_path, table(tmp_path / "a.parquet", titles, genres), signature_of(("a", "b")))
    said = report["duplicates with contradicting labels were taken for unlabelled"]
    assert said == (2, ["a.parquet, row 1: a (1) / a, b (1)"])
    assert report["duplicates with several labels were settled by majority"] == (
        3,
        ["a.parquet, row 3: b (2) / none of them (1)"],
    )
    assert data.target[data.split < 5].tolist() == [[-1, -1], [0, 1], [1, 0]]


@pytest.mark.parametrize("width", [1, 7, 64, 65, 200])
def test_bits_tell_sets_apart(width: int) -> None:
    rng = np.random.default_rng(width)
    target = rng.integers(0, 2, (300, width)).astype(np.int8)
    target[::50] = -1
    bits = label_bits(target)
    assert len(np.unique(bits)) == len(np.unique(target, axis=0))
