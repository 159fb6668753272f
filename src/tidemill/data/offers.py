"""What a choice is made between: the actions that a request offers, and how they lie in a column.

A project whose samples are choices has these columns beside those of the context:

==============  ========  ====================================================================================
``actions``     offer     what was offered, as JSON: a list of names, or of objects with ``name`` and features
``slate``       offer     equal for choices that must not repeat an action: the positions of one page
``action``      log       what was chosen
``propensity``  log       with which probability it was
``event``       log       what makes the choice one of its own; two with equal contexts are two choices
``action.…``    action    a feature of the chosen action
==============  ========  ====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tidemill.data import spelling
from tidemill.data.arrays import Ragged
from tidemill.errors import InputError

ACTION, PROPENSITY, EVENT, OFFER, SLATE = "action", "propensity", "event", "actions", "slate"
LOGGED = (ACTION, PROPENSITY, EVENT)
FEATURE = "action."
"""What the name of a column begins with that describes the chosen action."""
MOST_ACTIONS = 1000
_MEND = 'Give names, ["news", "sport"], or objects with features, [{"name": "news", "length": 3}].'


def offered_text(value: Any) -> str | None:
    """What a request offers, as the text that is stored; ``None`` for whatever there is.

    Raises:
        InputError: the list is empty, too long, or names something twice; or it is none.

    >>> offered_text(["b", {"name": "a", "price": 2}])
    '[{"name":"b"},{"name":"a","price":2}]'
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InputError(f"the offered actions are no JSON: {error}", mend=_MEND) from None
    if value is None or value == "":
        return None
    if not isinstance(value, list | tuple):
        raise InputError("the offered actions are no list", mend=_MEND)
    if not value:
        raise InputError("no action is offered", mend="Offer at least one, or leave the field out for all of them.")
    if len(value) > MOST_ACTIONS:
        raise InputError(f"{len(value)} actions are offered", mend=f"Offer at most {MOST_ACTIONS}.")
    actions = [_action(one) for one in value]
    names = [action["name"] for action in actions]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the action {twice!r} is offered twice", mend="Offer each once.")
    return orjson.dumps(actions).decode()


def _action(value: Any) -> dict[str, Any]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str | int):
        raise InputError(f"{value!r:.80} is no action", mend=_MEND)
    name = spelling.tidy_text(str(value["name"])) or ""
    if not name:
        raise InputError("an action has no name", mend=_MEND)
    features: dict[str, Any] = {"name": name}
    for feature, given in value.items():
        if feature == "name":
            continue
        if isinstance(given, float) and not math.isfinite(given):
            raise InputError(f"{feature!r} of the action {name!r} is not finite", mend="Give a finite number.")
        if given is not None and not isinstance(given, str | int | float):
            raise InputError(f"{feature!r} of the action {name!r} is no number and no text", mend=_MEND)
        features[str(feature)] = given
    return features


def slates_apart(columns: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The columns of several requests, so many *rows* each, whose slates have nothing to do with one another."""
    slates = columns.get(SLATE)
    if len(rows) < 2 or not isinstance(slates, Ragged) or not len(slates.values):
        return dict(columns)
    whose = (str(request) for request, count in enumerate(rows) for _ in range(count))
    named = slates.to_arrow().to_pylist()
    apart = [f"{request} {name}" if name else "" for request, name in zip(whose, named, strict=True)]
    return {**columns, SLATE: Ragged.from_strings(apart)}


def offers_of(texts: Sequence[str]) -> list[list[dict[str, Any]] | None]:
    """The stored texts as lists of actions; ``None`` where nothing is said, so that everything is offered.

    >>> offers_of(['[{"name":"a"}]', ""])
    [[{'name': 'a'}], None]
    """
    known: dict[str, list[dict[str, Any]] | None] = {"": None}
    for text in texts:
        if text not in known:
            known[text] = orjson.loads(text)
    return [known[text] for text in texts]
