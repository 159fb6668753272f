"""The page on which people label: its forms, with and without the script, and what it does with bad input."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import tidemill
from tidemill.api import Project
from tidemill.console.site.app import Site
from tidemill.errors import InputError
from tidemill.project.studio import write_config
from tidemill.records import Annotation, QueueItem, Token, Turn, new_id
from tidemill.serving.app import Application

HTML = "<script>alert(1)</script>"
LABELS = ("delivery", "payment")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("label")
    rows = [f"{'late parcel' if i % 2 else 'card charged'} {i},{LABELS[1 - i % 2]}" for i in range(60)]
    (folder / "a.csv").write_text("text,topic\n" + "\n".join(rows) + "\n")
    made = tidemill.init(
        folder / "p",
        data=folder / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["ridge"]},
        annotation={"guidelines": f"Mind {HTML}\nlate is delivery"},
    )
    made.cycle(max_trials=0, max_epochs=1)
    return made


@pytest.fixture
def client(project: Project) -> Iterator[TestClient]:
    store = project.store
    for kind in (QueueItem, Turn, Annotation):
        store.delete(kind, store.ids(kind))
    items = [
        QueueItem(
            id=new_id("ask"),
            subject=f"smp_{i:016x}",
            purpose="useful",
            rank=float(i),
            reason=f"reason {i} {HTML}",
            inputs={"text": f"sample {i} {HTML}"},
            suggestion={"label": "payment", "score": 0.6, "scores": {"payment": 0.6, "delivery": 0.4}},
        )
        for i in range(4)
    ]
    store.insert(*items)
    app = Application(project, pages=Site(project, cycle_target="tidemill.api.worker:cycle"))
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def form(text: str) -> dict[str, Any]:
    """The fields of the first question's form, as they stand there."""
    article = text.split("<article", 1)[1].split("</article>", maxsplit=1)[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', article))


def test_a_question_is_shown_as_text_with_the_next_one_at_hand(client: TestClient) -> None:
    page = client.get("/label?as=ann")
    assert page.status_code == 200 and page.text.count("<article") == 2
    assert HTML not in page.text and page.text.count("&lt;script&gt;") >= 5  # samples, reasons, guidelines
    assert "sample 0" in page.text.split('id="next"')[0] and "sample 1" in page.text.split('id="next"')[1]
    assert 'data-key="1"' in page.text and "The model says" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    again = client.get("/label?as=ann").text
    assert form(again)["question"] == form(page.text)["question"], "a page that is loaded anew goes on where it was"
    assert "sample 2" in client.get("/label?as=ben").text.split('id="next"')[0], "Ann looks at the first two"


def test_answers_by_the_plain_form_and_by_the_script(client: TestClient, project: Project) -> None:
    fields = form(client.get("/label?as=ann").text)
    plain = client.post("/label", data={**fields, "label": "payment", "note": HTML}, follow_redirects=True)
    assert plain.status_code == 200 and "sample 1" in plain.text.split('id="next"')[0] and HTML not in plain.text
    second = form(plain.text)
    sent = client.post("/label", data={**second, "label": "delivery"}, headers={"x-part": "1"})
    assert sent.json()["disputed"] is False
    shown = form(client.get("/label?as=ann").text)["question"]
    more = client.get("/label/question", params={"as": "ann", "besides": shown})
    assert more.status_code == 200 and "sample 3" in more.text
    kept = {a.subject: (a.label, a.author, a.note) for a in project.store.find(Annotation)}
    assert kept == {fields["subject"]: ("payment", "ann", HTML), second["subject"]: ("delivery", "ann", None)}
    back = client.post("/label/undo", data=second, headers={"x-part": "1"})
    assert "sample 1" in back.text and re.search(r'value="delivery"[^>]*aria-pressed="true"', back.text)
    assert HTML not in client.get("/label/progress?as=ann").text


def test_skipping_and_not_being_sure(client: TestClient, project: Project) -> None:
    first = form(client.get("/label?as=ann").text)
    client.post("/label", data={**first, "act": "skip"})
    second = form(client.get("/label?as=ann").text)
    client.post("/label", data={**second, "act": "unsure", "note": "blurred"})
    assert {t.state for t in project.store.find(Turn, author="ann")} == {"skipped", "unsure", "open"}
    assert not project.store.find(Annotation)
    assert next(t.note for t in project.store.find(Turn, state="unsure")) == "blurred"


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"label": "refund"}, 422, "refund"),
        ({"label": ""}, 422, "no answer"),
        ({"label": "payment", "subject": "smp_" + "f" * 16}, 404, "nobody asked"),
        ({"label": "payment", "note": "x" * 5000}, 422, "5,000"),
        ({"label": "payment", "as": "a\nb"}, 422, "as"),
        ({"label": "payment", "code": "forged"}, 403, "form"),
        ({"act": "skip", "question": "fb_none"}, 404, "no question"),
        ({"label": HTML}, 422, "&lt;script&gt;"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    client: TestClient, project: Project, change: dict[str, str], status: int, word: str
) -> None:
    fields = form(client.get("/label?as=ann").text)
    answer = client.post("/label", data={**fields, **change}, headers={"x-part": "1"})
    assert answer.status_code == status and word in answer.text.lower() and HTML not in answer.text
    assert not project.store.find(Annotation)


