"""A task of one's own: which fault a machine has, from the readings of its vibration sensors.

What the shipped tasks could not know is written here: that the columns named ``vibration…`` are what counts, that other
numbers are left aside, and which recipes are worth trying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.data.schema import Field, Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks import Claim, ClassificationTask


class MachineFault(ClassificationTask):
    name = "machine-fault"
    summary = "the fault of a machine from its vibration sensors"
    metric = "accuracy"

    def claim(self, source: Summary, target: str) -> Claim | None:
        readings = [c.name for c in source.columns if c.name.startswith("vibration")]
        if len(readings) < 3:
            return None
        return Claim(confidence=0.99, reason=f"there are {len(readings)} vibration readings")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        readings = [c for c in source.columns if c.name.startswith("vibration") and c.name != target]
        inputs = tuple(Field(name=c.name, type="number", optional=c.missing > 0) for c in readings)
        return Signature(inputs=inputs, target=target, kind="classification", labels=tuple(sorted(labels)))

    def recipes(self, signature: Signature) -> list[Recipe]:
        numbers = ({"step": "numbers"},)
        return [
            Recipe(
                name="naive-bayes",
                task=self.name,
                learner="closed_form",
                features=numbers,
                params={"method": "naive-bayes"},
                baseline=True,
            ),
            Recipe(
                name="network",
                task=self.name,
                learner="gradient",
                features=numbers,
                network={"name": "mlp", "hidden": [32]},
            ),
        ]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        rng = np.random.default_rng(seed)
        faults = ("bearing", "none", "unbalance")
        level = {"bearing": (0.2, 0.2, 1.5), "none": (0.2, 0.2, 0.2), "unbalance": (1.5, 0.6, 0.2)}
        records = []
        for row in range(rows):
            fault = faults[row % 3]
            readings = rng.normal(level[fault], 0.25)
            records.append({f"vibration_{axis}": round(float(r), 4) for axis, r in zip("xyz", readings, strict=True)})
            records[-1]["label"] = fault
        return records
