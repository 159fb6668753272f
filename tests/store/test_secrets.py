"""Prediction ids carry a check that only the project's secret can make; audit draws are fair and repeatable."""

from __future__ import annotations

import stat

import pytest

from tidemill.errors import StoreError
from tidemill.records import id_time
from tidemill.store import (
    Store,
    audit_draw,
    audit_split,
    check_prediction_id,
    create_store,
    new_prediction_id,
    open_store,
)

SECRET = bytes(range(32))
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


@pytest.fixture
def on() -> str:
    return "sqlite"  # the secret is a file


def test_an_id_passes_only_whole_and_with_its_own_secret() -> None:
    made = [new_prediction_id(SECRET) for _ in range(200)]
    assert all(check_prediction_id(SECRET, identifier) for identifier in made)
    assert made == sorted(made) and len(set(made)) == 200
    assert all(len(identifier) == 37 and set(identifier[5:]) <= set(LETTERS) for identifier in made)
    assert not any(check_prediction_id(bytes(32), identifier) for identifier in made)
    identifier = made[0]
    assert id_time(identifier) == id_time(identifier[:-6])
    for place in range(len(identifier)):
        for letter in {"0", "z", "é"} - {identifier[place]}:
            altered = identifier[:place] + letter + identifier[place + 1 :]
            assert not check_prediction_id(SECRET, altered), altered


@pytest.mark.parametrize(
    "guess", ["", "pred_", "pred_1", "run_" + "0" * 33, "pred_" + "0" * 32, "x" * 100_000, "☃" * 37]
)
def test_a_guess_does_not_pass(guess: str) -> None:
    assert not check_prediction_id(SECRET, guess)


def test_the_audit_draws_at_its_rate_and_the_same_each_time() -> None:
    keys = [f"{i:016x}" for i in range(20_000)]
    drawn = {key for key in keys if audit_draw(SECRET, 1, key, 0.05)}
    assert 870 < len(drawn) < 1130  # 1000 ± 4 standard deviations
    assert drawn == {key for key in keys if audit_draw(SECRET, 1, key, 0.05)}
    assert drawn < {key for key in keys if audit_draw(SECRET, 1, key, 0.10)}, (
        "a higher rate adds keys, and keeps those drawn"
    )
    again = {key for key in keys if audit_draw(SECRET, 2, key, 0.05)}
    assert 20 < len(drawn & again) < 90, "another generation draws anew: about 50 in common"
    foreign = {key for key in keys if audit_draw(bytes(32), 1, key, 0.05)}
    assert 20 < len(drawn & foreign) < 90, "and nobody foresees a draw without the secret"


def test_audited_keys_are_split_in_halves_whatever_was_drawn() -> None:
    drawn = [key for key in (f"{i:016x}" for i in range(40_000)) if audit_draw(SECRET, 1, key, 0.05)]
    validation = sum(audit_split(SECRET, key) == "recent-validation" for key in drawn)
    assert abs(validation - len(drawn) / 2) < 4 * (len(drawn) / 4) ** 0.5
    assert {audit_split(SECRET, key) for key in drawn} == {"recent-validation", "recent-test"}


def test_the_secret_is_the_owners_alone_and_stays(store: Store) -> None:
    path = store.root / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_store(store.root) as other:
        assert other.secret == store.secret and len(store.secret) == 32
    with create_store(store.root.with_name("another")) as another:
        assert another.secret != store.secret
    assert [p.name for p in store.root.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("content", [None, b"", b"abc", b"00" * 31, b"\xff" * 64])
def test_a_lost_or_altered_secret_is_told(store: Store, content: bytes | None) -> None:
    store.close()
    path = store.root / "secret"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"secret.*Restore it from a backup"):
        open_store(store.root)
