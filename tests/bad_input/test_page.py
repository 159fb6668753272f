"""What docs/troubleshooting.md quotes is what Tidemill says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_quoted_message_is_one() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    titles = [line for line in page.splitlines() if line.startswith("#") and '"' in line]
    quoted = [words for title in titles for words in re.findall(r'"([^"]+)"', title)]
    source = "".join(p.read_text("utf-8") for p in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # literals over several lines
    unknown = [
        words
        for words in quoted
        if words not in source and words.replace("tidemill.yaml", "{CONFIG_NAME}") not in source
    ]
    assert not unknown
    assert len(quoted) > 25
