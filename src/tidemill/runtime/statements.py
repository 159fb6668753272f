"""What people may state about a prediction, a pair or an episode: read strictly, each fault named with its mend.

The service, the command line and imported files all read statements here.
"""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast, get_args

from tidemill.errors import InputError, NotFoundError
from tidemill.records import LABEL_KINDS, Feedback, FeedbackKind, episode_of, id_time, new_id, pair_of
from tidemill.runtime.answers import parse_label

Known = Callable[[str], bool]
Given = Callable[[str], Mapping[str, Any] | None]

KINDS: tuple[str, ...] = get_args(FeedbackKind)
MAX_NAME = 200
NAME = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]+$"
"""What a short text such as an author is made of: nothing that controls how the others are shown."""
_NAME = re.compile(NAME[1:-1])
MAX_COMMENT = 10_000
_MAX_LABEL = 1000
_MAX_LABELS = 10_000
_OLDEST = 10 * 365 * 86_400.0
"""Seconds; an id that seems older carries no time, as those of requests with a key of the caller's."""
EPISODE_KINDS = ("rating", "comment", "reward")
"""What may be said of an episode."""
MAX_MEMBERS = 1000
"""How many predictions of an episode one statement may name."""
_FIELDS = frozenset(("prediction", "episode", "predictions", "kind", "value", "author", "asked", "key"))


def parse_feedback(
    content: Mapping[str, Any],
    where: str,
    answer: Mapping[str, Any],
    known: Known,
    given: Given | None = None,
    *,
    via: str | None = None,
) -> Feedback:
    """One statement of feedback, its value checked against the answer spec.

    Args:
        content: the JSON object.
        where: its place in the request.
        answer: the spec of the answers that it may correct.
        known: whether a prediction id was given out by this project; raises NotFoundError where it was erased.
        given: the answer of a prediction, or ``None`` where it is not at hand; needed only where models abstain, by
            those who do not call :func:`require_answer` later.
        via: the name of the token by which it came.

    Raises:
        InputError: a field is unknown, missing, or not what its kind asks for, or there is no answer to confirm.
        NotFoundError: no prediction has this id.
    """
    if not _FIELDS.issuperset(content):
        only_fields(content, _FIELDS, where, "Send prediction and kind, and if you like value, author, asked and key.")
    subject: str = ""
    predictions: tuple[str, ...] = ()
    if "episode" not in content:
        subject = _prediction(content.get("prediction"), f"{where}.prediction", known)
        if "predictions" in content:
            raise InputError(
                "predictions stand without an episode",
                where=f"{where}.predictions",
                mend="Give the episode's name beside them, or one statement for each prediction.",
            )
    kind = content.get("kind")
    if kind not in KINDS:
        said = "kind is missing" if kind is None else f"kind {str(kind)[:MAX_NAME]!r} is unknown"
        hint = nearest(kind[:MAX_NAME], KINDS) if isinstance(kind, str) else ""
        raise InputError(f"{said}.{hint}", where=f"{where}.kind", mend=f"Use one of {', '.join(KINDS)}.")
    asked = content.get("asked", False)
    if not isinstance(asked, bool):
        raise InputError(f"asked is {kind_of(asked)}", where=f"{where}.asked", mend="Give true or false.")
    if "episode" in content:
        subject, predictions = _episode(content, kind, where, known)
    if kind == "confirmation" and given is not None:
        require_answer(given(subject), f"{where}.kind")
    value = _value(kind, content.get("value"), f"{where}.value", answer, known)
    if answer.get("kind") == "choice" and subject:
        _require_reward(kind, value, subject, where, answer)
    if kind == "preference":
        subject, predictions = _pair(subject, value["over"], f"{where}.value.over")
    identifier = new_id(Feedback.prefix)
    return Feedback(
        id=identifier,
        subject=subject,
        kind=cast("FeedbackKind", kind),
        value=value,
        author=name(content, "author", where) or "anonymous",
        asked=asked,
        key=name(content, "key", where) or identifier,
        predictions=predictions,
        via=via,
    )


