"""The keys of annotation: how many people answer, what they are shown, and what labels rows without anybody."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tidemill.config._base import Duration, Float, Int, Section, Share, Text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError("pattern", "must be a regular expression ({why})", {"why": str(error)}) from error
    return text


def _label(value: Any) -> Any:
    """Labels may be numbers, in the file as in the data."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class PatternFunction(Section):
    """A labelling function: rows that match a pattern are likely to have a label."""

    name: Text | None = Field(default=None, description="what it is called; the pattern unless given")
    pattern: Annotated[Text, AfterValidator(_pattern)] = Field(
        description="regular expression; a row in which it is found gets the label, such as '(?i)refund'"
    )
    label: Annotated[Text, BeforeValidator(_label)] = Field(description="the label that it votes for")
    column: Text | None = Field(default=None, description="the column that is searched; null: every text")


class AnnotationPolicy(Section):
    """Annotation: who answers questions, what they are shown, and which functions label rows beforehand."""

    overlap: Annotated[Int, Field(ge=1, le=20)] = Field(
        default=1, description="people who answer the same question, where it is one of the overlap_share"
    )
    overlap_share: Share = Field(
        default=1.0, description="share of the questions that so many people answer; one answers the others"
    )
    lease: Duration = Field(default="15m", description="length of time that a question is kept for whoever sees it")
    suggestion: Literal["shown", "hidden"] = Field(
        default="shown", description="what the model says, beside a question; never beside those that judge"
    )
    audit_share: Share = Field(default=0.5, description="share of the questions that are the audit's, where it has any")
    guidelines: Text | None = Field(
        default=None, description="what people should know: a text, or a file beside this one, such as guidelines.md"
    )
    check_labels: bool = Field(
        default=True,
        description="ask again about labels of the data that are probably wrong",
    )
    functions: tuple[PatternFunction, ...] = Field(
        default=(), description="patterns that label rows without a label: `- pattern: '(?i)refund'` and `label: …`"
    )
    files: tuple[Text, ...] = Field(
        default=("labelling.py",), description="Python files with labelling functions of your own, beside this file"
    )
    min_belief: Annotated[Float, Field(gt=0, lt=1)] = Field(
        default=0.7,
        description="chance from which on a label by functions is learned from",
    )
