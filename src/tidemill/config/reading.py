"""From a file to a checked :class:`Config`, or to one error that lists every fault with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from tidemill.config import faults as words
from tidemill.config.environment import Environment, check_environment
from tidemill.config.faults import Fault, describe, raise_faults
from tidemill.config.model import Config
from tidemill.errors import ConfigError, NotFoundError

CONFIG_NAME = "tidemill.yaml"
_MAX_BYTES = 1_000_000
_MEND = "See docs/configuration.md for every key."
_STR, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that ``1e-3`` is a number, and that there are no aliases.

    An alias of aliases of aliases is a page of text that takes minutes and all memory to read.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node of the file."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"write out what the alias *{event.anchor} stands for"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def find_project(start: str | Path = ".") -> Path:
    """The nearest folder from *start* upwards that holds ``tidemill.yaml``.

    Raises:
        NotFoundError: there is none.
    """
    here = Path(start).absolute()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise NotFoundError(
        "there is no project here: no tidemill.yaml in this folder or above it",
        where=str(start),
        mend="Make one with `tidemill init DIR --data FILE --target COLUMN`, or name its folder with -C.",
    )


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check ``tidemill.yaml``; what the environment says goes before the file.

    Args:
        path: the file.
        environ: ``os.environ`` unless given.

    Raises:
        ConfigError: not YAML, or at least one fault; *what* lists them all, one a line, each with ``file:line``.
    """
    path = Path(path)
    environment, faults = check_environment(os.environ if environ is None else environ)
    shown = _shown(path)
    text = _text(path, shown)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            walk = _Walk(shown, faults)
            if node is not None:
                walk.visit(node, ())
            raw = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        faults.append(_syntax(error, text, shown))
        raise_faults(faults, mend="A key is written `key: value`, and two blanks deeper stands what belongs to it.")
    except RecursionError:
        raise ConfigError("the file is nested too deeply", where=shown, mend=_MEND) from None
    config = _check(raw, walk.lines, faults, shown)
    raise_faults(faults, mend=_MEND)
    if config is None:  # pragma: no cover - no config without a fault
        raise AssertionError
    return _apply(config, environment)


def make_config(**values: Any) -> Config:
    """A checked configuration from values instead of a file, with the keys of the file.

    Raises:
        ConfigError: all faults at once, each with the dotted name of its key.

    >>> make_config(task="image-classification", data="sklearn:digits", target="label").gate.alpha
    0.05
    """
    faults: list[Fault] = []
    config = _check(dict(values), {}, faults, "")
    raise_faults(faults, mend=_MEND)
    if config is None:  # pragma: no cover - no config without a fault
        raise AssertionError
    return config


def changed(config: Config, section: str, values: Mapping[str, Any]) -> Config:
    """*config* with other values in one of its sections, checked as the file's are.

    Raises:
        ConfigError: all faults at once, each with the dotted name of its key.

    >>> changed(make_config(task="t", data="a.csv", target="y"), "serve", {"port": 80}).serve.port
    80
    """
    whole = config.model_dump(by_alias=True)
    return make_config(**{**whole, section: {**whole[section], **values}})


def _shown(path: Path) -> str:
    """The path as short as it stays clear."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _text(path: Path, shown: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=shown, mend="Make a project with `tidemill init`.") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=shown, mend="Look at its permissions.") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError("the file is larger than 1 MB", where=shown, mend="A configuration has a page at most.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", where=f"{shown}:{line}", mend="Save the file as UTF-8.") from None


def _syntax(error: yaml.YAMLError, text: str, shown: str) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, int(error.position)) + 1
        what = f"the control character {chr(int(error.character))!r} stands in it"
    else:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = 1 if mark is None else mark.line + 1
        context = getattr(error, "context", None)
        what = ", ".join(str(part) for part in (context, getattr(error, "problem", None)) if part)
        if context == "while scanning an alias":
            what = "a value that begins with * stands in quotes"
    return Fault(f"is not YAML: {what}", f"{shown}:{line}", line)


class _Walk:
    """Notes every key's line, finds duplicate keys, and reads text as text (``labels: [yes, 1]``)."""

    def __init__(self, shown: str, faults: list[Fault]) -> None:
        self.shown = shown
        self.faults = faults
        self.lines: dict[words.Path, int] = {(): 1}

    def visit(self, node: yaml.Node, path: words.Path) -> None:
        if len(path) > 8:  # no key lies that deep
            return
        if isinstance(node, yaml.MappingNode):
            self._keys(node, path)
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    key.tag = _STR
                self.lines[*path, str(key.value)] = key.start_mark.line + 1
                self.visit(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*path, index] = item.start_mark.line + 1
                self.visit(item, (*path, index))
        elif node.tag not in (_STR, _NULL) and node.tag.startswith("tag:yaml.org,2002:") and _is_text(path):
            node.tag = _STR

    def _keys(self, node: yaml.MappingNode, path: words.Path) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                what = f"{words.dotted((*path, key.value))} stands twice, first in line {seen[key.value]}"
                self.faults.append(Fault(what, f"{self.shown}:{line}", line))
            seen.setdefault(str(key.value), line)