def _episode(content: Mapping[str, Any], kind: str, where: str, known: Known) -> tuple[str, tuple[str, ...]]:
    """The subject of what is said of an episode, and the predictions that are named as its own."""
    if "prediction" in content:
        raise InputError(
            "the statement names a prediction and an episode",
            where=where,
            mend="Name one of them; the predictions of an episode go into predictions.",
        )
    if kind not in EPISODE_KINDS:
        raise InputError(
            f"a {kind} speaks of a prediction, not of an episode",
            where=f"{where}.kind",
            mend=f"Use one of {', '.join(EPISODE_KINDS)}, or name a prediction.",
        )
    if content.get("asked"):
        raise InputError("nobody asks about episodes", where=f"{where}.asked", mend="Leave asked out.")
    title = name(content, "episode", where)
    if title is None:
        raise InputError("the episode's name is missing", where=f"{where}.episode", mend="Give any name of yours.")
    named = content.get("predictions")
    if named is None:
        return episode_of(title), ()
    if not isinstance(named, list) or len(named) > MAX_MEMBERS:
        raise InputError(
            f"predictions are {kind_of(named)}" if not isinstance(named, list) else f"{len(named)} are too many",
            where=f"{where}.predictions",
            mend=f"Give a list of at most {MAX_MEMBERS} ids; several statements may name more.",
        )
    members = [_prediction(one, f"{where}.predictions[{place}]", known) for place, one in enumerate(named)]
    return episode_of(title), tuple(dict.fromkeys(members))


def _pair(better: str, worse: str, where: str) -> tuple[str, tuple[str, ...]]:
    if better == worse:
        raise InputError("no prediction is better than itself", where=where, mend="Name another one.")
    return pair_of(better, worse), (better, worse)


def _value(kind: str, value: Any, where: str, answer: Mapping[str, Any], known: Known) -> Any:
    if kind == "confirmation":
        if value is not None:
            raise InputError(
                "a confirmation carries no value",
                where=where,
                mend="Leave value out, or send a correction to say what is right instead.",
            )
        return None
    if kind == "correction":
        return _correction(value, where, answer)
    if kind == "comment":
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_COMMENT:
            raise InputError(
                "a comment is a text", where=where, mend=f"Give between 1 and {MAX_COMMENT} characters of text."
            )
        return _text(value, where)
    if kind == "preference":
        if not isinstance(value, dict) or set(value) != {"over"}:
            raise InputError(
                "a preference names the prediction that this one is better than",
                where=where,
                mend='Give {"over": "pred_…"}.',
            )
        return {"over": _prediction(value["over"], f"{where}.over", known)}
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"a {kind} is a number, not {kind_of(value)}", where=where, mend="Give a finite number.")
    return float(value)


def _require_reward(kind: str, value: Any, prediction: str, where: str, answer: Mapping[str, Any]) -> None:
    """Refuse what says nothing of a choice, or says it too late.

    Raises:
        InputError: a label is stated, the reward is outside its range, or its horizon has passed.
    """
    if kind in LABEL_KINDS:
        raise InputError(
            f"a {kind} says what was right, and of a choice only its reward can be told",
            where=f"{where}.kind",
            mend='Send {"kind": "reward", "value": …}.',
        )
    if kind not in ("reward", "rating"):
        return
    low, high = answer.get("rewards", (-math.inf, math.inf))
    if not low <= value <= high:
        raise InputError(
            f"the {kind} {value:g} is outside its range, which is {low:g} to {high:g}",
            where=f"{where}.value",
            mend="Give one within it, or change bandit.rewards in tidemill.yaml.",
        )
    horizon = answer.get("horizon")
    if horizon is not None and horizon < (age := time.time() - id_time(prediction)) < _OLDEST:
        raise InputError(
            f"the {kind} came {age:,.0f} seconds after its choice, and the horizon is {horizon:,.0f}",
            where=where,
            mend="Send rewards sooner, or raise bandit.horizon in tidemill.yaml.",
        )


