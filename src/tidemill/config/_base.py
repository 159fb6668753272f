"""What all sections of ``tidemill.yaml`` are made of: the section itself, and the types of their keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from tidemill.config.durations import parse_duration
from tidemill.errors import InputError

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Share = Annotated[Float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except InputError as error:
        raise PydanticCustomError("duration", "must be a length of time such as 60s, 5m or 1h30m") from error
    return text


Duration = Annotated[Text, AfterValidator(_duration)]


class Section(BaseModel):
    """What all sections share: frozen, and no key beside the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
