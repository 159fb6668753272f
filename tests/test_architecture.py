"""The house stands as docs/architecture.md says: imports go one way, and stages know nothing of one another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tidemill"


def rooms() -> list[str]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("<!-- rooms -->")[1].split("<!-- /rooms -->")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(("tidemill", *[p for p in parts if p != "__init__"]))] = path
    return found


def imports(name: str, path: Path) -> set[str]:
    """Every tidemill module that *path* imports, at module level or inside a function."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            # `from tidemill import data` names a room; `from tidemill.data import x` stays in it
            found.update(f"{base}.{alias.name}" if base == "tidemill" else base for alias in node.names)
    return {module for module in found if module.split(".")[0] == "tidemill"}


def room(module: str) -> str | None:
    return module.split(".")[1] if "." in module else None


def test_imports_go_one_way() -> None:
    order = rooms()
    visited, broken = set(), []
    for name, path in modules().items():
        visited.add(name)
        here = room(name)
        if here in (None, "__main__"):  # the face of the package hands names on, lazily
            continue
        assert here in order, f"{name} is in no room of docs/architecture.md"
        for target in imports(name, path):
            there = room(target)
            assert there in order, f"{name} imports {target}, which is in no room"
            if order.index(there) > order.index(here):
                broken.append(f"{name} -> {target}")
    assert visited == set(modules()) and len(visited) > 40
    assert not broken, "imports from a lower room: " + ", ".join(sorted(broken))


def test_every_room_of_the_page_exists() -> None:
    assert {room(name) for name in modules()} - {None, "__main__"} == set(rooms())


def test_stages_never_import_one_another() -> None:
    stages = {name: path for name, path in modules().items() if name.startswith("tidemill.stages.")}
    assert {name.rpartition(".")[2] for name in stages} >= {
        "prepare", "annotate", "tune", "train", "evaluate", "deploy", "feedback",
    }  # fmt: skip
    for name, path in stages.items():
        others = {m for m in imports(name, path) if m.startswith("tidemill.stages.") and m != name}
        assert not others, f"{name} imports {others}"
