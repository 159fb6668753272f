"""Answers of every kind: as a line for other programs, as a phrase, and with bars for people.

An answer is ``{"label", "score", "scores"}``, which may abstain (``label`` is ``None`` and ``guess`` stands in its
place), ``{"labels", "scores"}`` or ``{"value", "interval", "level"}``; see :mod:`tidemill.runtime.answers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.show import units
from tidemill.cli.show.layout import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

NOTHING = "abstains"
_TOP = 10  # labels that are shown with their bars
_BAR = 24  # columns of a full bar


def line(answer: Mapping[str, Any]) -> str:
    r"""One line with tabs between: the answer, then how sure it is; of an abstention, the guess that it withholds.

    >>> line({"label": "ebb", "score": 0.9, "scores": {"ebb": 0.9, "flood": 0.1}})
    'ebb\t90.0 %'
    >>> line({"labels": ["comedy", "drama"], "scores": {"comedy": 0.8, "drama": 0.6, "war": 0.1}})
    'comedy, drama\t80.0 %, 60.0 %'
    >>> line({"value": 3.25, "interval": [1.5, 4.0], "level": 0.9})
    '3.25\t1.5 to 4'
    """
    if "action" in answer:
        return f"{answer['action']}\t{units.percent(answer['propensity'])}"
    if "labels" in answer:
        scores = answer.get("scores", {})
        return f"{', '.join(answer['labels'])}\t{', '.join(units.percent(scores.get(n)) for n in answer['labels'])}"
    if "value" in answer:
        interval = answer.get("interval")
        value = f"{answer['value']:.10g}"
        return value if interval is None else f"{value}\t{interval[0]:.10g} to {interval[1]:.10g}"
    if answer.get("abstained"):
        return f"{NOTHING}\t{units.percent(answer.get('score'))}\tguess {answer.get('guess')}"
    return f"{answer['label']}\t{units.percent(answer.get('score'))}"


def phrase(answer: Mapping[str, Any]) -> str:
    """An answer in a few words.

    >>> phrase({"label": None, "abstained": True, "guess": "ebb", "score": 0.5, "scores": {}})
    'abstains (guess: ebb, 50.0 %)'
    >>> phrase({"labels": [], "scores": {"war": 0.1}})
    'no label'
    """
    if "action" in answer:
        return f"{answer['action']} (drawn with {units.percent(answer['propensity'])})"
    if "labels" in answer:
        scores = answer.get("scores", {})
        return ", ".join(f"{name} ({units.percent(scores.get(name))})" for name in answer["labels"]) or "no label"
    if "value" in answer:
        interval = answer.get("interval")
        value = units.number(answer["value"])
        return value if interval is None else f"{value} ({_span(interval)})"
    if answer.get("abstained"):
        return f"{NOTHING} (guess: {answer.get('guess')}, {units.percent(answer.get('score'))})"
    score = answer.get("score")
    return str(answer.get("label")) if score is None else f"{answer.get('label')} ({units.percent(score)})"


def label(value: Any) -> str:
    """A stated label: one, several, or a number.

    >>> label("ebb"), label(["a", "b"]), label([]), label(2.5), label(None)
    ('ebb', 'a, b', 'no label', '2.5', '–')
    """
    if value is None:
        return units.NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "no label"
    return units.number(value) if isinstance(value, float) else str(value)


def panel(answer: Mapping[str, Any]) -> RenderableType:
    """One answer for people: the likeliest labels with bars, or the number in its interval."""
    from rich.console import Group
    from rich.text import Text

    if "action" in answer:
        shares = sorted(answer["propensities"].items(), key=lambda item: (item[0] != answer["action"], -item[1]))
        return Group(*(_bar(name, share, name == answer["action"]) for name, share in shares[:_TOP]))
    if "value" in answer:
        interval, level = answer.get("interval"), answer.get("level", 0.9)
        text = Text(units.number(answer["value"]), "bold")
        if interval is not None:
            text.append(f"   {_span(interval)}", "not bold").append(f"   in {level:.0%} of cases", "dim not bold")
        return text
    given = set(answer["labels"]) if "labels" in answer else {answer.get("label")}
    scores = sorted(answer.get("scores", {}).items(), key=lambda item: (item[0] not in given, -item[1]))
    rows = [_bar(name, share, name in given) for name, share in scores[:_TOP]]
    if len(scores) > _TOP:
        rows.append(Text(f"and {len(scores) - _TOP} more", "dim"))
    if answer.get("abstained"):
        head = Text(NOTHING, "bold yellow").append(f": not sure enough of its guess {answer.get('guess')}", "not bold")
        return Group(head, *rows)
    if "labels" in answer and not given:
        return Group(Text("no label", "bold"), *rows)
    return Group(*rows)


def _bar(name: str, share: float, given: bool) -> Text:
    from rich.text import Text

    full = round(_BAR * min(max(share, 0.0), 1.0))
    style = "bold green" if given else "dim"
    text = Text("▸ " if given else "  ", style).append("█" * full, style).append("░" * (_BAR - full), "dim")
    return text.append(f" {units.percent(share):>8}  ", "not dim").append(visible(name), "bold" if given else "")


def _span(interval: Any) -> str:
    low, high = interval
    return f"{units.number(low)} to {units.number(high)}"
