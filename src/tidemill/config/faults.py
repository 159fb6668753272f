"""Faults in words: each names its place, what is wrong, and the nearest right name."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tidemill.errors import ConfigError

Path = tuple[str | int, ...]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "names with values, such as {a: 1}",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "too_short": "a list with at least one entry",
    "string_too_short": "text that is not empty",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is wrong, and the place (``tidemill.yaml:3``, a variable), with its line to sort by."""

    what: str
    place: str
    line: int = 0


def raise_faults(faults: Sequence[Fault], *, mend: str) -> None:
    """Raise one :class:`ConfigError` that lists every fault, one a line; nothing when there are none."""
    if faults:
        lines = [f"{fault.place}: {fault.what}" for fault in sorted(faults, key=lambda fault: fault.line)]
        raise ConfigError("\n".join(line if line.endswith("?") else f"{line}." for line in lines), mend=mend)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that someone probably meant, or ``None``.

    >>> nearest("alhpa", ["alpha", "margin"])
    'alpha'
    """
    known = list(names)
    folded = {k.casefold().replace("-", "_"): k for k in known}
    wanted = name.casefold().replace("-", "_")
    if wanted in folded:
        return folded[wanted]
    close = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def show(value: Any) -> str:
    """A value as someone would recognise it from their file, cut when it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _REPR.repr(value)


def describe(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One error of pydantic in plain words."""
    path, kind, value = tuple(part for part in error["loc"] if part != "[key]"), error["type"], error.get("input")
    name = dotted(path)
    if kind == "extra_forbidden":
        return _unknown(path, model)
    if kind == "missing":
        hint = field_at(model, path)
        return f"{name} is missing: {hint.description}" if hint is not None else f"{name} is missing"
    if kind == "literal_error":
        return _choice(name, value, error["ctx"]["expected"])
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"{name} must be {range_of(path, model)}, not {show(value)}"
    if kind in _TYPES:
        wanted = _TYPES[kind]
        if kind in ("int_type", "float_type"):
            wanted = ", ".join(filter(None, [wanted, range_of(path, model)]))
        return f"{name} must be {wanted}, not {show(value)}"
    return f"{name} {error['msg']}, not {show(value)}"


def dotted(path: Path) -> str:
    """``("data", 0)`` as people read it: ``data[1]``; counted from one."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text or "the file"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, or ``None`` for a plain value."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a section as the file spells them, with their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def field_at(model: type[BaseModel], path: Path) -> Any:
    """The field that a path names, or ``None``."""
    field: Any = None
    at: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or at is None:
            return field
        field = keys_of(at).get(part)
        at = section_of(field.annotation) if field is not None else None
    return field


def _section(model: type[BaseModel], path: Path) -> type[BaseModel]:
    field = field_at(model, path) if path else None
    return cast("type[BaseModel]", section_of(field.annotation)) if field is not None else model


def _unknown(path: Path, model: type[BaseModel]) -> str:
    *parents, key = path
    siblings = keys_of(_section(model, tuple(parents)))
    text = f"unknown key {dotted(path)}"
    if (hint := nearest(str(key), siblings)) is not None:
        return f"{text}; did you mean {hint}?"
    sections = {"": model} | {n: s for n, f in keys_of(model).items() if (s := section_of(f.annotation)) is not None}
    for name, section in sections.items():
        if str(key) in keys_of(section) and name != dotted(tuple(parents)):
            return f"{text}; {key} belongs {f'under {name}:' if name else 'at the left margin'}"
    return f"{text}; known here: {', '.join(siblings)}"


def _choice(name: str, value: Any, expected: str) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    hint = nearest(value, choices) if isinstance(value, str) else None
    text = f"{name} must be {expected.replace(chr(39), '')}, not {show(value)}"
    return f"{text}; did you mean {hint}?" if hint else text


def range_of(path: Path, model: type[BaseModel]) -> str:
    """``more than 0 and at most 0.5``, from the field's own constraints."""
    field = field_at(model, path)
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    found: dict[str, Any] = {}
    stack = [*field.metadata, field.annotation] if field is not None else []
    while stack:
        item = stack.pop()
        for attribute in words:
            if isinstance(bound := getattr(item, attribute, None), int | float):
                found[attribute] = bound
        stack.extend(getattr(item, "metadata", ()))
        stack.extend(getattr(item, "__metadata__", ()))
        stack.extend(getattr(item, "__args__", ()))
    return " and ".join(f"{words[attribute]} {found[attribute]}" for attribute in words if attribute in found)