def test_of_two_questions_about_one_sample_the_shown_one_is_answered(client: TestClient, project: Project) -> None:
    (item, *others) = project.store.find(QueueItem)
    project.store.delete(QueueItem, [one.id for one in others])
    written = dataclasses.replace(item, id=new_id("ask"), rank=-1.0, ask="text", signal="asked")
    project.store.insert(written)
    fields = form(client.get("/label?as=ann").text)
    assert (fields["question"], fields["widget"]) == (written.id, "text")
    assert client.post("/label", data={**fields, "label": "a remark"}, headers={"x-part": "1"}).status_code == 200
    assert [q.id for q in project.store.find(QueueItem, done=False)] == [item.id]
    body = {"answers": [{"subject": item.subject, "label": "payment", "question": item.id}], "author": "ben"}
    assert client.post("/v1/answers", json=body).json()["answers"][0]["label"] == "payment"
    assert not project.store.find(QueueItem, done=False)


def test_guidelines_that_cannot_be_read_are_named_and_keep_nobody_from_labelling(
    client: TestClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.dir / "guidelines.md"
    policy = project.config.annotation.model_copy(update={"guidelines": None})
    monkeypatch.setattr(project, "config", project.config.model_copy(update={"annotation": policy}))
    path.write_bytes("\ufefflate is 配送".encode())
    told = client.get("/v1/annotation").json()["guidelines"]
    path.write_bytes("late is 配送".encode("gbk"))
    try:
        page, told_wrong = client.get("/label?as=ann"), client.get("/v1/annotation").json()["guidelines"]
        with pytest.raises(InputError, match=r"no UTF-8 text") as refused:
            write_config(project, project.dir / "config.xml")
    finally:
        path.unlink()
    assert told == "late is 配送" and "guidelines.md" in told_wrong and "UTF-8" in told_wrong
    assert page.status_code == 200 and "no UTF-8 text" in page.text and "<article" in page.text
    assert refused.value.where == str(path)


def test_two_people_at_once_lose_nothing(client: TestClient, project: Project) -> None:
    fields = form(client.get("/label?as=ann").text)
    client.post("/label", data={**fields, "label": "payment"})
    late = client.post("/label", data={**fields, "as": "ben", "label": "delivery"}, headers={"x-part": "1"})
    assert late.json()["disputed"] is True and len(project.store.find(Annotation)) == 2
    assert "people disagree" in client.get("/label?as=cem").text.split('id="next"')[0]


def test_a_page_left_open_while_the_queue_is_made_anew(client: TestClient, project: Project) -> None:
    fields = form(client.get("/label?as=ann").text)
    project.store.delete(QueueItem, [fields["question"]])
    project.store.insert(
        QueueItem(id=new_id("ask"), subject=fields["subject"], purpose="useful", rank=0.0, reason="r", inputs={})
    )
    assert client.post("/label", data={**fields, "label": "payment"}, headers={"x-part": "1"}).status_code == 200
    assert [a.label for a in project.store.find(Annotation)] == ["payment"]


def test_without_the_scope_the_page_is_closed(client: TestClient, project: Project) -> None:
    token = project.new_token("ann", ["predict"])
    try:
        deadline = time.monotonic() + 10
        while client.get("/label", follow_redirects=False).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/label", follow_redirects=False).status_code == 303  # to the sign-in
        shown = {"authorization": f"Bearer {token['token']}"}
        assert client.get("/label", headers=shown, follow_redirects=False).status_code in (303, 403)
        assert client.post("/label", data={"label": "payment"}, follow_redirects=False).status_code == 303
        assert not project.store.find(Annotation)
    finally:
        project.store.delete(Token, [token["id"]])
