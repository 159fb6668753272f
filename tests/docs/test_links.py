"""Links lead somewhere, and the two READMEs say the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MAKE = re.compile(r"^ +make ([\w-]+)|`make ([\w-]+)`", re.MULTILINE)
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its code."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    broken, seen = [], 0
    for page in PAGES:
        for link in LINK.findall(prose(page)):
            if re.match(r"https?://|mailto:", link):
                continue
            seen += 1
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, "\n".join(broken)
    assert seen > 80


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached, waiting = set(), [index]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = LINK.findall(prose(page))
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if not link.startswith("http")]
        waiting = [page for page in waiting if page.is_file()]
    assert {page for page in PAGES if ROOT / "docs" in page.parents} <= reached


def twins() -> list[str]:
    return [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")]


def test_the_readmes_have_the_same_headings_links_and_commands() -> None:
    levels, links, made = [], [], []
    for text in twins():
        levels.append(re.findall(r"^(#+) ", FENCED.sub("", text), re.MULTILINE))
        links.append(sorted(set(LINK.findall(text)) - {"README.md", "README.zh-CN.md"}))
        made.append(re.findall(r"^    make (\S+)$", text, re.MULTILINE))
    assert levels[0] == levels[1] and len(levels[0]) > 5
    assert links[0] == links[1] and len(links[0]) > 8
    assert made[0] == made[1] == ["demo", "test"]


def test_the_readmes_have_the_same_code_but_for_comments() -> None:
    english, chinese = (
        [re.sub(r" +# .*$", "", block, flags=re.MULTILINE) for block in FENCED.findall(text)] for text in twins()
    )
    assert english == chinese and len(english) == 3


def test_the_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names: set[str] = set()
    for page in PAGES:
        for shown, named in MAKE.findall(page.read_text(encoding="utf-8")):
            names.add(shown or named)
    assert {"demo", "test"} <= names
    for name in names:
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"the Makefile has no target {name}"


def test_every_task_has_a_page() -> None:
    from tidemill.tasks import task_names

    for name in task_names():
        assert (ROOT / "docs" / "tasks" / f"{name}.md").is_file(), name


def test_the_code_on_the_page_of_extending_is_that_of_the_examples() -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".md")
    ]
    assert len(shown) == 4
    for code in shown:
        for paragraph in code.strip().split("\n\n"):
            assert any(paragraph.strip("\n") in source for source in sources), paragraph
