"""The line of a record as a tree: its own values first, then what it came from and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.show import answers
from tidemill.cli.show.layout import visible
from tidemill.cli.show.units import plain

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_SHOWN = 8  # entries of one list
_HIDDEN = frozenset({"evidence", "curve", "signature", "report", "space", "content", "plan", "summary"})
"""Long machine-readable parts; ``--json`` has them."""


def tree(data: Mapping[str, Any], name: str = "", above: frozenset[str] = frozenset()) -> Tree:
    """The tree of ``{"kind", "record", …}``, or of any nested record."""
    from rich.tree import Tree

    record = data.get("record")
    own = dict(record) if isinstance(record, Mapping) else {}
    own.update({k: v for k, v in data.items() if k not in ("record", "kind")})
    node = Tree(_heading(name or str(data.get("kind") or ""), own), guide_style="dim")
    shown = above | {str(own.get("id"))} | {str(_id(value)) for value in own.values() if isinstance(value, Mapping)}
    for key, value in own.items():
        if not (isinstance(value, str) and value in shown):  # an id that stands in the tree anyway
            _add(node, key, value, shown)
    return node


def _id(data: Mapping[str, Any]) -> Any:
    record = data.get("record")
    return record.get("id") if isinstance(record, Mapping) else data.get("id")


def _heading(name: str, own: Mapping[str, Any]) -> Text:
    from rich.text import Text

    return Text(f"{name.replace('_', ' ')}  " if name else "", "dim").append(visible(str(own.get("id") or "")), "bold")


def _add(node: Tree, key: str, value: Any, shown: frozenset[str]) -> None:
    if key in ("label", "value") and isinstance(value, list):  # several labels, perhaps none
        node.add(_line(key, answers.label(value)))
        return
    if key == "id" or key in _HIDDEN or value is None or value in ([], {}, ""):
        return
    if isinstance(value, Mapping) and ("id" in value or "record" in value):
        node.add(tree(value, key, shown))
    elif isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
        branch = node.add(_line(key, f"({len(value)})"))
        for item in value[:_SHOWN]:
            branch.add(tree(item, "", shown))
        if len(value) > _SHOWN:
            branch.add(_line(f"and {len(value) - _SHOWN} more", ""))
    elif key == "answer" and isinstance(value, Mapping):
        node.add(_line(key, answers.phrase(value)))
    elif key == "shadow" and isinstance(value, Mapping):
        node.add(_line(key, f"{answers.phrase(value['answer'])}, by {value['model_id']}, told to nobody"))
    else:
        node.add(_line(key, _clip(plain(key, value))))


def _line(key: str, text: str) -> Text:
    from rich.text import Text

    return Text(f"{key.replace('_', ' ')}  ", "dim").append(visible(text))


def _clip(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