def _is_text(path: words.Path) -> bool:
    stack = [field.annotation] if (field := words.field_at(Config, path)) is not None else []
    while stack:
        item = stack.pop()
        if item is str:
            return True
        arguments = get_args(item)
        stack.extend(arguments[1:] if get_origin(item) is dict else arguments)  # keys are text anyway
    return False


def _check(raw: Any, lines: Mapping[words.Path, int], faults: list[Fault], shown: str) -> Config | None:
    """The config, or ``None`` and more faults."""

    def place(path: words.Path) -> tuple[str, int]:
        while path and path not in lines:
            path = path[:-1]
        line = lines.get(path, 0)
        return (f"{shown}:{line}" if line else shown or "the configuration"), line

    if not isinstance(raw, dict):
        faults.append(Fault(f"must be keys with values, not {words.show(raw)}", *place(())))
        return None
    raw = _without_empty(raw)
    config = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults.extend(
            Fault(describe(e, Config), *place(e["loc"])) for e in error.errors(include_url=False, include_context=True)
        )
    faults.extend(Fault(what, *place(path)) for path, what in _together(raw))
    return config


def _without_empty(raw: dict[Any, Any]) -> dict[Any, Any]:
    """``gate:`` with all its keys commented out, or an empty list, means the defaults."""
    kept = {}
    for key, value in raw.items():
        field = words.keys_of(Config).get(key)
        if value is None and field is not None and not field.is_required() and field.default is not None:
            continue
        kept[key] = value
    return kept


def _together(raw: dict[Any, Any]) -> list[tuple[words.Path, str]]:
    """Faults that no key has alone; looked for also when other keys are wrong."""
    found: list[tuple[words.Path, str]] = []
    splits = raw.get("splits")
    if isinstance(splits, dict):
        policy = splits.get("policy")
        if policy in ("group", "time") and not splits.get("key"):
            found.append((("splits", "policy"), f"splits.policy {policy} needs splits.key: the column to split by"))
        shares = [splits.get("validation", 0.1), splits.get("reference", 0.2)]
        if all(isinstance(s, int | float) and 0 < s < 1 for s in shares) and sum(shares) >= 1:
            found.append(
                (
                    ("splits",),
                    f"splits.validation and splits.reference leave nothing to train on: {shares[0]} + {shares[1]}",
                )
            )
    target, ignored, labels = raw.get("target"), _texts(raw, "ignore"), _texts(raw, "labels")
    found += [
        ((name,), f"{name} names the target {target!r}") for name in ("inputs", "ignore") if target in _texts(raw, name)
    ]
    both = [name for name in _texts(raw, "inputs") if name in ignored]
    found += [(("ignore",), f"{name!r} stands under inputs and under ignore") for name in both]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    found += [(("labels",), f"labels names {label!r} twice") for label in twice]
    recipes = raw.get("recipes")
    if isinstance(recipes, dict):
        both = sorted({*_texts(recipes, "include")} & {*_texts(recipes, "exclude")})
        found += [(("recipes",), f"recipe {name!r} stands under include and under exclude") for name in both]
    return found


def _texts(raw: dict[Any, Any], key: str) -> list[str]:
    value = raw.get(key)
    return [v for v in value if isinstance(v, str)] if isinstance(value, list | tuple) else []


def _apply(config: Config, environment: Environment) -> Config:
    changes: dict[str, Any] = {}
    if environment.store is not None:
        changes["store"] = environment.store
    if environment.threads is not None:
        changes["serve"] = config.serve.model_copy(update={"threads": environment.threads})
    return config.model_copy(update=changes) if changes else config
