"""Logs of Vowpal Wabbit's contextual bandits: ``--cb_adf`` text, and the JSON that its services write.

Text, one block of lines a choice, with a blank line behind it::

    shared |User user=Tom time=morning
    |Action article=sports
    0:-1.0:0.7 |Action article=music

The line of the chosen action says its number, its cost and the probability of the choice. JSON, one object a line::

    {"_label_cost": -1, "_label_probability": 0.7, "_labelIndex": 1, "p": [0.3, 0.7], "a": [1, 2],
     "c": {"User": {"user": "Tom"}, "_multi": [{"Action": {"article": "sports"}}, {"Action": {"article": "music"}}]}}

A cost is a reward with its sign turned. An action is called by its tag, by ``id`` or ``name`` among its features, by
its only text where it has but one, else by its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tidemill.data.offers import ACTION, FEATURE, OFFER, PROPENSITY
from tidemill.data.sources._base import Batch, Fault, Limits, RawColumn, Shapes, Source, Summary, numbered_rows
from tidemill.data.sources._files import fingerprint, open_stream, split_of_file
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

REWARD = "reward"
_HEAD = 2000
_SUM = 1e-3
_NAMES = ("id", "name", "Id", "Name")

Features = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice as it was logged; ``fault`` says why it is none."""

    line: int
    context: Features
    actions: list[Features]
    chosen: int = -1
    cost: float = 0.0
    probability: float = 0.0
    fault: str | None = None


class VwSource(Source):
    """Choices out of one file of Vowpal Wabbit's.

    Args:
        path: the file; it may be packed.
        limits: what it may cost.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path.name, limits)
        self.path = path
        context: dict[str, None] = {}
        features: dict[str, None] = {}
        for number, choice in enumerate(self._choices()):
            context |= dict.fromkeys(choice.context)
            for action in choice.actions:
                features |= dict.fromkeys(action)
            if number >= _HEAD:
                break
        if not context and not features:
            raise SourceError("there is no choice in it.", where=str(path), mend="Give what --cb_adf reads.")
        features.pop("name", None)
        self.context, self.features = list(context), list(features)
        self.notes.append("costs of Vowpal Wabbit are rewards with their sign turned")

    def fingerprint(self) -> str:
        """Path, size and time of the file."""
        return fingerprint("vw", self.path.parent, [self.path])

    def summary(self) -> Summary:
        """One pass over all choices."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All choices in order; what is none is a fault."""
        chunk: list[Choice] = []
        for choice in self._choices():
            chunk.append(choice)
            if len(chunk) >= size:
                yield self._batch(chunk)
                chunk = []
        if chunk:
            yield self._batch(chunk)

    def _batch(self, chunk: Sequence[Choice]) -> Batch:
        file = self.path.name
        faults = tuple(Fault(f"{file}, line {c.line}", c.fault) for c in chunk if c.fault is not None)
        kept = [choice for choice in chunk if choice.fault is None]
        columns: dict[str, RawColumn] = {}
        for name in self.context:
            columns[name] = _column([choice.context.get(name) for choice in kept])
        for name in self.features:
            columns[FEATURE + name] = _column([choice.actions[choice.chosen].get(name) for choice in kept])
        columns[ACTION] = pa.array([choice.actions[choice.chosen]["name"] for choice in kept], pa.large_string())
        columns[PROPENSITY] = pa.array([choice.probability for choice in kept], pa.float64())
        columns[REWARD] = pa.array([-choice.cost for choice in kept], pa.float64())
        offers = [orjson.dumps(choice.actions).decode() for choice in kept]
        columns[OFFER] = pa.array(offers, pa.large_string())
        split = np.full(len(kept), split_of_file(self.path, self.path.parent), np.int8)
        lines = np.array([choice.line for choice in kept], np.int64)
        return Batch(columns, split, numbered_rows(file, lines), faults)

    def _choices(self) -> Iterator[Choice]:
        with open_stream(self.path, self.limits) as stream:
            block: list[str] = []
            start = 1
            for number, raw in enumerate(stream, 1):
                line = raw.decode("utf-8", "replace").strip()
                if line.startswith("{"):
                    yield _from_json(number, line)
                elif line:
                    start = start if block else number
                    block.append(line)
                elif block:
                    yield _from_text(start, block)
                    block = []
            if block:
                yield _from_text(start, block)


def looks_like_vw(start: bytes) -> bool:
    """Whether the first bytes of a file are those of such a log.

    >>> looks_like_vw(b"shared |User a=1"), looks_like_vw(b'{"_label_cost":-1.0,'), looks_like_vw(b"a,b")
    (True, True, False)
    """
    text = start.lstrip()
    return text.startswith((b"shared |", b"shared|")) or (text.startswith(b"{") and b'"_label_cost"' in text[:400])


