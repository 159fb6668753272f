"""Labelling in a real browser: one key an answer, the next sample at hand, and nothing that was said is lost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from mill import Mill, running
from playwright.sync_api import Browser, Page, expect
from test_browser import PHONE, Visitor, browser, visiting

import tidemill
from tidemill.project import desk
from tidemill.records import Annotation, Feedback, Prediction, QueueItem, Turn, new_id
from tidemill.serving.access import INTERVAL

__all__ = ["browser"]

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
LABELS = ("delivery", "payment")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    folder = tmp_path_factory.mktemp("label-browser")
    rows = [f"{'late parcel' if i % 2 else 'card charged'} {i},{LABELS[1 - i % 2]}" for i in range(60)]
    (folder / "a.csv").write_text("text,topic\n" + "\n".join(rows) + "\n")
    project = tidemill.init(
        folder / "p",
        data=folder / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["ridge"]},
        annotation={"guidelines": f"Late is delivery.\nMoney is payment. {EVIL}", "audit_share": 0.0},
    )
    project.cycle(max_trials=0, max_epochs=1)
    project.store.close()
    with running(folder / "p") as found:
        yield found


@pytest.fixture
def subjects(served: Mill) -> list[str]:
    store = served.project.store
    for kind in (QueueItem, Turn, Annotation):
        store.delete(kind, store.ids(kind))
    items = [
        QueueItem(
            id=new_id("ask"), subject=f"smp_{i:016x}", purpose="useful", rank=float(i), reason=f"it wavers {EVIL}",
            inputs={"text": f"sample number {i} {EVIL}"},
            suggestion={"label": "payment", "score": 0.6, "scores": {"payment": 0.6, "delivery": 0.4}},
        )
        for i in range(6)
    ]  # fmt: skip
    store.insert(*items)
    return [item.subject for item in items]


@pytest.fixture
def visitor(browser: Browser, served: Mill, subjects: list[str]) -> Iterator[Visitor]:
    found, context = visiting(browser, served.url)
    yield found
    context.close()


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def labels(served: Mill) -> dict[str, Any]:
    return {
        a.subject: a.label for a in served.project.store.find(Annotation, superseded_by=None) if a.label is not None
    }


def test_a_key_an_answer_with_undo_skip_note_and_not_sure(visitor: Visitor, served: Mill, subjects: list[str]) -> None:
    page = visitor.go("/label?as=ann")
    shown = page.locator("#now")
    expect(shown).to_contain_text("sample number 0")
    expect(page.get_by_role("complementary")).to_contain_text("Late is delivery")
    visitor.check()
    page.keyboard.press("1")
    expect(shown).to_contain_text("sample number 1")
    until(lambda: labels(served) == {subjects[0]: "delivery"}, "the first answer")
    page.keyboard.press("n")
    page.keyboard.type("not so clear")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(shown).to_contain_text("sample number 2")
    until(lambda: labels(served).get(subjects[1]) == "payment", "the second answer")
    assert served.project.store.find(Annotation, subject=subjects[1])[0].note == "not so clear"
    page.keyboard.press("u")
    expect(shown).to_contain_text("sample number 1")
    expect(shown.get_by_role("button", name="payment")).to_have_attribute("aria-pressed", "true")
    until(lambda: subjects[1] not in labels(served), "it is taken back")
    page.keyboard.press("1")
    until(lambda: labels(served).get(subjects[1]) == "delivery", "and answered anew")
    expect(shown).to_contain_text("sample number 2")
    page.keyboard.press("?")
    expect(shown).to_contain_text("sample number 3")
    page.keyboard.press("s")
    expect(shown).to_contain_text("sample number 4")
    states = lambda: {t.state for t in served.project.store.find(Turn, author="ann")}  # noqa: E731
    until(lambda: {"unsure", "skipped"} <= states(), "both are noted")
    for label in ("delivery", "payment"):
        shown.get_by_role("button", name=label).click()
    expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()
    until(lambda: len(labels(served)) == 4, "all are kept")
    visitor.check()
    visitor.go("/label/progress?as=ann")
    visitor.check()


def test_what_cannot_be_sent_comes_back(visitor: Visitor, served: Mill, subjects: list[str]) -> None:
    page = visitor.go("/label?as=ben")
    shown = page.locator("#now")
    expect(page.locator("#next article")).to_have_count(1)
    page.context.set_offline(True)
    page.keyboard.press("2")
    expect(shown.get_by_role("alert")).to_contain_text("it is here again")
    expect(shown).to_contain_text("sample number 0")
    assert not labels(served)
    page.context.set_offline(False)
    page.keyboard.press("2")
    until(lambda: labels(served) == {subjects[0]: "payment"}, "it is kept at last")
    expect(shown).to_contain_text("sample number 1")
    visitor.faults = [fault for fault in visitor.faults if "ERR_INTERNET_DISCONNECTED" not in fault]
    visitor.check()


def test_two_people_at_once(visitor: Visitor, served: Mill, subjects: list[str]) -> None:
    page = visitor.go("/label?as=ann")
    expect(page.locator("#now")).to_contain_text("sample number 0")
    desk.answer(served.project, subjects[0], "payment", author="ben")  # meanwhile
    page.keyboard.press("1")
    expect(page.locator("#told")).to_contain_text("somebody settles it")
    assert len(served.project.store.find(Annotation, subject=subjects[0])) == 2
    visitor.check()


def test_which_is_better_and_a_text(visitor: Visitor, served: Mill) -> None:
    store = served.project.store
    store.delete(QueueItem, store.ids(QueueItem))
    ids = sorted(new_id("pred") for _ in range(2))
    store.insert(
        *(
            Prediction(id=i, deployment="d", model_id="m", key=i, inputs={"text": EVIL}, answer={"label": label})
            for i, label in zip(ids, LABELS, strict=True)
        )
    )
    desk.ask(served.project, ids)
    desk.ask(served.project, ids[:1], widget="text")
    page = visitor.go("/label?as=ann")
    expect(page.get_by_text("Which is better?")).to_be_visible()
    visitor.check()
    page.keyboard.press("2")
    until(lambda: store.find(Feedback, kind="preference"), "the preference")
    assert store.find(Feedback, kind="preference")[0].value == {"over": ids[0]}
    field = page.locator("#now textarea[name=label]")
    field.fill(EVIL)
    page.get_by_role("button", name="Confirm").click()
    until(lambda: store.find(Annotation, subject=ids[0]), "the text")
    assert store.find(Annotation, subject=ids[0])[0].note == EVIL
    visitor.check()


def sign_in(page: Page, token: str) -> None:
    page.locator("#token").fill(token)
    page.locator("main").get_by_role("button", name="Sign in").click()
    expect(page.locator("#token")).to_have_count(0)


def test_what_was_said_outlives_the_session(
    browser: Browser, served: Mill, subjects: list[str], tmp_path: Path
) -> None:
    shutil.copytree(served.project.dir, tmp_path / "p")
    with running(tmp_path / "p") as closed:
        keys = {name: closed.project.new_token(name, ["label"])["token"] for name in ("ann", "ben")}
        time.sleep(3 * INTERVAL)
        visitor, context = visiting(browser, closed.url)
        page, shown = visitor.go("/label"), visitor.page.locator("#now")
        sign_in(page, keys["ann"])
        visitor.go("/label")
        expect(shown).to_contain_text("sample number 0")
        context.clear_cookies()  # the twelve hours are over
        page.keyboard.press("2")
        expect(shown.get_by_role("alert")).to_contain_text("not signed in any more")
        expect(shown).to_contain_text("sample number 0")
        assert not labels(closed)
        with context.expect_page() as opened:
            shown.get_by_role("link", name="Sign in").click()
        other = opened.value
        sign_in(other, keys["ann"])
        page.keyboard.press("2")
        until(lambda: labels(closed) == {subjects[0]: "payment"}, "it is kept at last")
        expect(shown).to_contain_text("sample number 1")
        context.clear_cookies()  # now somebody else signs in
        other.goto(f"{closed.url}/sign-in")
        sign_in(other, keys["ben"])
        page.keyboard.press("1")
        expect(shown.get_by_role("alert")).to_contain_text("Open the page again")
        expect(shown).to_contain_text("sample number 1")
        (kept,) = closed.project.store.find(Annotation)
        assert kept.author == "ann"
        visitor.faults = [one for one in visitor.faults if not re.search(r"status of 40[13]|ERR_FAILED|fetch", one)]
        visitor.check()
        context.close()


@pytest.mark.parametrize(
    "look",
    [
        {"locale": "zh-CN", "color_scheme": "dark"},
        {"locale": "en-GB", "viewport": PHONE, "has_touch": True},
    ],
    ids=["dark-chinese", "phone"],
)
def test_it_is_sound_in_other_looks(
    browser: Browser,
    served: Mill,
    subjects: list[str],
    look: dict[str, Any],
) -> None:
    visitor, context = visiting(browser, served.url, **look)
    page = visitor.go("/label?as=ann")
    expect(page.locator("#now")).to_contain_text("sample number 0")
    if look["locale"] == "zh-CN":
        expect(page.get_by_role("button", name=re.compile("跳过"))).to_be_visible()
    visitor.check()
    visitor.go("/label/progress")
    visitor.check()
    context.close()
    assert subjects


def test_without_scripts_the_forms_do(browser: Browser, served: Mill, subjects: list[str], tmp_path: Path) -> None:
    visitor, context = visiting(browser, served.url, java_script_enabled=False)
    page = visitor.go("/label?as=ann")
    page.locator("#now").get_by_role("button", name="payment").click()
    expect(page.locator("#now")).to_contain_text("sample number 1")
    assert labels(served) == {subjects[0]: "payment"}
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#now")).to_contain_text("sample number 0")
    context.close()
