"""What people may say of answers with several labels, of numbers, and of answers that were not given."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.errors import InputError
from tidemill.records import Feedback
from tidemill.runtime.statements import parse_feedback

SEVERAL = {"kind": "multilabel", "labels": ["cat", "dog", "owl"]}
NUMBER = {"kind": "regression"}
ONE = {"kind": "classification", "labels": ["ham", "spam"], "abstain_cost": 0.2}


def say(spec: dict[str, Any], given: dict[str, Any] | None = None, **content: Any) -> Feedback:
    statement = {"prediction": "pred_1", **content}
    return parse_feedback(statement, "body", spec, lambda _: True, lambda _: given)


@pytest.mark.parametrize(
    ("value", "stored"),
    [(["owl", "cat"], ["cat", "owl"]), (["Cat", "cat "], ["cat"]), ("dog", ["dog"]), ([], [])],
)
def test_a_correction_of_several_labels_is_the_whole_list(value: Any, stored: list[str]) -> None:
    assert say(SEVERAL, kind="correction", value=value).value == stored


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["cat", "dug"], "Did you mean 'dog'"),
        ([["cat"]], "a list is no label"),
        ({"cat": 1}, "an object is no label"),
        ([None], "null is no label"),
        (["x" * 2000], "at most 1000 characters"),
        (["cat"] * 20_000, "20000 labels are too many"),
        (None, r"\[\] for none"),
    ],
)
def test_a_wrong_list_of_labels_is_refused(value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        say(SEVERAL, kind="correction", value=value)


def test_a_number_is_corrected_by_a_number() -> None:
    assert say(NUMBER, kind="correction", value="12.5").value == 12.5
    for wrong in ([1.0], "many", float("nan"), 10**400, -1e39):
        with pytest.raises(InputError):
            say(NUMBER, kind="correction", value=wrong)


def test_one_label_is_no_list() -> None:
    with pytest.raises(InputError, match="no label"):
        say(ONE, kind="correction", value=["spam"])


def test_there_is_nothing_to_confirm_where_the_model_abstained() -> None:
    silent = {"label": None, "abstained": True, "guess": "spam", "score": 0.6, "scores": {}}
    with pytest.raises(InputError, match="guess was 'spam'") as caught:
        say(ONE, silent, kind="confirmation")
    assert caught.value.mend is not None and "correction" in caught.value.mend
    assert say(ONE, silent, kind="correction", value="ham").value == "ham"
    assert say(ONE, {"label": "spam", "score": 0.9, "scores": {}}, kind="confirmation").kind == "confirmation"
    assert say(ONE, None, kind="confirmation").kind == "confirmation"  # its row is still in the journal
