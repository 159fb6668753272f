"""The pages of the console: each answers, is well formed, carries no code and loads nothing from elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import nodes
from mill import Mill, digit_png, running, text
from pages import Tags

from tidemill.annotation.doubts import doubts_of
from tidemill.console.page import new_environment
from tidemill.console.site import places, rendering
from tidemill.project import rollouts
from tidemill.records import Deployment, Feedback, Model, Prediction, Rollout, Run, new_id
from tidemill.stages.deploy import end_rollout
from tidemill.store.glances import count_after, last_number
from tidemill.store.glances import page as page_of

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
SITE = Path(rendering.__file__).parent
TEMPLATES = SITE.parent / "templates"


def paths(mill: Mill) -> dict[str, str]:
    """Every page that can be looked at, by the path of its place."""
    model = mill.project.champion
    assert model is not None
    other = next(m["id"] for m in mill.project.models() if m["id"] != model["id"])
    sample = re.search(r"/data/samples/(smp_\w+)", mill.get("/data/samples"))
    assert sample is not None
    return {
        "/": "/",
        "/data": "/data",
        "/data/samples": "/data/samples?split=train&labelled=yes&q=digits",
        "/data/samples/{id}": f"/data/samples/{sample[1]}",
        "/models": "/models",
        "/models/compare": f"/models/compare?of={model['id']}&of={other}",
        "/models/runs": "/models/runs?status=done",
        "/models/{id}": f"/models/{model['id']}",
        "/models/{id}/report": f"/models/{model['id']}/report",
        "/try": "/try",
        "/feedback": "/feedback?kind=comment",
        "/feedback/authors": "/feedback/authors",
        "/trace": f"/trace?id={model['id']}",
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_answers_and_carries_no_code(mill: Mill, language: str) -> None:
    known = paths(mill)
    shown = {p.path for p in places.ALL if p.method == "GET" and p.need != "open"}
    assert {path for path in shown if not path.startswith("/label")} == set(known)  # that one has tests of its own
    for path in known.values():
        answer = mill.client.get(path, headers={"accept-language": language})
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        tags = Tags(answer.text.replace("<!doctype html>", ""))
        assert not tags.open, path
        for tag, attributes in tags.found:
            assert "style" not in attributes and not any(name.startswith("on") for name in attributes), (path, tag)
            assert tag != "style" and (tag != "script" or str(attributes["src"]).startswith("/static/"))
            for name in ("src", "href", "action"):
                value = str(attributes.get(name) or "/")
                assert value.startswith(("/", "#", "data:image/")) and not value.startswith("//"), (path, value)
        ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        if language == "zh" and "/report" not in path:
            assert 'lang="zh-Hans"' in answer.text and "循环" in answer.text


def test_the_loop_says_what_every_node_holds(mill: Mill) -> None:
    page = text(mill.get("/"))
    for node in ("prepare", "tune", "train", "evaluate", "deploy", "feedback", "annotate"):
        assert re.search(rf"\b{node}\b", page)
    assert "1,272 to train" in page and "serves since" in page and "promoted" in page
    live = mill.get("/", part="live")
    assert "<html" not in live and "The loop" in live


def test_the_data_page_says_what_is_in_a_version(mill: Mill) -> None:
    page = text(mill.get("/data"))
    for words in ("What stands out", "Doubtful labels", "Columns", "Duplicates", "What cleaning did", "Versions"):
        assert words in page
    version = mill.project.dataset
    assert version is not None and version.id in page
    assert "there is no" in text(mill.get("/data", 404, version="data_nothing")).lower()


def data_page_when(mill: Mill, true: Callable[[str], bool]) -> str:
    until = time.monotonic() + 240
    while not true(page := mill.get("/data")):
        assert time.monotonic() < until, text(page)
        time.sleep(0.5)
    return page


def test_a_version_that_could_not_be_described_is_tried_again(mill: Mill) -> None:
    root, version, settings = mill.project.store.root, mill.project.dataset, mill.project.dir / "tidemill.yaml"
    assert version is not None
    profile, written = root / version.path / "profile.json", settings.read_bytes()
    settings.write_text("data: [")  # the process that searches finds nothing to begin with
    mill.post("/data/search", version=version.id)
    page = data_page_when(mill, lambda page: 'role="alert"' in page)
    assert "What stands out" in page and "Try again" in page and 'action="/data/again"' not in page
    kept = profile.read_bytes()
    profile.unlink()  # that a search failed does not keep a version from being described
    page = data_page_when(mill, lambda page: 'action="/data/again"' in page)
    assert "What stands out" not in page and "Try again" in page
    settings.write_bytes(written)
    assert 'action="/data/again"' in mill.get("/data")  # nobody asked yet
    mill.post("/data/again", version=version.id)
    page = mill.get("/data")
    assert "is being described" in page and 'action="/data/again"' not in page
    profile.write_bytes(kept)
    assert "What stands out" in mill.get("/data")


def test_samples_are_filtered_and_paged_without_gap_or_repetition(mill: Mill) -> None:
    seen: list[str] = []
    path, pages = "/data/samples?split=reference&label=7", 0
    while path:
        page = mill.get(path)
        seen += re.findall(r'href="/data/samples/(smp_\w+)', page)
        assert set(re.findall(r"<b>(\w+)</b>", page)) <= {"7", "Tidemill"}
        further = re.search(r'rel="next" href="([^"]+)"', page)
        path = further[1].replace("&amp;", "&") if further else ""
        pages += 1
    assert len(seen) == len(set(seen)) >= 25 and pages == -(-len(seen) // 36)
    assert seen[0] in mill.get("/data/samples", q=seen[0])
    assert "Nothing fits here" in mill.get("/data/samples", q="nothing holds this")
    for query in ({"split": "none"}, {"label": "none"}, {"from": "-1"}):
        mill.get("/data/samples", 422, **query)
    opened = text(mill.get(f"/data/samples/{seen[0]}"))
    assert "reference" in opened and "What is known of it" in opened
    mill.get("/data/samples/smp_0000000000000000", 404)


def test_a_text_is_found_within_one_value_only(mill: Mill) -> None:
    import numpy as np

    from tidemill.console.site.samples import _rows_with
    from tidemill.data.arrays import Ragged

    column = Ragged.from_strings(["Sea", "shell", "a SEA b sea", "", "sé"])
    found = [
        _rows_with(column, 0, 5, re.compile(word.encode(), re.IGNORECASE)).tolist() for word in ("sea", "as", "sé")
    ]
    assert found == [[0, 2], [], [4]]
    assert _rows_with(column, 1, 3, re.compile(b"sea", re.IGNORECASE)).tolist() == [1]
    assert isinstance(np.asarray(column.offsets), np.ndarray)


def test_what_is_tried_is_answered_and_feedback_on_it_counts(mill: Mill) -> None:
    page = mill.post("/try", 200, files={"in.0": ("three.png", digit_png(3), "image/png")}).text
    assert re.search(r'class="big">3', page) and " ms" in page and "Was it right?" in page
    prediction = re.search(r'name="prediction" value="(\w+)"', page)
    assert prediction is not None
    for kind, value in (("confirmation", None), ("rating", "4"), ("comment", EVIL), ("correction", "5")):
        fields = {"prediction": prediction[1], "kind": kind} | ({} if value is None else {"value": value})
        mill.post("/try/say", **fields)
    said = {f.kind: f for f in mill.project.store.find(Feedback, subject=prediction[1])}
    assert set(said) == {"confirmation", "rating", "comment", "correction"}
    assert said["rating"].value == 4.0 and said["correction"].value == "5" and said["comment"].author == "console"
    shown = mill.get("/feedback")
    assert EVIL not in shown and "&lt;script&gt;" in shown and "replaced" in text(shown)
    line = mill.get("/trace", id=prediction[1])
    assert (EVIL not in line and "ridge" in line) or "naive-bayes" in line or "cnn" in line
    until = time.monotonic() + 30
    while ">console</a>" not in (authors := mill.get("/feedback/authors")) and time.monotonic() < until:
        time.sleep(0.3)  # it is found out anew when its prediction has come into the tables
    assert ">console</a>" in authors


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"kind": "correction", "value": "eleven"}, 422, "no label"),
        ({"kind": "rating", "value": "good"}, 422, "no number"),
        ({"kind": "comment"}, 422, "A comment is a text"),
        ({"kind": "nonsense"}, 422, "unknown"),
    ],
)
def test_a_wrong_statement_is_refused_with_its_mend(mill: Mill, fields: dict[str, str], status: int, word: str) -> None:
    before = mill.project.store.count(Feedback)
    answer = mill.post("/try/say", status, prediction=mill.ask(), **fields)
    assert word in text(answer.text) and "What to do" in answer.text and "Traceback" not in answer.text
    assert mill.project.store.count(Feedback) == before


def test_a_picture_that_is_none_is_refused(mill: Mill) -> None:
    answer = mill.post("/try", 422, files={"in.0": ("x.png", b"no picture", "image/png")})
    assert "What to do" in answer.text
    mill.post("/try", 422)


def test_who_serves_is_decided_with_a_reason_that_is_kept(mill: Mill) -> None:
    store = mill.project.store
    champion = mill.project.champion
    assert champion is not None
    other = next(m["id"] for m in mill.project.models() if m["id"] != champion["id"])
    revision = store.revision()
    page = mill.get(f"/models/{other}")
    mill.post(f"/models/{other}/promote", 422, reason="  ")
    mill.post(f"/models/{other}/promote", 409, reason="looked at an old page", seen=f"{revision - 1} none")
    assert store.revision() == revision
    mill.post(f"/models/{other}/promote", reason=f"checked by hand {EVIL}", **hidden(page, f"/models/{other}/promote"))
    deployed = store.champion()
    assert deployed is not None and deployed.model_id == other
    assert deployed.reason == f"checked by hand {EVIL}" and deployed.author == "console"
    assert EVIL not in mill.get("/models") + mill.get("/")
    mill.post("/models/rollback", reason="it was worse")
    back = store.champion()
    assert back is not None and back.model_id == champion["id"] and back.reason == "it was worse"
    assert store.count(Deployment) == 3


def test_a_roll_out_begins_goes_on_and_ends(mill: Mill) -> None:
    store, champion = mill.project.store, mill.project.champion
    assert champion is not None
    other = next(m["id"] for m in mill.project.models() if m["id"] != champion["id"])
    mill.post(f"/models/{other}/rollout", 422, reason="try it", phase="moon")
    mill.post(f"/models/{other}/rollout", reason="try it", phase="shadow")
    assert "Make it a canary" in mill.get("/models") and "Roll-out" in mill.get("/")
    mill.post("/models/rollout/advance", 422, reason="more", share="140")
    mill.post("/models/rollout/advance", reason="it looks well", share="12,5".replace(",", "."))
    rollout = store.find(Rollout, newest_first=True, limit=1)[0]
    assert (rollout.phase, rollout.share) == ("canary", 0.125) and "it looks well" in rollout.reason
    mill.post("/cycle/start", 409)
    mill.post("/models/rollout/end", reason="enough")
    rollout = store.find(Rollout, newest_first=True, limit=1)[0]
    assert rollout.status == "stopped" and "enough" in rollout.reason
    mill.post("/models/rollout/end", 503, reason="again")


def hidden(page: str, action: str) -> dict[str, str]:
    """What the form to *action* carries unseen, besides its code."""
    form = re.search(rf'<form method="post" action="{re.escape(action)}".*?</form>', page, re.DOTALL)
    assert form is not None, action
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[0])
    return {name: value for name, value in found if name != "code"}


def test_what_is_decided_on_a_page_of_another_roll_out_is_refused(mill: Mill) -> None:
    store, project, champion = mill.project.store, mill.project, mill.project.champion
    assert champion is not None
    others = [m["id"] for m in project.models() if m["id"] != champion["id"]][:2]
    project.promote(others[0], reason="so that there is one before it")
    alone = mill.get(f"/models/{others[1]}")
    first = rollouts.start(project, champion["id"], phase="shadow")
    assert store.get(Rollout, first.id).status == "running"
    during, before = mill.get("/models"), store.revision()
    end_rollout(store, first.id, "rolled-back", "its labels were worse")

    # The sheet says that the champion goes on alone; there is nothing left to end, and nobody meant the champion.
    mill.post("/models/rollback", 409, reason="enough of it", **hidden(during, "/models/rollback"))
    assert store.revision() == before

    second = rollouts.start(project, others[1], phase="shadow")
    stale = (
        ("/models/rollout/end", {"reason": "enough"}),
        ("/models/rollout/advance", {"reason": "more", "share": "50"}),
        ("/models/rollback", {"reason": "enough"}),
    )
    for action, fields in stale:
        mill.post(action, 409, **fields, **hidden(during, action))
    mill.post(f"/models/{others[1]}/promote", 409, reason="at once", **hidden(alone, f"/models/{others[1]}/promote"))
    assert store.get(Rollout, second.id) == second and store.revision() == before

    mill.post("/models/rollback", reason="enough", **hidden(mill.get("/models"), "/models/rollback"))
    assert store.get(Rollout, second.id).status == "stopped" and store.revision() == before
    mill.post(f"/models/{others[1]}/rollout", 409, reason="on", phase="shadow", seen=f"{before} {second.id}")
    project.rollback(reason="as it was")


def test_lists_go_on_by_number_without_gap_or_repetition(mill: Mill) -> None:
    store = mill.project.store
    key, model = "00000000000000aa", store.find(Model, limit=1)[0].id
    about = Prediction(id=new_id("pred"), deployment="d", model_id=model, key=key, inputs={}, answer={"label": "1"})
    pieces = [
        Feedback(id=new_id("fb"), subject=about.id, kind="comment", value=f"{i}", key=f"k{i}", author=f"a{i % 3}")
        for i in range(95)
    ]
    store.insert(about, *pieces)
    seen, path = [], "/feedback?kind=comment&author=a1"
    while path:
        page = mill.get(path)
        seen += re.findall(r"comment</span>\s*(\d+)", page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        path = found[1].replace("&amp;", "&") if found else ""
    assert seen == [str(i) for i in range(94, -1, -1) if i % 3 == 1]
    mill.get("/feedback", 422, kind="shout")
    numbers = [n for n, _ in page_of(store, Feedback, limit=5)]
    assert numbers == sorted(numbers, reverse=True) and numbers[0] == last_number(store, Feedback)
    assert [n for n, _ in page_of(store, Feedback, limit=2, after=numbers[2])] == numbers[:2]
    assert count_after(store, Feedback, numbers[2]) == 2


def test_a_trace_names_what_is_not_known(mill: Mill) -> None:
    page = mill.get("/trace", 404, id="run_nothing")
    assert "there is no run" in text(page).lower()
    mill.get("/trace", 404, id=EVIL)
    assert EVIL not in mill.client.get("/trace", params={"id": EVIL}).text
    run = mill.project.store.find(Run, limit=1)[0]
    assert run.id in mill.get("/trace", id=run.id)


def test_pages_that_do_not_exist_say_so(mill: Mill) -> None:
    for path in ("/data/nothing/at/all", "/models/model_nothing", "/static/nothing.js", "/static/..%2Fpage.py"):
        assert "Traceback" not in mill.get(path, 404)
    assert mill.client.get("/nothing").json()["error"]["code"] == "not_found"
    mill.get("/models/compare", 422, of="model_1")


def test_files_of_ours_are_kept_by_their_content(mill: Mill) -> None:
    address = re.search(r'href="(/static/site\.css\?v=\w+)"', mill.get("/"))
    assert address is not None
    answer = mill.client.get(address[1])
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/css")
    assert "{%" not in mill.client.get("/static/report.css").text


def said_in(source: str) -> set[str]:
    """Every text that a template may hand to ``t`` as it stands there."""
    found: set[str] = set()
    for call in rendering._environment().parse(source).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "t" and call.args:
            first = call.args[0]
            told = [first] if isinstance(first, nodes.Const) else [*first.find_all(nodes.Const)]
            found |= {one.value for one in told if isinstance(first, nodes.Const | nodes.CondExpr | nodes.Or)}
    return found


def plain_in(source: str) -> list[str]:
    """What a template says to readers without asking for a language."""
    for pattern, instead in ((r"{#.*?#}", ""), (r"{{.*?}}", "§"), (r"{%.*?%}", "\n")):
        source = re.sub(pattern, instead, source, flags=re.DOTALL)
    told = re.findall(r'(?:title|aria-label|alt|placeholder)="([^"§]*)"', source)
    told += re.split(r"<[^>]*>|\n", source)
    return [one.strip() for one in told if re.search(r"[A-Za-z]{2}", one)]


def test_every_word_is_known_in_chinese() -> None:
    words, said, plain = rendering._chinese(), set(), set()
    for file in [*(TEMPLATES / "site").glob("*.html"), *(TEMPLATES / "data").glob("*.html")]:
        said |= said_in(file.read_text(encoding="utf-8"))
        plain |= set(plain_in(file.read_text(encoding="utf-8")))
    names = {"Tidemill", "§ · § · Tidemill", "· § · Tidemill", "English"}  # of itself, and of the language
    codes = {"tidemill token new §", "pred_…, fb_…, model_…", "tm_…", "&lt;&nbsp;0.001"}
    assert plain - names - codes <= {"ms", "§ ms", "§ ms, p99", "§ ms ·"}
    assert len(said) > 300
    labels = {"left", "right", "group", "regression", "better", "audit", "choice"}  # compared with, and not said
    assert not said - set(words) - labels
    for text_, chinese in words.items():
        assert set(re.findall(r"\{\w+\}", text_)) == set(re.findall(r"\{\w+\}", chinese)), text_
    assert {name for _, name, _ in rendering.PAGES} <= set(words)


def test_no_page_asks_for_a_word_that_chinese_does_not_have(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()

    class Noting(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            if key not in self:
                asked.add(key)
            return super().get(key, default)

    known = Noting(rendering._chinese())
    monkeypatch.setattr(rendering, "_chinese", lambda: known)
    for path in (*paths(mill).values(), "/label", "/label/progress"):
        answer = mill.client.get(path, headers={"accept-language": "zh"})
        assert answer.status_code == 200, path
    assert not asked


@pytest.mark.parametrize(
    "reason",
    [
        *(reason for _, reason in doubts_of([
            {"label": "a", "scores": {"a": 0.6, "b": 0.4}},
            {"label": "a", "scores": {"a": 0.9, "b": 0.1}},
            {"label": None, "scores": {"a": 0.5, "b": 0.5}},
            {"labels": ["a"], "scores": {"a": 0.6, "b": 0.1}},
            {"labels": [], "scores": {"a": 0.4, "b": 0.1}},
        ], {}, np.random.default_rng(0))),
        *(reason for _, reason in doubts_of([{"value": 1.5}, {"value": 2.5}], {}, np.random.default_rng(0))),
        *(reason for _, reason in doubts_of([{"value": 2, "interval": [1, 3]}] * 2, {}, np.random.default_rng(0))),
        *(reason for _, reason in doubts_of(
            [{"value": 2, "interval": [1, 3]}, {"value": 2, "interval": [-1, 9]}], {}, np.random.default_rng(0)
        )),
        "drawn at random (1 in 20) to judge models", "drawn at random to choose among models",
        "people disagree: a (1), b (2)",
        "held back: nobody knows the author", "the data says 7, and a model that had not seen it says otherwise",
        "nothing like it has a label yet", "it stands for many that are like it, and few labels are known yet",
        "the model takes it for a, of which only 3 are known", "models disagree: the champion says a, cnn says b",
        "users were not pleased: a rating of 1, and 4 is usual", "somebody commented on the answer", "somebody asks",
        "no model yet, so the order is random",
    ],
)  # fmt: skip
def test_why_something_is_asked_is_said_in_chinese(reason: str) -> None:
    chinese = rendering.told("zh", reason)
    assert re.search(r"[\u4e00-\u9fff]", chinese) and "{" not in chinese, reason
    assert rendering.told("en", reason) == reason


def test_every_template_compiles() -> None:
    environment = new_environment()
    environment.filters |= rendering._environment().filters
    names = [name for name in environment.list_templates() if name.endswith(".html")]
    assert len(names) > 40
    for name in names:
        rendering._environment().get_template(name)


def test_the_console_can_be_left_out(grown_project: Path) -> None:
    with running(grown_project, console=False) as served:
        assert served.client.get("/").status_code == 404
        assert served.client.get("/v1/models").status_code == 200