def _correction(value: Any, where: str, answer: Mapping[str, Any]) -> str | float | list[str]:
    several = answer.get("kind") == "multilabel"
    if not several and isinstance(value, str) and value in answer.get("labels", ()):  # as nearly always
        return value
    if value is None:
        right = "the list of right labels, [] for none" if several else "the right label or number"
        raise InputError("a correction needs the right value", where=where, mend=f"Give {right}.")
    stated = value if several and isinstance(value, list) else [value]
    if len(stated) > _MAX_LABELS:
        raise InputError(
            f"{len(stated)} labels are too many", where=where, mend=f"Give at most {_MAX_LABELS}, each label once."
        )
    for item in stated:
        if not isinstance(item, str | int | float) or (isinstance(item, str) and len(item) > _MAX_LABEL):
            raise InputError(
                f"{kind_of(item)} is no label",
                where=where,
                mend=f"Give {'a list of labels' if several else 'a number'}, or at most {_MAX_LABEL} characters.",
            )
    return parse_label(answer, value, where=where)


def require_answer(answer: Mapping[str, Any] | None, where: str) -> None:
    """Refuse to confirm what was not answered.

    Raises:
        InputError: the model abstained; ``None`` says that its answer is not at hand.
    """
    if answer is not None and answer.get("abstained"):
        raise InputError(
            f"the model gave no answer here (its guess was {answer.get('guess')!r}), so there is none to confirm",
            where=where,
            mend="Say what is right with a correction.",
        )


def _prediction(identifier: Any, where: str, known: Known) -> str:
    if not isinstance(identifier, str):
        what = "the prediction's id is missing" if identifier is None else f"the id is {kind_of(identifier)}"
        raise InputError(what, where=where, mend="Give the id that /v1/predict answered, pred_….")
    try:
        given_out = known(identifier)
    except NotFoundError as error:  # it was erased
        raise NotFoundError(error.what, where=where, mend=error.mend) from None
    if not given_out:
        raise NotFoundError(
            f"no prediction has the id {identifier[:MAX_NAME]!r}",
            where=where,
            mend="Give an id as /v1/predict of this project answered it, with all of its letters.",
        )
    return identifier


def name(content: Mapping[str, Any], field: str, where: str) -> str | None:
    """A short text such as a key or an author, or ``None`` when it was not given.

    Raises:
        InputError: it is not a text of 1 to 200 characters, or holds control characters.
    """
    value = content.get(field)
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_NAME
        or not (value.isprintable() or _NAME.fullmatch(value))  # the first is stricter, and much faster
    ):
        raise InputError(
            f"{field} is not a short text",
            where=f"{where}.{field}",
            mend=f"Give 1 to {MAX_NAME} printable characters, or leave it out.",
        )
    return value


def _text(value: str, where: str) -> str:
    if "\x00" in value:  # which PostgreSQL cannot store
        raise InputError("the text holds a NUL character", where=where, mend="Leave the character out.")
    return value


def only_fields(content: Mapping[str, Any], fields: Collection[str], where: str, mend: str) -> None:
    """Refuse a field that nobody reads, with the nearest right name.

    Raises:
        InputError: there is one.
    """
    for field in content:
        if field not in fields:
            raise InputError(
                f"{field[:MAX_NAME]!r} is unknown.{nearest(field[:MAX_NAME], fields)}", where=where, mend=mend
            )


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def nearest(word: str, words: Iterable[str]) -> str:
    """``" Did you mean 'inputs'?"`` when one of *words* is near, else the empty string.

    >>> nearest("input", ["inputs", "key"])
    " Did you mean 'inputs'?"
    """
    found = difflib.get_close_matches(word, sorted(words), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""
