"""The page at ``/docs``: the OpenAPI document for people, as one HTML page without scripts or anything from outside."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path
from typing import Any


def api_page(document: dict[str, Any], origin: str) -> str:
    """The HTML page that shows *document*, an OpenAPI description, with examples to be tried at *origin*."""
    from jinja2 import Environment  # only this page needs it

    schemas = document["components"]["schemas"]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shape"] = shape
    environment.filters["curl"] = partial(curl, origin, closed="securitySchemes" in document["components"])
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.render(info=document["info"], paths=document["paths"], schemas=schemas)


def curl(origin: str, body: Any, path: str, *, closed: bool = False) -> str:
    r"""The line for a shell that sends *body*.

    >>> print(curl("http://127.0.0.1:8321", {"inputs": {"text": "it's"}}, "/v1/predict"))
    curl http://127.0.0.1:8321/v1/predict -H 'Content-Type: application/json' \
      -d '{"inputs": {"text": "it'"'"'s"}}'
    """
    token = " -H 'Authorization: Bearer tm_…'" if closed else ""
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    path = path.replace("{name}", "default")
    return f"curl {shlex.quote(origin + path)} -H 'Content-Type: application/json'{token} \\\n  -d {data}"


def shape(schema: dict[str, Any]) -> str:
    """A schema in a few words.

    >>> shape({"anyOf": [{"type": "array", "items": {"$ref": "#/components/schemas/Inputs"}}, {"type": "null"}]})
    'list of Inputs or null'
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(shape(option) for option in schema[choice]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {shape(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
