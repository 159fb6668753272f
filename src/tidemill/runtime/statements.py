"""What people may state about a prediction: read strictly, each fault named with its place and its mend.

The service, the command line and imported files all read statements here.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast, get_args

from tidemill.errors import InputError, NotFoundError
from tidemill.records import Feedback, FeedbackKind, new_id
from tidemill.runtime.answers import parse_label

Known = Callable[[str], bool]
Given = Callable[[str], Mapping[str, Any] | None]

KINDS: tuple[str, ...] = get_args(FeedbackKind)
MAX_NAME = 200
MAX_COMMENT = 10_000
_MAX_LABEL = 1000
_MAX_LABELS = 10_000
_FIELDS = ("prediction", "kind", "value", "author", "asked", "key")


def parse_feedback(
    content: Mapping[str, Any], where: str, answer: Mapping[str, Any], known: Known, given: Given | None = None
) -> Feedback:
    """One statement of feedback, its value checked against the answer spec.

    Args:
        content: the JSON object.
        where: its place in the request.
        answer: the spec of the answers that it may correct.
        known: whether a prediction id was given out by this project.
        given: the answer of a prediction, or ``None`` where it is not at hand; needed only where models abstain.

    Raises:
        InputError: a field is unknown, missing, or not what its kind asks for, or there is no answer to confirm.
        NotFoundError: no prediction has this id.
    """
    only_fields(content, _FIELDS, where, "Send prediction and kind, and if you like value, author, asked and key.")
    subject = _prediction(content.get("prediction"), f"{where}.prediction", known)
    kind = content.get("kind")
    if kind not in KINDS:
        said = "kind is missing" if kind is None else f"kind {str(kind)[:MAX_NAME]!r} is unknown"
        hint = nearest(kind[:MAX_NAME], KINDS) if isinstance(kind, str) else ""
        raise InputError(f"{said}.{hint}", where=f"{where}.kind", mend=f"Use one of {', '.join(KINDS)}.")
    if kind == "confirmation" and given is not None:
        _confirmed(given(subject), f"{where}.kind")
    asked = content.get("asked", False)
    if not isinstance(asked, bool):
        raise InputError(f"asked is {kind_of(asked)}", where=f"{where}.asked", mend="Give true or false.")
    identifier = new_id(Feedback.prefix)
    return Feedback(
        id=identifier,
        subject=subject,
        kind=cast("FeedbackKind", kind),
        value=_value(kind, content.get("value"), f"{where}.value", answer, known),
        author=name(content, "author", where) or "anonymous",
        asked=asked,
        key=name(content, "key", where) or identifier,
    )


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


def _correction(value: Any, where: str, answer: Mapping[str, Any]) -> str | float | list[str]:
    several = answer.get("kind") == "multilabel"
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


def _confirmed(answer: Mapping[str, Any] | None, where: str) -> None:
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
    if not known(identifier):
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
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
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


def only_fields(content: Mapping[str, Any], fields: tuple[str, ...], where: str, mend: str) -> None:
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
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""
