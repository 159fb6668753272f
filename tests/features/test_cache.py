"""The feature cache: a hit reads nothing, a kill leaves nothing half done, and memory stays flat."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tidemill.data.arrays import take
from tidemill.data.schema import Field, Signature
from tidemill.errors import StoreError, TrainingError
from tidemill.features.cache import feature_set

SPECS = [{"step": "pixels"}]


class Digits:
    """A dataset version in memory: every fifth digit validates, every seventh has no label."""

    def __init__(self, name: str = "data_digits") -> None:
        bunch = load_digits()
        self.id = name
        shape = (8, 8, 1)
        self.signature = Signature(
            inputs=(Field(name="image", type="image", shape=shape),),
            target="digit",
            kind="classification",
            labels=tuple("0123456789"),
        )
        self._columns = {"image": bunch.images.astype(np.uint8)[..., None]}
        self.n = len(bunch.target)
        self.target = np.where(np.arange(self.n) % 7 == 0, -1, bunch.target).astype(np.int32)
        self.weight = np.ones(self.n, np.float32)
        self.reads = 0

    def rows(self, split: str, labelled: bool | None = True) -> np.ndarray:
        validates = np.arange(self.n) % 5 == 0
        return np.flatnonzero((validates == (split == "validation")) & (self.target >= 0))

    def chunks(self, rows: np.ndarray, size: int = 4096):
        for start in range(0, len(rows), size):
            self.reads += 1
            yield take(self._columns, rows[start : start + size])

    def columns(self, rows: np.ndarray):
        return take(self._columns, rows)


def test_training_rows_come_first_then_validation_rows(tmp_path: Path) -> None:
    digits = Digits()
    found = feature_set(digits, SPECS, tmp_path)
    train, validation = digits.rows("train"), digits.rows("validation")
    assert found.train == len(train) and found.rows.tolist() == [*train, *validation]
    np.testing.assert_array_equal(found.arrays["image"], digits.columns(found.rows)["image"])
    np.testing.assert_array_equal(found.target, digits.target[found.rows])
    assert found.target.dtype == np.int64 and found.target.min() == 0 and found.weight is None
    assert isinstance(found.arrays["image"], np.memmap) and not found.arrays["image"].flags.writeable
    # the state is of the training rows alone
    assert found.info["image"].meta["mean"][0] == pytest.approx(digits.columns(train)["image"].mean())


def test_a_second_run_finds_it_and_another_spec_does_not(tmp_path: Path) -> None:
    digits = Digits()
    first = feature_set(digits, SPECS, tmp_path)
    digits.reads = 0
    again = feature_set(digits, SPECS, tmp_path)
    assert digits.reads == 0 and again.pipeline.to_json() == first.pipeline.to_json()
    other = feature_set(digits, [{"step": "pixel_vector"}], tmp_path)
    assert digits.reads > 0 and set(other.arrays) == {"x"}
    digits.reads = 0
    feature_set(Digits("data_other"), SPECS, tmp_path)
    assert len(list(tmp_path.glob("*/*/complete.json"))) == 3


def test_new_labels_and_weights_are_seen_without_building_again(tmp_path: Path) -> None:
    digits = Digits()
    feature_set(digits, SPECS, tmp_path)
    row = int(digits.rows("train")[0])
    digits.target[row], digits.weight[row] = 7, 0.5
    digits.reads = 0
    found = feature_set(digits, SPECS, tmp_path)
    assert digits.reads == 0 and found.target[0] == 7 and found.weight is not None and found.weight[0] == 0.5


def test_other_rows_under_the_same_name_are_built_again(tmp_path: Path) -> None:
    digits = Digits()
    feature_set(digits, SPECS, tmp_path)
    digits.target[digits.rows("train")[:10]] = -1
    found = feature_set(digits, SPECS, tmp_path)
    assert len(found.arrays["image"]) == len(found.rows) == len(found.target)
    np.testing.assert_array_equal(found.arrays["image"], digits.columns(found.rows)["image"])


@pytest.mark.parametrize("damage", ["truncate", "remove", "unmark", "garble"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: str) -> None:
    digits = Digits()
    whole = feature_set(digits, SPECS, tmp_path)
    expected = np.array(whole.arrays["image"])
    folder = next(tmp_path.glob("*/*"))
    if damage == "truncate":
        data = (folder / "image.npy").read_bytes()
        (folder / "image.npy").unlink()
        (folder / "image.npy").write_bytes(data[:-100])
    elif damage == "remove":
        (folder / "rows.npy").unlink()
    elif damage == "unmark":
        (folder / "complete.json").unlink()
    else:
        (folder / "complete.json").write_text("{")
    digits.reads = 0
    np.testing.assert_array_equal(feature_set(digits, SPECS, tmp_path).arrays["image"], expected)
    assert digits.reads > 0


def test_what_another_process_finished_meanwhile_is_left_in_its_place(tmp_path: Path) -> None:
    """It may be open there: to put one's own in its place would take the files from under a reader."""

    class Overtaken(Digits):
        def chunks(self, rows: np.ndarray, size: int = 4096):
            if not self.reads:
                other = multiprocessing.get_context("fork").Process(
                    target=feature_set, args=(Digits(), SPECS, tmp_path)
                )
                other.start()
                other.join()
                assert other.exitcode == 0
                self.seen = complete(tmp_path)
            yield from super().chunks(rows, size)

    digits = Overtaken()
    found = feature_set(digits, SPECS, tmp_path)
    assert complete(tmp_path) == digits.seen
    np.testing.assert_array_equal(found.arrays["image"], digits.columns(found.rows)["image"])
    assert [path.suffix for path in tmp_path.glob("*/*")] == [""]


