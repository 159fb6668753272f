"""``training`` in ``tidemill.yaml``: who trains a network together, and what reports look into."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tidemill.config._base import Int, Section


class Training(Section):
    """Training: who trains a network together, and whether reports look into its robustness."""

    processes: Annotated[Int, Field(ge=1, le=64)] = Field(
        default=1, description="processes of this machine (on CUDA: GPUs) that train one network together"
    )
    robustness: bool = Field(
        default=True,
        description="see what is left of a model's quality when inputs go wrong, and show it in its report",
    )
