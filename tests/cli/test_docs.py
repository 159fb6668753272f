"""The pages of the commands and of the configuration say what the program says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_as_generated() -> None:
    pages = generator().pages()
    assert len(pages) >= 24
    stale = [
        n for n, text in pages.items() if not (DOCS / n).is_file() or (DOCS / n).read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run `python docs/generate.py`; stale: {stale}"


def test_every_page_is_linked_and_has_examples() -> None:
    index = (DOCS / "commands" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(([\w-]+\.md)\)", index))
    pages = {path.name for path in (DOCS / "commands").glob("*.md")} - {"README.md"}
    assert linked == pages and len(pages) >= 24
    for name in pages:
        assert re.search(r"```sh\ntidemill ", (DOCS / "commands" / name).read_text(encoding="utf-8")), name
