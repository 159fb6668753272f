"""Reading pages: their elements, their text, and that they load nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Tags(HTMLParser):
    """Every element with its attributes, and every open element that was not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def text_of(page: str) -> str:
    """What a reader sees, with every blank as one space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def check_alone(page: str, least: int) -> None:
    """The page is well formed, has so many elements at least, runs nothing and loads nothing."""
    tags = Tags(page)
    assert not tags.open
    assert len(tags.found) > least
    assert not {t for t, _ in tags.found} & {"script", "link", "iframe", "object", "form"}
    for tag, attributes in tags.found:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
