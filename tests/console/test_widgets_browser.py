"""Labelling in a real browser where one label is not the answer: several labels, a number, the better of two."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from mill import Mill, running
from playwright.sync_api import Browser, expect
from test_browser import PHONE, browser, picture, visiting
from test_label_browser import EVIL, labels, until

import tidemill
from tidemill.project import desk
from tidemill.records import Annotation, Feedback, Prediction, QueueItem, Turn, new_id

__all__ = ["browser"]

LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"locale": "en-GB"},
    "dark-chinese": {"locale": "zh-CN", "color_scheme": "dark"},
    "phone": {"locale": "en-GB", "viewport": PHONE, "has_touch": True},
}
TOPICS = ("delivery", "payment", "praise <i onclick=alert(1)>")  # a label, too, is text whatever it says


def made(folder: Path, rows: list[dict[str, Any]], target: str, task: str) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    project = tidemill.init(
        folder / "p", data=folder / "a.jsonl", target=target, task=task, recipes={"include": ["ridge"]},
        annotation={"audit_share": 0.0},
    )  # fmt: skip
    project.cycle(max_trials=0, max_epochs=1)
    project.store.close()
    return folder / "p"


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """Texts with any number of labels."""
    texts = ("late parcel", "card charged", "thank you")
    rows = [
        {"text": f"{texts[i % 3]} and {texts[i % 2]} {i}", "topics": sorted({TOPICS[i % 3], TOPICS[i % 2]})}
        for i in range(90)
    ]
    with running(made(tmp_path_factory.mktemp("topics"), rows, "topics", "text-multi-label")) as found:
        yield found


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A table with a number to say."""
    rows = [{"rooms": i % 7, "area": 10.0 * (i % 13), "price": 3.0 * (i % 7) + (i % 13)} for i in range(90)]
    with running(made(tmp_path_factory.mktemp("prices"), rows, "price", "tabular-regression")) as found:
        yield found


def asked(mill: Mill, inputs: dict[str, Any], suggestion: dict[str, Any], n: int = 4) -> list[str]:
    """So many questions, and nothing else."""
    store = mill.project.store
    for kind in (QueueItem, Turn, Annotation):
        store.delete(kind, store.ids(kind))
    items = [
        QueueItem(
            id=new_id("ask"), subject=f"smp_{i:016x}", purpose="useful", rank=float(i), reason=f"it wavers {EVIL}",
            inputs={**inputs, "number": f"no. {i}"} if "text" not in inputs else {"text": f"no. {i} {inputs['text']}"},
            suggestion=suggestion,
        )
        for i in range(n)
    ]  # fmt: skip
    store.insert(*items)
    return [item.subject for item in items]


def pair(mill: Mill, *said: list[str]) -> list[str]:
    """Two predictions with these answers; their ids in order."""
    ids = sorted(new_id("pred") for _ in said)
    mill.project.store.insert(
        *(
            Prediction(id=i, deployment="d", model_id="m", key=i, inputs={"text": EVIL}, answer={"labels": one})
            for i, one in zip(ids, said, strict=True)
        )
    )
    return ids


def test_several_labels_are_chosen_by_keys_and_confirmed(browser: Browser, topics: Mill) -> None:
    subjects = asked(topics, {"text": EVIL}, {"labels": [TOPICS[2]], "scores": dict.fromkeys(TOPICS, 0.4)})
    visitor, context = visiting(browser, topics.url)
    page = visitor.go("/label?as=ann")
    now = page.locator("#now")
    expect(now).to_contain_text("no. 0")
    visitor.check()
    page.keyboard.press("1")
    page.keyboard.press("3")
    page.keyboard.press("2")
    page.keyboard.press("2")  # and not that one after all
    assert [box.is_checked() for box in now.get_by_role("checkbox").all()] == [True, False, True]
    picture(page, "label-several")
    page.keyboard.press("Enter")
    expect(now).to_contain_text("no. 1")
    until(lambda: labels(topics) == {subjects[0]: [TOPICS[0], TOPICS[2]]}, "both are kept")
    page.keyboard.press("Enter")  # none of them
    expect(now).to_contain_text("no. 2")
    until(lambda: labels(topics).get(subjects[1]) == [], "none is an answer, too")
    page.keyboard.press("u")
    expect(now).to_contain_text("no. 1")
    until(lambda: subjects[1] not in labels(topics), "it is taken back")
    now.get_by_role("checkbox", name="payment").check()
    now.get_by_role("button", name="Confirm").click()
    until(lambda: labels(topics).get(subjects[1]) == ["payment"], "by the mouse, too")
    visitor.check()
    context.close()


