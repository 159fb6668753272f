"""How the pages of the console are made: their words in two languages, their times, their files."""

from __future__ import annotations

import datetime
import functools
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, pass_context
from jinja2.runtime import Context

from tidemill.console import distributions
from tidemill.console.page import named, new_environment, size_text
from tidemill.console.site.session import Language, digest
from tidemill.console.site.visit import Visit, address

if TYPE_CHECKING:
    from tidemill.serving.access import Need

STATIC = Path(__file__).parent.parent / "static"
PAGES: tuple[tuple[str, str, Need], ...] = (
    ("/", "Loop", "any"),
    ("/data", "Data", "label"),
    ("/label", "Label", "label"),
    ("/models", "Models", "predict"),
    ("/try", "Try it", "predict"),
    ("/feedback", "Feedback", "admin"),
    ("/trace", "Trace", "admin"),
)
"""The navigation: path, name, and what one needs to see it."""


def render(visit: Visit, template: str, content: Mapping[str, Any]) -> str:
    """The HTML that a template of ``templates/site`` makes of *content*."""
    site = visit.site
    pages = [
        (path, name) for path, name, need in PAGES if visit.visitor.may(need) and (path != "/label" or site.labels_page)
    ]
    here = visit.request.url.path
    first = f"/{here.split('/')[1]}"
    return (
        _environment()
        .get_template(f"site/{template}")
        .render(
            {
                "visit": visit,
                "look": visit.look,
                "t": functools.partial(words, visit.look.language),
                "pages": pages,
                "here": first,
                "path": here,
                "code": site.sessions.form_code(visit.session),
                "project_name": visit.project.dir.name,
                "task": visit.project.config.task,
                "signed_in": visit.visitor.token,
                "may": visit.visitor.may,
                "now": time.time(),
                **content,
            }
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = new_environment()
    environment.globals |= {"distributions": distributions, "file": file_address, "address": address}
    environment.filters |= {
        "ago": _ago,
        "clock": clock,
        "took": took,
        "told": _told,
        "named": _named,
        "moment": moment,
        "size": size_text,
    }
    return environment


def words(language: Language, text: str, **values: object) -> str:
    """*text* in a language, with *values* in the place of its ``{names}``.

    >>> words("zh", "Loop"), words("en", "{n} labels", n=3)
    ('循环', '3 labels')
    """
    said = text if language == "en" else _chinese().get(text, text)
    return said.format(**values) if values else said


@functools.cache
def _chinese() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("words*.zh.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


@pass_context
def _named(context: Context, metric: str) -> str:
    return words(context["look"].language, named(metric))


@pass_context
def _told(context: Context, text: str) -> str:
    return told(context["look"].language, text)


def told(language: Language, text: str) -> str:
    """What the program wrote down in English, such as the reason for a question, in a language as far as that is known.

    >>> told("zh", "the model wavers between cat (51%) and dog (49%)")
    '模型在 cat（51%）与 dog（49%）之间犹豫'
    >>> told("zh", "something else")
    'something else'
    """
    if language == "en":
        return text
    for pattern, chinese in _phrases():
        found = pattern.fullmatch(text)
        if found is not None:
            said = found.groupdict()  # labels and names stay as they are
            return chinese.format(**said | ({"kind": words(language, said["kind"])} if "kind" in said else {}))
    return text


@functools.cache
def _phrases() -> list[tuple[re.Pattern[str], str]]:
    """Sentences with ``{names}`` in the place of what varies, as patterns, and what they are in Chinese."""
    found = json.loads((Path(__file__).parent / "phrases.zh.json").read_text(encoding="utf-8"))
    return [
        (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(said)), re.DOTALL), chinese)
        for said, chinese in found.items()
    ]


@functools.cache
def file_address(name: str) -> str:
    """The address of a file of ours, which changes with its content, so that browsers may keep it for ever."""
    return f"/static/{name}?v={digest(static_file(name))}"


@functools.cache
def static_file(name: str) -> bytes:
    """A file of ours; the style sheet of reports is made of their own."""
    if name == "report.css":
        return new_environment().get_template("_style.css").render().encode()
    return (STATIC / name).read_bytes()


def moment(seconds: float | None) -> str:
    """A time as programs read it."""
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def clock(seconds: float) -> str:
    """The hour of a day.

    >>> clock(3600.0 * 25.5)
    '01:30'
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%H:%M")


@pass_context
def _ago(context: Context, seconds: float | None) -> str:
    """How long something is ago."""
    return "–" if seconds is None else ago(context["look"].language, context["now"] - seconds)


def ago(language: Language, seconds: float) -> str:
    """A span of time, rounded down to one unit.

    >>> ago("en", 5), ago("en", 3700), ago("zh", 180), ago("en", 200_000)
    ('just now', '1 h ago', '3 分钟前', '2 days ago')
    """
    if seconds < 45:
        return words(language, "just now")
    if seconds < 3600:
        return words(language, "{n} min ago", n=max(1, int(seconds // 60)))
    if seconds < 86_400:
        return words(language, "{n} h ago", n=int(seconds // 3600))
    days = int(seconds // 86_400)
    return words(language, "{n} days ago" if days > 1 else "{n} day ago", n=days)


def took(seconds: float | None) -> str:
    """A duration.

    >>> took(0.25), took(75), took(7384), took(None)
    ('0.2 s', '1 min 15 s', '2 h 3 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
