"""Splits: once assigned they stay, clusters stay whole, and nothing judged on was trained on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.data import splits
from tidemill.data.keys import mix
from tidemill.data.splits import DROPPED, REFERENCE, TRAIN, UNKNOWN, VALIDATION, Assignments, Rows, SplitPolicy, assign

NOBODY = Assignments.empty()


def extended(known: Assignments, keys: np.ndarray, codes: np.ndarray) -> Assignments:
    with tempfile.TemporaryDirectory() as folder:
        return known.extended([(keys[i : i + 300], codes[i : i + 300]) for i in range(0, len(keys), 300)], Path(folder))


def rows(
    n: int,
    *,
    preset: list[int] | None = None,
    cluster: list[int] | None = None,
    labelled: list[bool] | None = None,
    label: list[int] | None = None,
    time: list[float] | None = None,
    start: int = 0,
) -> Rows:
    known = np.ones(n, bool) if labelled is None else np.array(labelled)
    return Rows(
        keys=mix(np.arange(start, start + n, dtype=np.uint64)),
        cluster=np.arange(n) if cluster is None else np.array(cluster),
        preset=np.zeros(n, np.int8) if preset is None else np.array(preset, np.int8),
        labelled=known,
        label=np.where(known, 0 if label is None else np.array(label), -1).astype(np.int64),
        time=None if time is None else np.array(time),
    )


def test_shares_follow_the_policy() -> None:
    codes = assign(rows(20_000), NOBODY, SplitPolicy(validation=0.1, reference=0.2)).codes
    assert np.abs(np.bincount(codes, minlength=3) / 20_000 - [0.7, 0.1, 0.2]).max() < 0.01
    other = assign(rows(20_000), NOBODY, SplitPolicy(seed=1)).codes
    assert (other != codes).mean() > 0.3


def test_the_sources_split_is_kept_and_validation_carved() -> None:
    preset = [splits.SOURCE_TRAIN] * 800 + [splits.SOURCE_TEST] * 200
    codes = assign(rows(1000, preset=preset), NOBODY, SplitPolicy()).codes
    assert (codes[800:] == REFERENCE).all() and set(codes[:800]) == {TRAIN, VALIDATION}
    assert 40 < (codes == VALIDATION).sum() < 120
    preset[:100] = [splits.SOURCE_VALIDATION] * 100
    codes = assign(rows(1000, preset=preset), NOBODY, SplitPolicy()).codes
    assert (codes[:100] == VALIDATION).all() and (codes[100:800] == TRAIN).all()


def test_training_rows_near_a_test_row_are_dropped() -> None:
    given_ = rows(4, preset=[splits.SOURCE_TRAIN, splits.SOURCE_TEST, splits.SOURCE_TRAIN, 0], cluster=[0, 0, 1, 0])
    done = assign(given_, NOBODY, SplitPolicy(validation=1e-9))
    assert done.codes.tolist() == [DROPPED, REFERENCE, TRAIN, REFERENCE]
    assert done.leaked.tolist() == [True, False, False, False]


def test_a_newcomer_that_ties_two_splits_is_quarantined() -> None:
    first = rows(100)
    before = extended(NOBODY, first.keys, assign(first, NOBODY, SplitPolicy()).codes)
    codes = before.lookup(first.keys)
    trains, judges = int(np.argmax(codes == TRAIN)), int(np.argmax(codes == REFERENCE))
    cluster = list(range(100))
    cluster[judges] = cluster[trains]
    later = rows(103, cluster=[*cluster, trains, 101, trains], preset=[0] * 102 + [splits.LIVE_TRAIN])
    done = assign(later, before, SplitPolicy())
    assert np.array_equal(done.codes[:100], codes)
    assert done.codes[100] == done.codes[102] == DROPPED and done.quarantined[[100, 102]].all()
    assert done.codes[101] != DROPPED


def test_live_samples_keep_their_split_unless_their_content_has_one() -> None:
    presets = [splits.LIVE_TRAIN, splits.LIVE_VALIDATION, splits.LIVE_TEST]
    done = assign(rows(3, preset=presets), NOBODY, SplitPolicy())
    assert done.codes.tolist() == [TRAIN, splits.RECENT_VALIDATION, splits.RECENT_TEST]
    reference = Assignments(np.sort(rows(3).keys), np.full(3, REFERENCE, np.uint8))
    assert assign(rows(1, preset=[splits.LIVE_TRAIN]), reference, SplitPolicy()).codes.tolist() == [DROPPED]


def test_small_sets_leave_no_split_without_labels() -> None:
    for seed in range(40):
        policy = SplitPolicy(seed=seed, validation=0.05, reference=0.05)
        done = assign(rows(10), NOBODY, policy)
        assert set(done.codes.tolist()) == {TRAIN, VALIDATION, REFERENCE}
        assert done.moved.sum() <= 2
        few = assign(rows(40, labelled=[i < 9 for i in range(40)]), NOBODY, policy)
        assert not few.moved.any()


def test_the_only_sample_of_a_class_trains() -> None:
    for seed in range(30):
        done = assign(rows(30, label=[0] * 14 + [1] * 15 + [2]), NOBODY, SplitPolicy(seed=seed))
        assert done.codes[29] == TRAIN


def test_time_puts_the_newest_into_reference_and_rolls() -> None:
    policy = SplitPolicy(kind="time", validation=0.1, reference=0.2)
    done = assign(rows(100, time=[float(i) for i in range(100)]), NOBODY, policy)
    assert (done.codes[80:] == REFERENCE).all() and (done.codes[70:80] == VALIDATION).all()
    assert (done.codes[:70] == TRAIN).all()
    before = extended(NOBODY, rows(100).keys, done.codes)
    later = assign(rows(150, time=[float(i) for i in range(149)] + [float("nan")]), before, policy)
    assert np.array_equal(later.codes[:100], done.codes)
    assert later.codes[[148, 140]].tolist() == [REFERENCE, REFERENCE] and later.codes[[110, 149]].tolist() == [
        TRAIN,
        TRAIN,
    ]


@given(st.integers(0, 1000), st.integers(1, 120), st.data())
def test_assignments_are_stable_and_clusters_stay_whole(seed: int, n: int, data: st.DataObject) -> None:
    cluster = data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    _, compact = np.unique(cluster, return_inverse=True)
    preset = data.draw(st.lists(st.sampled_from(range(7)), min_size=n, max_size=n))
    labelled = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    all_rows = rows(n, preset=preset, cluster=compact.tolist(), labelled=labelled)
    policy = SplitPolicy(seed=seed)
    first = assign(all_rows, NOBODY, policy)
    for group in range(compact.max() + 1):
        assert len(set(first.codes[compact == group].tolist()) - {DROPPED}) <= 1
    kept = first.codes != DROPPED
    before = extended(NOBODY, all_rows.keys[kept], first.codes[kept])
    again = assign(all_rows, before, policy)
    assert np.array_equal(again.codes, first.codes)
    assert (first.codes != UNKNOWN).all()
    assert np.array_equal(first.codes == DROPPED, first.leaked | first.quarantined)


def test_assignments_are_found_again(tmp_path: Path) -> None:
    keys = mix(np.arange(1000, dtype=np.uint64))
    codes = (np.arange(1000) % 5).astype(np.uint8)
    some = extended(NOBODY, keys[:500], codes[:500])
    both = extended(some, keys, np.where(np.arange(1000) < 500, 4, codes).astype(np.uint8))
    both.save(tmp_path)
    opened = Assignments.open(tmp_path)
    assert isinstance(opened.keys, np.memmap)
    assert np.array_equal(opened.lookup(keys), codes)
    assert opened.lookup(mix(np.array([5000], np.uint64))).tolist() == [UNKNOWN]
    assert extended(opened, keys, codes) is opened
    with pytest.raises(ValueError, match="read-only"):
        opened.codes[0] = 0
