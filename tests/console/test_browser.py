"""Every page and action in a real browser: no fault in its console, no request elsewhere, nothing that axe finds.

``TIDEMILL_TEST_PICTURES=docs/pictures`` keeps what is seen on the way as the pictures of docs/console.md.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from mill import Mill, digit_png, running
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tidemill.records import Cycle, Deployment, Feedback
from tidemill.serving.access import INTERVAL

EVIL = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
PHONE = {"width": 390, "height": 844}
SCREEN = {"width": 1280, "height": 860}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whatever ``TIDEMILL_TEST_BROWSER`` names."""
    path = os.environ.get("TIDEMILL_TEST_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "no Chromium on this machine; install it, or name it with TIDEMILL_TEST_BROWSER"
        if os.environ.get("TIDEMILL_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclass
class Visitor:
    """A person with a browser, of which everything that goes wrong is noted.

    Attributes:
        page: what is open.
        url: of the service.
        faults: what its console said, and requests to other places.
    """

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(self.url + path)
        return self.page

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def asked(self, request: Request) -> None:
        place = urlsplit(request.url)
        if place.scheme not in ("data", "blob") and f"{place.scheme}://{place.netloc}" != self.url:
            self.faults.append(f"request to {request.url}")

    def check(self) -> None:
        """Nothing went wrong, nothing is wider than the window, and axe finds nothing."""
        assert not self.faults, self.faults
        assert self.page.title().endswith("· Tidemill") or "Tidemill" in self.page.title()
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels too wide"
        found = Axe().run(
            self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        )
        told = [
            f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
            for one in found.response["violations"]
            for node in one["nodes"][:3]
        ]
        assert not told, f"{self.page.url}:\n" + "\n".join(told)


def visiting(browser: Browser, url: str, **look: Any) -> tuple[Visitor, BrowserContext]:
    context = browser.new_context(viewport=look.pop("viewport", SCREEN), **look)
    page = context.new_page()
    page.set_default_timeout(30_000)
    visitor = Visitor(page, url)
    page.on("console", visitor.heard)
    page.on("pageerror", lambda error: visitor.faults.append(f"page error: {error}"))
    page.on("request", visitor.asked)
    page.on("dialog", lambda dialog: visitor.faults.append(f"dialog: {dialog.message}"))
    return visitor, context


@pytest.fixture(scope="module")
def lively(grown_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A project with traffic and feedback, some of it hostile."""
    folder = tmp_path_factory.mktemp("lively") / "digits"
    shutil.copytree(grown_project, folder)
    config = (folder / "tidemill.yaml").read_text(encoding="utf-8")
    (folder / "tidemill.yaml").write_text(re.sub(r"(audit:.*?\n  rate:) [\d.]+", r"\1 0.4", config, flags=re.DOTALL))
    from sklearn.datasets import load_digits

    shown = load_digits()
    with running(folder) as served:
        rows = [{"image": (shown.images[i] * 15).astype(int).tolist()} for i in range(1500, 1600)]
        given = served.client.post("/v1/predict", json={"inputs": rows}).json()["predictions"]
        said = []
        for i, prediction in enumerate(given):
            right = str(shown.target[1500 + i])
            author = ("ann", "bea", "chi")[i % 3]
            statement = {"prediction": prediction["id"], "kind": "correction", "value": right, "author": author}
            if prediction["audit"]:
                said.append({**statement, "asked": True})
            elif i % 2:
                said.append(statement)
        said.insert(0, {"prediction": given[0]["id"], "kind": "comment", "value": EVIL, "author": EVIL[:80]})
        answer = served.client.post("/v1/feedback", json={"feedback": said})
        assert answer.status_code == 201, answer.text
        yield served


@pytest.fixture
def visitor(browser: Browser, lively: Mill) -> Iterator[Visitor]:
    """Somebody at a desk."""
    found, context = visiting(browser, lively.url)
    yield found
    context.close()


def picture(page: Page, name: str, *, full: bool = False) -> None:
    """Keep what is seen for the documentation, if that is asked for."""
    folder = os.environ.get("TIDEMILL_TEST_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"console-{name}.png", full_page=full)


def paths(mill: Mill) -> dict[str, str]:
    """Pages by name, each with something on it."""
    models = [model["id"] for model in mill.project.models()]
    champion = mill.project.champion
    assert champion is not None
    statement = mill.project.store.find(Feedback, kind="comment", limit=1)[0]
    sample = re.search(r"/data/samples/(smp_\w+)", mill.get("/data/samples"))
    assert sample is not None
    return {
        "loop": "/",
        "data": "/data",
        "samples": "/data/samples?label=4",
        "sample": f"/data/samples/{sample[1]}",
        "models": "/models",
        "model": f"/models/{champion['id']}",
        "compare": f"/models/compare?of={models[0]}&of={models[1]}",
        "runs": "/models/runs",
        "report": f"/models/{champion['id']}/report",
        "try": "/try",
        "feedback": "/feedback",
        "authors": "/feedback/authors",
        "trace": f"/trace?id={statement.subject}",
        "no-trace": "/trace",
    }


@pytest.mark.parametrize(
    "look",
    [
        pytest.param({"locale": "en-GB"}, id="desk", marks=pytest.mark.long),  # the two others see all that it does
        pytest.param({"locale": "zh-CN", "color_scheme": "dark"}, id="dark-chinese"),
        pytest.param({"locale": "en-GB", "viewport": PHONE, "color_scheme": "dark", "has_touch": True}, id="phone"),
    ],
)
def test_every_page_is_sound(browser: Browser, lively: Mill, look: dict[str, Any]) -> None:
    visitor, context = visiting(browser, lively.url, **dict(look))
    for name, path in paths(lively).items():
        page = visitor.go(path)
        assert page.title() != "taken"
        visitor.check()
        if look == {"locale": "en-GB"} and name in ("loop", "data", "models", "feedback", "trace"):
            picture(page, name)
    if "viewport" in look:
        visitor.go("/")
        picture(visitor.page, "phone")
    context.close()


def test_a_page_that_does_not_exist_is_sound(visitor: Visitor) -> None:
    page = visitor.go("/models/model_nothing")
    expect(page.get_by_role("heading", level=1)).to_have_text("That did not work")
    visitor.faults = [fault for fault in visitor.faults if "404" not in fault]  # that it is none is what is asked for
    visitor.check()


def test_everything_is_reached_by_keys(visitor: Visitor) -> None:
    page = visitor.go("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Start a cycle")).to_be_focused()
    visitor.go("/try")
    page.locator("canvas").focus()
    page.keyboard.down("Space")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.up("Space")
    assert page.locator("input[name='in.0.drawn']").input_value().startswith("data:image/png")
    page.get_by_role("button", name="Ask").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#answer .big")).to_be_visible()
    visitor.check()


def test_a_digit_is_drawn_answered_and_corrected(visitor: Visitor, lively: Mill) -> None:
    page = visitor.go("/try")
    frame = page.locator("canvas").bounding_box()
    assert frame is not None
    x, y, side = frame["x"], frame["y"], frame["width"]
    page.mouse.move(x + side * 0.5, y + side * 0.12)
    page.mouse.down()
    for step in range(1, 20):
        page.mouse.move(x + side * 0.5, y + side * (0.12 + 0.76 * step / 19))
    page.mouse.up()
    page.get_by_role("button", name="Ask").click()
    answer = page.locator("#answer .big")
    expect(answer).to_have_text(re.compile(r"^\s*\d\s*$"))
    visitor.check()
    picture(page, "try")
    page.get_by_placeholder("What is right").fill("1")
    page.get_by_role("button", name="Correct it").click()
    expect(page.get_by_role("status")).to_contain_text("the correction is kept")
    newest = lively.project.store.find(Feedback, newest_first=True, limit=1)[0]
    assert (newest.kind, newest.value) == ("correction", "1")
    visitor.check()


def test_a_photo_is_chosen_and_confirmed_and_a_fault_is_told(visitor: Visitor) -> None:
    page = visitor.go("/try")
    chosen = page.locator("input[type=file]")
    chosen.set_input_files({"name": "seven.png", "mimeType": "image/png", "buffer": digit_png(7)})
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Right", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("noted as right")
    visitor.check()
    chosen.set_input_files({"name": "none.png", "mimeType": "image/png", "buffer": b"none"})
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer").get_by_role("alert")).to_be_visible()


def test_a_model_is_promoted_with_its_reason_and_rolled_back(visitor: Visitor, lively: Mill) -> None:
    store, champion = lively.project.store, lively.project.champion
    assert champion is not None
    other = next(m for m in lively.project.models() if m["id"] != champion["id"])
    page = visitor.go("/models")
    page.get_by_role("link", name=f"{other['recipe']}", exact=True).first.click()
    page = visitor.go(f"/models/{other['id']}")
    page.get_by_text("Promote", exact=True).first.click()
    page.get_by_label("Why").first.fill("compared by hand")
    visitor.check()
    picture(page, "promote")
    page.get_by_label("Why").first.fill(f"compared by hand {EVIL}")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status")).to_have_text("It serves from now on.")
    deployed = store.champion()
    assert deployed is not None and deployed.model_id == other["id"] and deployed.reason.startswith("compared by hand")
    visitor.check()
    visitor.go("/models")
    page.get_by_text("Roll back", exact=True).first.click()
    page.get_by_label("Why").first.fill("it was worse")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("status")).to_have_text("It was rolled back.")
    assert store.count(Deployment) >= 3
    visitor.check()


def test_a_canary_is_steered_by_hand(visitor: Visitor, lively: Mill) -> None:
    champion = lively.project.champion
    assert champion is not None
    other = next(m for m in lively.project.models() if m["id"] != champion["id"])
    page = visitor.go(f"/models/{other['id']}")
    page.get_by_text("Roll out", exact=True).first.click()
    page.get_by_role("radio", name="canary").check()
    page.get_by_role("textbox", name="Share of the callers, in %").fill("10")
    page.locator("details[open]").get_by_label("Why").fill("a first share")
    page.get_by_role("button", name="Roll out").click()
    expect(page.get_by_role("status")).to_contain_text("a share of the callers")
    visitor.go("/models")
    visitor.check()
    page.get_by_text("End it", exact=True).first.click()
    page.locator("details[open]").get_by_label("Why").fill("enough")
    page.locator("details[open]").get_by_role("button", name="End it").click()
    expect(page.get_by_role("status")).to_have_text("The roll-out has ended.")
    visitor.check()


def test_a_cycle_is_started_watched_and_stopped(visitor: Visitor, lively: Mill) -> None:
    store = lively.project.store
    page = visitor.go("/")
    page.get_by_text("Start a cycle").click()
    page.get_by_label("Why").fill("from the browser")
    page.get_by_label("Time for tuning").fill("300s")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("The cycle is being started.")
    expect(page.locator(".steps")).to_be_visible(timeout=200_000)
    visitor.check()
    picture(page, "cycle")
    page.locator(".cycle-now").get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("status")).to_contain_text("asked to stop")
    until = time.monotonic() + 60
    while store.holder("cycle") is not None and time.monotonic() < until:
        time.sleep(0.2)
    assert store.find(Cycle, newest_first=True, limit=1)[0].status == "stopped"
    visitor.check()


def test_a_person_signs_in_and_out(browser: Browser, grown_project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    shutil.copytree(grown_project, folder)
    with running(folder) as served:
        token = served.project.new_token("ann", ["predict"])["token"]
        time.sleep(3 * INTERVAL)
        visitor, context = visiting(browser, served.url, color_scheme="dark")
        page = visitor.go("/models")
        visitor.check()
        picture(page, "sign-in")
        page.get_by_label("Token").fill("tm_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
        visitor.faults = [fault for fault in visitor.faults if "401" not in fault]
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Models")
        assert not page.get_by_role("link", name="Feedback").count()
        visitor.check()
        page.get_by_label("Language, colours, account").click()
        page.get_by_role("button", name="简体中文").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("模型")
        page.get_by_label("语言、颜色、账户").click()
        page.get_by_role("button", name="浅色").click()
        visitor.check()
        page.get_by_label("语言、颜色、账户").click()
        page.get_by_role("button", name="退出").click()
        expect(page.get_by_label("令牌")).to_be_visible()
        visitor.check()
        context.close()
