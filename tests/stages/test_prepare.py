"""Prepare, on real data and in a real store: cleaned, deduplicated, split for good, and said."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tidemill.config import Config, make_config
from tidemill.data.dataset import DatasetArrays, folders, open_assignments, open_dataset
from tidemill.data.encode import decode_row, encode
from tidemill.data.keys import content_keys, key_text
from tidemill.data.schema import Field, Signature
from tidemill.data.sources import Summary, open_source
from tidemill.errors import NotFoundError, SourceError
from tidemill.records import Dataset, Prediction, new_id
from tidemill.stages.prepare import prepare
from tidemill.store import Store, create_store
from tidemill.tasks._sources import signature_of, summarise_sources
from tidemill.tasks.image_classification import ImageClassification
from tidemill.tasks.tabular_classification import TabularClassification


@dataclass(frozen=True)
class Said:
    """One settled sample from traffic."""

    prediction: Prediction
    label: Any
    split: str = "train"
    weight: float = 1.0


@dataclass(frozen=True)
class Settled:
    live: list[Said] = field(default_factory=list)
    annotations: dict[str, Any] = field(default_factory=dict)
    contradictions: dict[str, Any] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)


class Workshop:
    """A store, and prepare with few words."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.events: list[dict[str, Any]] = []

    def config(self, source: Any, target: str = "label", **more: Any) -> Config:
        task = "image-classification" if target == "label" else "tabular-classification"
        return make_config(task=task, data=[str(source)], target=target, **more)

    def make(self, source: Any, target: str = "label", *, settled: Settled | None = None, **more: Any) -> DatasetArrays:
        task = ImageClassification() if target == "label" else TabularClassification()
        config = self.config(source, target, **more)
        sources = source if isinstance(source, list) else [str(source)]
        identifier = prepare(self.store, task, config, sources, settled or Settled(), on_event=self.events.append)
        return open_dataset(self.store.root, self.record(identifier))

    def record(self, identifier: str) -> Dataset:
        return self.store.get(Dataset, identifier)

    def report(self, data: DatasetArrays) -> dict[str, tuple[int, list[str]]]:
        actions = self.record(data.id).report["actions"]
        assert all(len(a["examples"]) <= 5 for a in actions)
        return {a["what"]: (a["count"], a["examples"]) for a in actions}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    store = create_store(tmp_path / ".tidemill")
    yield Workshop(store)
    store.close()


def prediction(inputs: dict[str, Any]) -> Prediction:
    return Prediction(id=new_id("pred"), deployment="d", model_id="m", key="0" * 16, inputs=inputs, answer={})


def split_names(data: DatasetArrays) -> dict[str, str]:
    """The split of every kept sample by its id."""
    kept = np.flatnonzero(data.split < 5)
    return {data.sample_id(int(r)): str(data.split[r]) for r in kept}