def _from_text(line: int, block: Sequence[str]) -> Choice:
    context: Features = {}
    actions: list[Features] = []
    chosen, cost, probability, labelled = -1, 0.0, 0.0, 0
    for text in block:
        head, bar, rest = text.partition("|")
        if not bar:
            return Choice(line, {}, [], fault="lines without | were left out with their block")
        if head.strip().startswith("shared"):
            context |= _features(rest)
            continue
        words = head.split()
        label = next((word for word in words if ":" in word), None)
        tag = next((word.lstrip("'") for word in words if ":" not in word), None)
        if label is not None:
            labelled += 1
            try:
                _, said_cost, said_probability = label.split(":")
                cost, probability, chosen = float(said_cost), float(said_probability), len(actions)
            except ValueError:
                return Choice(line, {}, [], fault="labels that are not action:cost:probability were left out")
        actions.append(_named(_features(rest), tag, len(actions)))
    if labelled != 1:
        return Choice(line, {}, [], fault="blocks without exactly one chosen action were left out")
    return _checked(Choice(line, context, actions, chosen, cost, probability))


def _features(text: str) -> Features:
    """The features behind a bar: ``ns a=b c:0.5 d``, perhaps with further bars."""
    found: Features = {}
    for number, part in enumerate(text.split("|")):
        words = part.split()
        if not words:
            continue
        if (number > 0 or not part[:1].isspace()) and part[:1].strip():
            words = words[1:]  # what stands directly behind the bar is the namespace's name
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                text_value, _, strength = value.rpartition(":")
                found[name] = text_value if text_value and _is_number(strength) else value
                continue
            name, colon, value = word.rpartition(":")
            if colon and _is_number(value):
                found[name] = float(value)
            else:
                found[word] = 1.0
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_json(line: int, text: str) -> Choice:
    try:
        content = orjson.loads(text)
        inner = content.get("c", content)
        context = _flat({name: value for name, value in inner.items() if not name.startswith("_")})
        many = inner["_multi"]
        actions = [_named(_flat(action), None, place) for place, action in enumerate(many)]
        chosen = content.get("_labelIndex", inner.get("_labelIndex"))
        cost, probability = (
            float(content.get(key, inner.get(key, np.nan))) for key in ("_label_cost", "_label_probability")
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return Choice(line, {}, [], fault="lines that are no JSON of a choice were left out")
    if not isinstance(chosen, int) or not 0 <= chosen < len(actions):
        return Choice(line, {}, [], fault="choices that do not say which action was chosen were left out")
    shares = content.get("p")
    if isinstance(shares, list) and shares and not _sum_to_one(shares):
        return Choice(line, {}, [], fault="choices whose propensities do not sum to 1 were left out")
    return _checked(Choice(line, context, actions, chosen, cost, probability))


def _sum_to_one(shares: Sequence[Any]) -> bool:
    return all(isinstance(p, int | float) and p >= 0 for p in shares) and abs(sum(shares) - 1) <= _SUM


def _flat(content: Mapping[str, Any]) -> Features:
    """Namespaces of features as one; lists become numbered numbers."""
    found: Features = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value)
        elif isinstance(value, list):
            found |= {f"{name}_{place}": one for place, one in enumerate(value) if isinstance(one, int | float)}
        elif isinstance(value, bool):
            found[name] = float(value)
        elif isinstance(value, str | int | float):
            found[name] = value
    return found


def _named(features: Features, tag: str | None, place: int) -> Features:
    """The action's features with its name among them."""
    name = tag or next((str(features[key]) for key in _NAMES if key in features), None)
    if name is None:
        words = [value for value in features.values() if isinstance(value, str)]
        name = words[0] if len(words) == 1 else str(place + 1)
    others = {key: value for key, value in features.items() if key not in _NAMES}
    return {"name": name, **others}


def _checked(choice: Choice) -> Choice:
    fault = None
    names = [action["name"] for action in choice.actions]
    if len(set(names)) < len(names):
        fault = "choices between actions of one name were left out"
    elif not np.isfinite(choice.cost):
        fault = "choices without a cost were left out"
    elif choice.probability == 0:
        fault = "choices with a probability of 0 were left out: what is never chosen was not chosen"
    elif not 0 < choice.probability <= 1:
        fault = "choices with a probability that is none (below 0, or above 1) were left out"
    return choice if fault is None else Choice(choice.line, {}, [], fault=fault)


def _column(values: Sequence[Any]) -> pa.Array:
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else _word(value) for value in values], pa.large_string())


def _word(value: Any) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
