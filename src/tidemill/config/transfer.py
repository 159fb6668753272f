"""``transfer`` in ``tidemill.yaml``: the pretrained models that recipes may start from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tidemill.config._base import Float, Int, Section, Text

Depth = Literal["frozen", "lora", "full"]


def _place(text: str) -> str:
    if text.startswith("hub:") and not re.fullmatch(r"hub:(?:[\w.-]+/)?[\w.-]+@[\w./-]+", text):
        raise PydanticCustomError(
            "checkpoint", "must be a folder, or hub:OWNER/NAME@REVISION with a commit, so that nothing changes unseen"
        )
    return text


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        for name in value:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(name)):
                raise PydanticCustomError(
                    "checkpoint", "must give each a name of small letters, digits and dashes, such as {bert: FOLDER}"
                )
    return value


def _small(text: str) -> str:
    return text.lower()


class Transfer(Section):
    """Transfer: the pretrained models that recipes may start from."""

    checkpoints: Annotated[dict[Text, Annotated[Text, AfterValidator(_place)]], BeforeValidator(_named)] = Field(
        default={},
        description="NAME: a folder as Hugging Face writes it, or hub:OWNER/NAME@REVISION; recipes are named after it",
    )
    depths: tuple[Depth, ...] = Field(
        default=("frozen", "lora", "full"),
        description="how much of a checkpoint learns, a recipe each: frozen (only a head over its vectors), lora "
        "(small matrices beside its own), full",
    )
    embedded: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="the encoder of the extra `encoder`: auto offers it where it is installed and texts are English",
    )
    licences: tuple[Annotated[Text, AfterValidator(_small)], ...] | None = Field(
        default=None,
        description="licences that checkpoints may have, such as apache-2.0, or unknown; null: any",
    )
    max_mb: Annotated[Float, Field(gt=0)] = Field(default=1500, description="largest weights of a checkpoint in MB")
    max_length: Annotated[Int, Field(ge=8, le=8192)] | None = Field(
        default=None, description="most tokens of a text; null: 128"
    )
    side: Annotated[Int, Field(ge=16, le=1024)] | None = Field(
        default=None, description="pixels that images are brought to; null: what the checkpoint was trained on"
    )

    def place(self, name: str, folder: str) -> str:
        """The reference of a checkpoint (see :mod:`tidemill.checkpoints`); paths are relative to *folder*.

        >>> Transfer(checkpoints={"bert": "models/bert"}).place("bert", "/p")
        'folder:/p/models/bert'
        """
        given = self.checkpoints[name]
        return given if given.startswith("hub:") else f"folder:{Path(folder, Path(given).expanduser())}"