def test_a_number_is_typed_and_what_is_none_comes_back(browser: Browser, prices: Mill) -> None:
    subjects = asked(prices, {"rooms": 3, "area": 41.5}, {"value": 17.25, "interval": [12.0, 22.5], "level": 0.9})
    visitor, context = visiting(browser, prices.url)
    page = visitor.go("/label?as=ann")
    now = page.locator("#now")
    field = now.get_by_role("textbox", name="price")
    expect(field).to_be_focused()
    expect(now).to_contain_text("17.25")
    visitor.check()
    page.keyboard.type("18.5")
    picture(page, "label-number")
    page.keyboard.press("Enter")
    expect(now).to_contain_text("no. 1")
    until(lambda: labels(prices) == {subjects[0]: 18.5}, "the number is kept")
    expect(field).to_be_focused()
    page.keyboard.type("a lot")
    page.keyboard.press("Enter")
    expect(now.get_by_role("alert")).to_contain_text("it is here again")
    expect(now).to_contain_text("no. 1")
    expect(field).to_have_value("a lot")
    assert subjects[1] not in labels(prices)
    visitor.faults = [fault for fault in visitor.faults if "422" not in fault]  # the browser notes every refusal
    visitor.check()
    field.fill("-3")
    page.keyboard.press("Enter")
    until(lambda: labels(prices).get(subjects[1]) == -3.0, "what was mended is kept")
    expect(now).to_contain_text(re.compile("no. [23]"))
    expect(field).to_be_focused()
    shown = now.inner_text()
    page.keyboard.press("Escape")  # out of the field, so that keys are keys
    expect(field).not_to_be_focused()
    page.keyboard.press("s")
    expect(now).not_to_have_text(shown, use_inner_text=True)
    visitor.check()
    context.close()


def test_the_better_one_is_chosen_by_a_click_and_said_again(browser: Browser, topics: Mill) -> None:
    asked(topics, {"text": ""}, {}, n=0)
    store, ids = topics.project.store, pair(topics, [TOPICS[0], EVIL], [])
    desk.ask(topics.project, ids, reason="two models differ")
    visitor, context = visiting(browser, topics.url)
    page = visitor.go("/label?as=ann")
    now = page.locator("#now")
    expect(now).to_contain_text("two models differ")
    expect(now.locator(".sides")).to_contain_text(f"delivery, {EVIL}")
    visitor.check()
    picture(page, "label-better")
    now.get_by_role("button", name="the left one").click()
    until(lambda: store.find(Feedback, kind="preference"), "the preference")
    assert store.find(Feedback, kind="preference")[0].value == {"over": ids[1]}
    until(lambda: store.find(Turn, state="answered"), "that it is answered")
    page.keyboard.press("u")
    expect(page.locator("#told")).to_have_text(
        "A preference cannot be taken back. Say which one is better; that replaces it."
    )
    visitor.faults = [fault for fault in visitor.faults if "409" not in fault]
    visitor.check()
    context.close()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("widget", ["several", "number", "better", "text"])
def test_every_widget_is_sound_in_every_look(
    browser: Browser, topics: Mill, prices: Mill, widget: str, look: dict[str, Any]
) -> None:
    mill = prices if widget == "number" else topics
    if widget == "number":
        asked(mill, {"rooms": 3, "area": 41.5}, {"value": 17.25})
    else:
        asked(mill, {"text": EVIL}, {"labels": []}, n=4 if widget == "several" else 0)
    if widget in ("better", "text"):
        ids = pair(mill, [TOPICS[2]], [])
        desk.ask(mill.project, ids) if widget == "better" else desk.ask(mill.project, ids[:1], widget="text")
    visitor, context = visiting(browser, mill.url, **dict(look))
    page = visitor.go("/label?as=ann")
    expect(page.locator(f"#now article[data-widget={widget}]")).to_be_visible()
    visitor.check()
    context.close()