def write(path: Path, header: str, lines: list[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


# --- real data


def test_mnist_as_it_lies(shop: Workshop, data_dir: Path) -> None:
    data = shop.make(data_dir / "mnist")
    counts = shop.record(data.id).counts
    assert counts["reference"] == 10_000 and counts["train"] + counts["validation"] == 60_000
    assert 5_500 < counts["validation"] < 6_500 and counts["dropped"] == counts["unlabelled"] == 0
    rows = data.rows("reference")
    assert np.array_equal(rows, np.arange(60_000, 70_000))
    assert np.bincount(data.target[rows])[:3].tolist() == [980, 1135, 1032]
    some = rows[[7, 3, 9_999]]
    pixels = data.columns(some)["image"]
    assert isinstance(pixels, np.ndarray) and pixels.shape == (3, 28, 28, 1)
    assert data.origin(int(some[1])) == "t10k-images-idx3-ubyte.gz, row 4"
    shown = encode(data.signature, [data.show(int(some[0]))])
    assert np.array_equal(shown["image"][0], pixels[0])
    assert content_keys(shown, data.signature)[0] == data.content[some[0]]
    assert sum(len(c["image"]) for c in data.chunks(rows, 999)) == 10_000
    assert shop.events[-1]["total"] == 70_000


def test_adult_census_mess_is_cleaned_and_counted(shop: Workshop, data_dir: Path) -> None:
    data = shop.make(data_dir / "adult-census", "income")
    assert data.signature.labels == ("<=50K", ">50K")
    report = shop.report(data)
    assert report["spellings of a missing value (?, NA, …) were taken for missing"][0] == 6465
    assert report["variant spellings of a label were merged"] == (
        16281,
        ["'<=50K.' is '<=50K'", "'>50K.' is '>50K'"],
    )
    assert report["padded values were stripped"][1][0] == "adult-train.csv, row 1: column_2 = ' State-gov'"
    merged = report["equal rows were merged into one of their weight"][0]
    leaked = report["source rows that match rows of a test or validation split were dropped"][0]
    counts = shop.record(data.id).counts
    assert counts["dropped"] == merged + leaked
    kept = data.split < 5
    assert data.weight[kept].sum() == 48842 - leaked
    assert {f.name for f in data.signature.inputs if f.optional} == {"column_2", "column_7", "column_14"}
    trained = set(data.content[data.rows("train")].tolist()) | set(data.content[data.rows("validation")].tolist())
    assert not trained & set(data.content[data.rows("reference")].tolist())


def test_files_named_one_by_one_are_the_same_as_their_folder(shop: Workshop, tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "adult"
    folder.mkdir()
    for name in ("adult-train.csv", "adult-test.csv"):
        lines = (data_dir / "adult-census" / name).read_text().splitlines()[:1000]
        (folder / name).write_text("\n".join(lines))
    data = shop.make([str(folder / "adult-test.csv"), str(folder / "adult-train.csv")], "income")
    again = shop.make(folder, "income")
    assert data.id == again.id and len(again.parts) == 2


def test_cifar_zip(shop: Workshop, data_dir: Path) -> None:
    data = shop.make(data_dir / "cifar10-5k" / "cifar10-5k.zip")
    counts = shop.record(data.id).counts
    assert counts["reference"] == 1000 and counts["train"] + counts["validation"] == 4000
    assert len(data.signature.labels) == 10


# --- idempotence and stability


def test_the_same_content_has_the_same_id_and_one_row(shop: Workshop, tmp_path: Path) -> None:
    first = shop.make("sklearn:digits")
    before = {p: p.stat().st_mtime_ns for p in (shop.store.root / "data").rglob("*") if p.is_file()}
    assert shop.make("sklearn:digits").id == first.id
    assert {p: p.stat().st_mtime_ns for p in (shop.store.root / "data").rglob("*") if p.is_file()} == before
    assert shop.store.count(Dataset) == 1
    with create_store(tmp_path / "other") as other:  # and in another project
        assert Workshop(other).make("sklearn:digits").id == first.id
    assert shop.make("sklearn:digits", splits={"seed": 1}).id == first.id  # what is assigned stays


def test_splits_stay_when_rows_are_added_and_settings_change(shop: Workshop, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{a:.6f},{b:.6f},{'yes' if a > b else 'no'}" for a, b in rng.normal(size=(600, 2))]
    path = write(tmp_path / "a.csv", "a,b,answer", lines[:300])
    old = split_names(shop.make(path, "answer"))
    write(path, "a,b,answer", list(reversed(lines)))
    data = shop.make(path, "answer", splits={"validation": 0.3, "reference": 0.4, "seed": 5})
    new = split_names(data)
    assert len(new) == 600 and {k: new[k] for k in old} == old
    fresh = [v for k, v in new.items() if k not in old]
    assert 0.3 < fresh.count("2") / 300 < 0.5
    assert shop.store.count(Dataset) == 2
    record = shop.record(data.id)
    assert (open_assignments(shop.store.root, record).lookup(data.content) == data.split).all()


def test_killed_while_importing_starts_again(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", "a,answer", [f"{i},{'yn'[i % 2]}" for i in range(50)])

    def killed(_event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    config = shop.config(path, "answer")
    with pytest.raises(KeyboardInterrupt):
        prepare(shop.store, TabularClassification(), config, [str(path)], Settled(), on_event=killed)
    assert shop.store.count(Dataset) == 0
    assert shop.record(shop.make(path, "answer").id).report["rows"] == 50
    assert not list((shop.store.root / "data").rglob(".*"))


# --- labels


def digits_npz(path: Path, labelled: int) -> tuple[Path, np.ndarray, np.ndarray]:
    batch = next(iter(open_source("sklearn:digits").batches()))
    images, labels = np.asarray(batch.columns["image"]), np.asarray(batch.columns["label"]).astype(np.int64)
    given = labels[:400].copy()
    given[labelled:] = -1
    np.savez(path, x_train=images[:400], y_train=given, x_test=images[1500:], y_test=labels[1500:])
    return path, images, labels


def test_few_labels_and_the_rest_unlabelled(shop: Workshop, tmp_path: Path) -> None:
    path, _, _ = digits_npz(tmp_path / "digits.npz", 100)
    data = shop.make(path)
    counts = shop.record(data.id).counts
    assert counts["unlabelled"] == 300 and counts["reference"] == 297
    assert counts["train"] + counts["validation"] == 100 and counts["validation"] > 0
    assert len(data.rows("train", labelled=False)) + len(data.rows("validation", labelled=False)) == 300
    assert len(data.rows("train", labelled=None)) == counts["train"] + len(data.rows("train", labelled=False))


def test_a_start_without_any_label_then_annotations(shop: Workshop, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,answer", [f"{i}," for i in range(40)])
    with pytest.raises(SourceError, match="no sample has a label"):
        shop.make(path, "answer")
    data = shop.make(path, "answer", labels=["no", "yes"])
    assert shop.record(data.id).counts["unlabelled"] == 40
    row = int(data.rows("train", labelled=False)[3])
    labelled = shop.make(
        path, "answer", labels=["no", "yes"], settled=Settled(annotations={data.sample_id(row): "yes"})
    )
    assert labelled.id != data.id and np.array_equal(labelled.split, data.split)
    assert labelled.target[row] == 1 and (labelled.target >= 0).sum() == 1
    assert shop.report(labelled)["unlabelled samples were labelled by annotators"][0] == 1


def test_annotators_name_the_classes_when_nobody_else_did(shop: Workshop, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,answer", [f"{i}," for i in range(40)])
    data = shop.make(path, "answer", labels=["no", "yes"])
    said = {data.sample_id(i): "ebb" if i % 2 else "flow" for i in range(20)}
    named = shop.make(path, "answer", settled=Settled(annotations=said))
    assert named.signature.labels == ("ebb", "flow") and (named.target >= 0).sum() == 20


def test_annotators_override_the_source(shop: Workshop) -> None:
    data = shop.make("sklearn:digits")
    row = int(data.rows("train")[5])
    wrong = {data.sample_id(row): "9" if data.target[row] != 9 else "8", "smp_zz": "1", data.sample_id(3): "eleven"}
    changed = shop.make(
        "sklearn:digits", settled=Settled(annotations=wrong, contradictions={"pred_1": {"1": 1, "2": 1}})
    )
    assert data.signature.labels[changed.target[row]] == wrong[data.sample_id(row)]
    report = shop.report(changed)
    assert report["labels of the source were overridden by annotators"][0] >= 1
    assert report["annotations that fit no class or sample were left out"][0] == 2
    assert changed.signature == data.signature
    assert report["inputs on which people disagree wait to be settled"] == (1, ["pred_1"])


def test_traffic_joins_and_keeps_its_splits(shop: Workshop, tmp_path: Path) -> None:
    path, images, labels = digits_npz(tmp_path / "digits.npz", 400)
    imported = shop.make(path)
    shown = [prediction({"image": images[i, ..., 0].tolist()}) for i in range(400, 460)]
    splits = ["train", "recent-validation", "recent-test"]
    said = [Said(p, str(labels[400 + i]), splits[i % 3], 20.0 if i % 3 else 1.0) for i, p in enumerate(shown)]
    first = shop.make(path, settled=Settled(live=said[:30]))
    counts = shop.record(first.id).counts
    assert (counts["recent-test"], counts["recent-validation"]) == (10, 10)
    assert counts["train"] == shop.record(imported.id).counts["train"] + 10
    row = int(first.rows("recent-test")[0])
    assert first.origin(row) == shown[2].id and first.weight[row] == 20
    assert first.signature.labels[first.target[row]] == str(labels[402])
    assert np.array_equal(first.columns(np.array([row, 0]))["image"], images[[402, 0]])

    second = shop.make(path, settled=Settled(live=said))
    assert len(second.parts) == len(first.parts) + 1 and second.parts[: len(first.parts)][0].path == first.parts[0].path
    old, new = split_names(first), split_names(second)
    assert {k: new[k] for k in old} == old
    assert shop.make(path, settled=Settled(live=said)).id == second.id
    assert set(folders(shop.store.root, shop.record(second.id))) >= {p.path for p in second.parts}

    fewer = shop.make(path, settled=Settled(live=said[1:]))  # a statement was withdrawn
    assert shop.record(fewer.id).counts["train"] == shop.record(second.id).counts["train"] - 1


def test_live_samples_never_bring_test_rows_into_training(shop: Workshop, tmp_path: Path) -> None:
    path, images, labels = digits_npz(tmp_path / "digits.npz", 400)
    data = shop.make(path)
    repeats = [prediction({"image": images[i, ..., 0].tolist()}) for i in (1500, 0, 1)]
    near = images[1501].astype(int)
    near[0, 0] += 1
    said = [
        Said(repeats[0], "0"),  # a reference row
        Said(repeats[1], str(labels[0])),  # a training row, agreed
        Said(repeats[2], str((labels[1] + 1) % 10)),  # a training row, contradicted
        Said(prediction({"image": near[..., 0].tolist()}), "0"),  # all but a reference row
        Said(prediction({"image": [[0, 1], [2]]}), "0"),  # fits no longer
        Said(prediction({"image": images[700, ..., 0].tolist()}), "banana"),
    ]
    after = shop.make(path, settled=Settled(live=said))
    assert after.id == data.id, "nothing of it may change the data"
    config = shop.config(path)
    extra = Said(prediction({"image": images[701, ..., 0].tolist()}), str(labels[701]))
    identifier = prepare(shop.store, ImageClassification(), config, [str(path)], Settled(live=[*said, extra]))
    report = {a["what"]: a["count"] for a in shop.record(identifier).report["actions"]}
    assert report["newcomers that tie two splits together were dropped"] == 2
    assert report["live labels that contradict the label of an imported sample were left out"] == 1
    assert report["samples from traffic that no longer fit the signature were left out"] == 1
    assert report["live labels of no known class were left out"] == 1


def test_many_rows_are_decided_as_few_rows_are(
    shop: Workshop, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number of rows only those that are tied to others are seen together: the outcome is the same."""
    path, images, labels = digits_npz(tmp_path / "digits.npz", 400)
    arrays = dict(np.load(path))
    arrays["x_train"][5] = arrays["x_test"][9]
    arrays["x_train"][7] = arrays["x_train"][3]
    arrays["x_train"][9] = arrays["x_train"][4] + 1
    np.savez(path, **arrays)
    said = Settled(
        live=[Said(prediction({"image": images[i, ..., 0].tolist()}), str(labels[i])) for i in (1500, 1000, 1001)],
        annotations={"smp_zz": "1"},
    )
    lines = (data_dir / "adult-census" / "adult-train.csv").read_text().splitlines()[:4000]
    lines[100:110] = lines[:10]
    lines[3000] = lines[3000].rpartition(",")[0] + ", rare"
    lines[110] = lines[11].replace(">50K", "x").replace("<=50K", ">50K").replace("x", "<=50K")
    table = tmp_path / "a.csv"
    table.write_text("\n".join(lines))
    few = [shop.make(path, settled=said), shop.make(table, "income")]
    monkeypatch.setattr("tidemill.data.table.IN_MEMORY", 200)
    monkeypatch.setattr("tidemill.data.sorting.IN_MEMORY", 200)
    monkeypatch.setattr("tidemill.data.splits.IN_MEMORY", 200)
    monkeypatch.setattr("tidemill.data.build.FEW_LABELS", 10)
    monkeypatch.setattr("tidemill.data.table.FEW_LABELS", 10)
    with create_store(tmp_path / "other") as store:
        other = Workshop(store)
        many = [other.make(path, settled=said), other.make(table, "income")]
        assert [d.id for d in many] == [d.id for d in few]
        assert [other.make(path, settled=said).id, other.make(table, "income").id] == [d.id for d in few]
        for a, b in zip(few, many, strict=True):
            assert shop.record(a.id).counts == other.record(b.id).counts
            assert shop.report(a) == other.report(b)
            assert np.array_equal(a.keys, b.keys) and np.array_equal(a.split, b.split)


def test_many_small_live_parts_become_one(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.stages.prepare.MAX_LIVE_PARTS", 3)
    path = write(tmp_path / "a.csv", "a,answer", [f"{i},{'yn'[i % 2]}" for i in range(50)])
    said: list[Said] = []
    sizes = []
    for i in range(6):
        said.append(Said(prediction({"a": 1000 + i}), "y"))
        data = shop.make(path, "answer", settled=Settled(live=said))
        sizes.append(len(data.parts))
        assert data.n == 51 + i
    assert sizes == [2, 3, 4, 2, 3, 4]


# --- duplicates, near copies, leakage


def test_exact_and_near_duplicates_and_leakage_of_images(shop: Workshop, tmp_path: Path, data_dir: Path) -> None:
    with zipfile.ZipFile(data_dir / "cifar10-5k" / "cifar10-5k.zip") as archive:
        names = archive.namelist()
        trains = [n for n in names if n.startswith("train/cat/")][:30]
        others = [n for n in names if n.startswith("train/dog/")][:30]
        tests = [n for n in names if n.startswith(("test/cat/", "test/dog/"))][:30]
        files = {n: archive.read(n) for n in [*trains, *others, *tests]}
    extra = {
        "train/cat/leak.png": files[tests[0]],
        "train/cat/twice.png": files[trains[0]],
        "train/dog/other-label.png": files[trains[1]],
        "train/dog/truncated.png": files[trains[2]][:200],
    }
    buffer = io.BytesIO()
    Image.open(io.BytesIO(files[tests[1]])).convert("RGB").save(buffer, "JPEG", quality=96, subsampling=0)
    extra["train/cat/near-leak.jpg"] = buffer.getvalue()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in {**files, **extra}.items():
            archive.writestr(name, content)
    data = shop.make(tmp_path / "a.zip")
    report = shop.report(data)
    leaked = report["source rows that match rows of a test or validation split were dropped"]
    assert leaked[0] == 2 and set(leaked[1]) == {"a/train/cat/leak.png", "a/train/cat/near-leak.jpg"}
    assert report["exact duplicates were dropped"][0] == 1
    assert report["duplicates with contradicting labels were taken for unlabelled"][0] == 2
    assert report["near copies were found: they share a split, or are dropped"][0] == 1
    assert report["the image could not be read and was left out"][0] == 1
    assert shop.record(data.id).counts["reference"] == 30


def test_text_near_copies_share_a_split(shop: Workshop, tmp_path: Path) -> None:
    lines = [f'"Number {i}: the tide comes in, and goes out",{"ab"[i % 2]}' for i in range(200)]
    lines += [f'"NUMBER {i}  the tide comes in and goes out!",{"ab"[i % 2]}' for i in range(200)]
    path = write(tmp_path / "a.csv", "text,answer", [*lines, ",a"])

    class TextTask(TabularClassification):
        def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
            assert source.columns[0].type == "text"
            inputs = (Field(name="text", type="text", optional=True),)
            return Signature(inputs=inputs, target=target, kind="classification", labels=tuple(labels))

    config = shop.config(path, "answer")
    identifier = prepare(shop.store, TextTask(), config, [str(path)], Settled())
    data = open_dataset(shop.store.root, shop.record(identifier))
    assert np.array_equal(data.split[:200], data.split[200:400]) and len(set(data.split[:200].tolist())) == 3
    assert np.array_equal(data.keys[:200], data.keys[200:400]) and data.split[400] == 255
    assert shop.report(data)["near copies were found: they share a split, or are dropped"][0] == 200


def test_tables_of_few_possible_rows_are_kept_by_weight(shop: Workshop, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{a},{b},{'yes' if rng.random() < (a + b) / 6 else 'no'}" for a, b in rng.integers(0, 4, (800, 2))]
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.csv", "a,b,answer", lines[:600])
    write(tmp_path / "set" / "test.csv", "a,b,answer", lines[600:])
    data = shop.make(tmp_path / "set", "answer")
    report = shop.report(data)
    assert report["rows that stand in several splits were kept, since the inputs can take few values only"][0] == 600
    assert data.weight[data.split < 5].sum() == 800
    for label in (0, 1):
        expected = sum(line.endswith(("no", "yes")[label]) for line in lines[600:])
        rows = data.rows("reference")
        assert data.weight[rows][data.target[rows] == label].sum() == expected
    kept = np.flatnonzero(data.split < 5)
    ids = [data.sample_id(int(r)) for r in kept]
    assert shop.make(tmp_path / "set", "answer").id == data.id
    assert len(set(zip(ids, data.split[kept].tolist(), strict=True))) == len(ids)


# --- splits by group and time


def test_groups_stay_whole_and_their_column_is_no_input(shop: Workshop, tmp_path: Path) -> None:
    lines = [f"{i},u{i % 37},{'yn'[i % 2]}" for i in range(600)]
    path = write(tmp_path / "a.csv", "a,user,answer", lines)
    data = shop.make(path, "answer", splits={"policy": "group", "key": "user"})
    assert [f.name for f in data.signature.inputs] == ["a"]
    for user in range(37):
        assert len(set(data.split[user::37].tolist())) == 1
        assert len(set(data.keys[user::37].tolist())) == 1
    assert set(data.split.tolist()) == {0, 1, 2}


def test_time(shop: Workshop, tmp_path: Path) -> None:
    lines = [f"{i},2026-{i % 12 + 1:02d}-{i % 28 + 1:02d},{'yn'[i % 2]}" for i in range(300)]
    path = write(tmp_path / "a.csv", "a,day,answer", lines)
    data = shop.make(path, "answer", splits={"policy": "time", "key": "day", "reference": 0.25})
    days = np.asarray(data.columns(np.arange(300))["day"])
    assert days[data.split == 2].min() >= days[data.split == 1].max() >= days[data.split == 0].max()
    assert 70 <= (data.split == 2).sum() <= 80
    with pytest.raises(SourceError, match="Did you mean 'day'"):
        shop.make(path, "answer", splits={"policy": "time", "key": "days"})
    with pytest.raises(SourceError, match="it has none"):
        shop.make(path, "answer", splits={"policy": "source"})


# --- bad input


def test_targets_that_are_not_there_and_classes_that_are_few(shop: Workshop, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "size,answer", [f"{i},{'yn'[i % 2]}" for i in range(50)])
    with pytest.raises(SourceError, match=r"no column 'anser'.*Did you mean 'answer'"):
        shop.make(path, "anser")
    with pytest.raises(SourceError, match=r"no column 'sise'.*Did you mean 'size'"):
        shop.make(path, "answer", ignore=["sise"])
    with pytest.raises(SourceError, match="no column to learn from"):
        shop.make(path, "answer", ignore=["size"])
    with pytest.raises(SourceError, match="same label"):
        shop.make(write(tmp_path / "b.csv", "size,answer", [f"{i},y" for i in range(50)]), "answer")
    assert shop.store.count(Dataset) == 0
    alone = shop.make(
        write(tmp_path / "c.csv", "size,answer", [f"{i},{'yn'[i % 2] if i else 'z'}" for i in range(50)]), "answer"
    )
    assert data_label(alone, 0) == "z" and alone.split[0] == 0


def data_label(data: DatasetArrays, row: int) -> str:
    return data.signature.labels[int(data.target[row])]


def test_empty_rows_infinities_and_words_among_numbers(shop: Workshop, tmp_path: Path) -> None:
    lines = [f"{i},c{i % 3},{'yn'[i % 2]}" for i in range(200)]
    lines[10:14] = [",,y", "inf,c1,n", "about 7,c1,y", "8.5,c2,"]
    data = shop.make(write(tmp_path / "a.csv", "a,b,answer", lines), "answer")
    report = shop.report(data)
    assert report["rows without any input were dropped"] == (1, ["a.csv, row 11"])
    assert report["infinite numbers were taken for missing"] == (1, ["a.csv, row 12: a"])
    assert report["text where a number belongs was taken for missing"] == (1, ["a.csv, row 13: a = 'about 7'"])
    assert shop.record(data.id).counts["unlabelled"] == 1
    assert data.show(11) == {"a": None, "b": "c1"}


def test_a_source_that_holds_only_a_test_split(shop: Workshop, tmp_path: Path) -> None:
    path = write(tmp_path / "test.csv", "a,answer", [f"{i},{'yn'[i % 2]}" for i in range(60)])
    data = shop.make(path, "answer")
    assert set(data.split.tolist()) == {0, 1, 2}
    assert shop.report(data)["rows of a source that has no training split; its split was set aside"][0] == 60


def test_unknown_samples(shop: Workshop) -> None:
    data = shop.make("sklearn:digits")
    row = int(data.rows("reference")[1])
    assert data.row_of(data.sample_id(row)) == row
    assert data.sample_id(row) == "smp_" + key_text(data.content[row])
    with pytest.raises(NotFoundError, match="no sample smp_0000000000000000"):
        data.row_of("smp_" + "0" * 16)
    shown = data.show(row)
    assert decode_row(data.signature, encode(data.signature, [shown]), 0) == shown


def test_signature_follows_the_configuration(shop: Workshop) -> None:
    config = shop.config("sklearn:wine", "target", inputs=["alcohol", "hue"])
    summary = summarise_sources(shop.store.root, [open_source("sklearn:wine")])
    signature = signature_of(TabularClassification(), config, summary)
    assert [f.name for f in signature.inputs] == ["alcohol", "hue"] and len(signature.labels) == 3


# --- memory


def anonymous() -> int:
    status = Path(f"/proc/{psutil.Process().pid}/status")
    if not status.exists():
        pytest.skip("anonymous memory is read from /proc")
    line = next(x for x in status.read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_memory_stays_flat(shop: Workshop, tmp_path: Path, long_set: Callable[[Path, int], Path]) -> None:
    shop.make(long_set(tmp_path / "small.npz", 200))  # warm up: imports, pools
    before = anonymous()
    path = long_set(tmp_path / "large.npz", 2000)
    highest = before

    def watch(_event: dict[str, Any]) -> None:
        nonlocal highest
        highest = max(highest, anonymous())

    config = shop.config(path)
    prepare(shop.store, ImageClassification(), config, [str(path)], Settled(), on_event=watch)
    size = path.stat().st_size
    assert size > 90 << 20
    assert highest - before < size / 2


@pytest.fixture
def long_set() -> Callable[[Path, int], Path]:
    def make(path: Path, rows: int) -> Path:
        rng = np.random.default_rng(rows)
        images = rng.integers(0, 256, (rows, 128, 128, 3), np.uint8)
        np.savez(path, x=images, y=np.arange(rows) % 4)
        return path

    return make
