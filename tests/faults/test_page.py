"""The table of faults in docs/operations.md, held to the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def faults() -> list[list[str]]:
    """The cells of each row."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("## When things go wrong")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "tests/" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_fault_is_shown_by_tests_that_exist() -> None:
    rows = faults()
    assert len(rows) >= 10
    for fault, seen, _, shown in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", shown)
        assert named, fault
        sources = [(ROOT / path).read_text(encoding="utf-8") for path in named]
        for status in re.findall(r"\b[45]\d\d\b", seen):
            assert any(status in source for source in sources), f"no test of {fault!r} speaks of {status}"


def test_the_table_names_every_test_of_a_fault() -> None:
    named = " ".join(shown for *_, shown in faults())
    here = [path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    assert len(here) >= 3
    assert [path.name for path in here if f"tests/faults/{path.name}" not in named] == []
