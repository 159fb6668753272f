"""Somebody who has nothing but a browser labels, runs a cycle, and promotes a model of their choice."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from mill import running
from playwright.sync_api import Browser, expect
from test_browser import browser, picture, visiting
from test_label_browser import until

import tidemill
from tidemill.records import Annotation, Cycle, Dataset

__all__ = ["browser"]

WORDS = {"delivery": ("late parcel", "it came too late"), "payment": ("card charged", "I paid it twice")}


@pytest.mark.long
def test_from_the_first_label_to_a_promotion(browser: Browser, tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topic"])
        for i in range(240):
            label = sorted(WORDS)[i % 2]
            writer.writerow([f"{WORDS[label][i % 3 % 2]} no. {i}", label if i % 4 < 2 else ""])
    made = tidemill.init(
        tmp_path / "p",
        data=tmp_path / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["naive-bayes", "ridge"]},
    )
    made.cycle(max_trials=0, max_epochs=1)
    made.store.close()
    with running(tmp_path / "p") as served:
        store = served.project.store
        visitor, context = visiting(browser, served.url)
        page = visitor.go("/")
        page.locator(".node.annotate").get_by_role("link").click()
        for said in range(1, 7):  # answered by what stands there
            text = page.locator("#now .running").first.inner_text()
            right = next(label for label, words in WORDS.items() if any(word in text for word in words))
            page.locator("#now").get_by_role("button", name=right).click()
            until(lambda: store.count(Annotation) >= said, "the answer")  # noqa: B023 - called at once
            expect(page.locator("#now .running").first).not_to_have_text(text)
        picture(page, "label")
        page.get_by_role("link", name="Loop").click()
        page.get_by_text("Start a cycle").click()
        page.get_by_label("Why").fill("the first labels of mine")
        page.get_by_label("Time for tuning").fill("5s")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator(".cycle-now")).to_be_visible(timeout=300_000)
        expect(page.locator(".cycle-now")).to_have_count(0, timeout=600_000)
        newest = store.find(Cycle, newest_first=True, limit=1)[0]
        assert newest.status == "done", newest
        expect(page.locator(f"a[href*='{newest.id}']").first).to_be_visible()  # in the history, without being asked
        visitor.check()
        dataset = store.get(Dataset, newest.dataset_id or "")
        assert dataset.counts["train"] > store.find(Dataset)[0].counts["train"], "the labels train"
        champion = store.champion()
        assert champion is not None
        other = next(m for m in served.project.models() if m["id"] != champion.model_id)
        page.get_by_role("link", name="Models", exact=True).click()
        page.locator(f"table a[href='/models/{other['id']}']").first.click()  # circles may lie on one another
        page.get_by_text("Promote", exact=True).first.click()
        page.get_by_label("Why").first.fill("I like it better")
        page.get_by_role("button", name="Promote").click()
        expect(page.get_by_role("status")).to_have_text("It serves from now on.")
        deployed = store.champion()
        assert deployed is not None and (deployed.model_id, deployed.reason) == (other["id"], "I like it better")
        visitor.check()
        context.close()
