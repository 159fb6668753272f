"""From a :class:`Config` to a file that explains itself, and to a JSON Schema for editors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tidemill.config.faults import keys_of, section_of
from tidemill.config.model import Config, is_id

SCHEMA_PATH = ".tidemill/config.schema.json"
_COLUMN = 34


def write_config(path: str | Path, config: Config) -> None:
    """Write ``tidemill.yaml`` with a comment for every key, and the schema that its first line names.

    What has its default value is written as a comment, so that a later default may be better. Each file is
    written whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    schema = path.parent / SCHEMA_PATH
    schema.parent.mkdir(parents=True, exist_ok=True)
    _replace(schema, json.dumps(json_schema(), indent=1) + "\n")
    _replace(path, config_text(config))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``tidemill.yaml``."""
    schema = Config.model_json_schema(by_alias=True)
    for name, value in schema["properties"].items():
        if "$ref" in value:  # a section whose keys are all commented out is null
            value["anyOf"] = [{"$ref": value.pop("$ref")}, {"type": "null"}]
            value["description"] = heading(keys_of(Config)[name].annotation)
        value.pop("default", None)
    data = schema["properties"]["data"]
    entry = data["items"]
    schema["properties"]["data"] = {
        "description": data["description"],
        "anyOf": [*entry["anyOf"], {"type": "array", "items": entry, "minItems": 1}],
    }
    schema["title"] = "tidemill.yaml"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def config_text(config: Config) -> str:
    """The text of ``tidemill.yaml``.

    >>> print(config_text(Config(task="t", data=("a.csv",), target="y")).splitlines()[3])
    task: t                           # what is to be learned, such as image-classification
    """
    lines = [f"# yaml-language-server: $schema={SCHEMA_PATH}", "# Every key: docs/configuration.md"]
    sections = []
    for key, field in keys_of(Config).items():
        section = section_of(field.annotation)
        name = field_name(Config, key)
        if section is not None:
            sections.append((key, section, getattr(config, name)))
        elif key == "data":
            lines.append("data:".ljust(_COLUMN) + f"# {field.description}")
            lines.extend(f"  - {'id' if is_id(spec) else 'path'}: {scalar(spec)}" for spec in config.data)
        else:
            lines.append(_line(key, getattr(config, name), field, always=key in ("schema", "task", "target")))
    for key, section, values in sections:
        lines += ["", f"# {heading(section)}", f"{key}:"]
        lines.extend(f"  {_line(k, getattr(values, k), f)}" for k, f in keys_of(section).items())
    return "\n".join(lines) + "\n"


def field_name(model: type[BaseModel], key: str) -> str:
    """The attribute that a key of the file is read into."""
    return next(name for name, field in model.model_fields.items() if key in (name, field.alias))


def heading(section: Any) -> str:
    """The line above a section: the first line of its docstring."""
    return (section.__doc__ or "").strip().splitlines()[0]


def _line(key: str, value: Any, field: Any, *, always: bool = False) -> str:
    active = always or value != field.default
    text = f"{'' if active else '# '}{key}: {scalar(value)}"
    return f"{text.ljust(_COLUMN - 1)} # {field.description}"


def scalar(value: Any) -> str:
    """One value on one line, quoted where YAML would read it otherwise."""
    plain = [_plain(item) for item in value] if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(item: Any) -> Any:
    """An entry of a list: of a section the keys that say something."""
    return item.model_dump(exclude_defaults=True) if isinstance(item, BaseModel) else item


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