def complete(root: Path) -> int:
    (marker,) = root.glob("*/*/complete.json")
    return marker.stat().st_ino


CHILD = """
import os, signal, sys
import importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("cache_test", {test!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from tidemill.features import cache

class Dying(module.Digits):
    def chunks(self, rows, size=4096):
        passes = getattr(self, "passes", 0)
        self.passes = passes + 1
        for i, chunk in enumerate(super().chunks(rows, 100)):
            if passes == 1 and i == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk

cache.feature_set(Dying(), module.SPECS, Path({root!r}))
"""


def test_a_process_killed_in_the_middle_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    script = textwrap.dedent(CHILD).format(test=__file__, root=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".part"]
    digits = Digits()
    found = feature_set(digits, SPECS, tmp_path)
    np.testing.assert_array_equal(found.arrays["image"], digits.columns(found.rows)["image"])
    assert [path.suffix for path in tmp_path.glob("*/*")] == [""]  # and what the dead one left is gone


def test_a_failed_write_is_one_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tidemill.features.cache.np.save", full)
    with pytest.raises(StoreError, match="No space left on device"):
        feature_set(Digits(), SPECS, tmp_path)
    assert list(tmp_path.glob("*/*")) == []


def test_no_labels_is_said(tmp_path: Path) -> None:
    digits = Digits()
    digits.target[:] = -1
    with pytest.raises(TrainingError, match="no labelled training rows"):
        feature_set(digits, SPECS, tmp_path)


GROWTH = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np
spec = importlib.util.spec_from_file_location("cache_test", {test!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from tidemill.features import cache

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

class Large(module.Digits):
    def __init__(self, n):
        super().__init__()
        self.n, self.most = n, 0
        mapped = np.lib.format.open_memmap(Path({root!r}) / "raw.npy", "w+", np.uint8, (n, 28, 28, 1))
        self._columns = {{"image": mapped}}
        self.target, self.weight = np.zeros(n, np.int32), np.ones(n, np.float32)
    def chunks(self, rows, size=4096):
        for chunk in super().chunks(rows, size):
            yield chunk
            self.most = max(self.most, anonymous())

module.feature_set(module.Digits(), module.SPECS, Path({root!r}))
before = anonymous()
large = Large(80_000)
cache.feature_set(large, [{{"step": "pixel_vector", "max_side": 14}}, {{"step": "pixels"}}], Path({root!r}))
print(json.dumps({{"grown": large.most - before}}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_anonymous_memory_stays_flat(tmp_path: Path) -> None:
    """63 MB of images become 126 MB of features; what grows is a few chunks (24 MB measured) and the row numbers."""
    script = GROWTH.format(test=__file__, root=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert json.loads(ran.stdout)["grown"] < 48 << 20
