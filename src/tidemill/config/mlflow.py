"""``mlflow`` in ``tidemill.yaml``: where runs, models and the champion are mirrored to."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tidemill.config._base import Float, Section, Text


def _tracking(text: str) -> str:
    if not re.match(r"(https?|sqlite|postgresql|mysql|mssql)(\+[a-z0-9]+)?://.", text):
        raise PydanticCustomError(
            "tracking", "must be a server such as http://127.0.0.1:5000, or a database such as sqlite:///mlflow.db"
        )
    return text


class Mlflow(Section):
    """MLflow: where runs, models and the champion are mirrored to."""

    uri: Annotated[Text, AfterValidator(_tracking)] | None = Field(
        default=None,
        description="a tracking server's URL, or a database such as sqlite:///mlflow.db; null: mirror nothing",
    )
    experiment: Text | None = Field(default=None, description="the experiment's name; null: the project's folder")
    model: Text | None = Field(default=None, description="the registered model's name; null: the same")
    artifacts: bool = Field(default=True, description="copy packages and reports, too")
    timeout_s: Annotated[Float, Field(gt=0, le=600)] = Field(
        default=10, description="seconds that a server may take for an answer"
    )
