"""Continued pretraining on a device short of memory: each step is made of parts, and where no row fits it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tidemill.errors import TrainingError
from tidemill.learners.pretraining import HiddenPatches, Learned, pretrain

pytest.importorskip("transformers")


class Hungry(HiddenPatches):
    """Has memory for so many rows."""

    most = 10**9

    def loss(self, rows: npt.NDArray[np.int64], random: np.random.Generator, device: torch.device) -> torch.Tensor:
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return super().loss(rows, random, device)


def learned(folder: Path, most: int) -> Learned:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    subject = Hungry(images, None, seed=0)
    subject.most = most
    folder.mkdir()
    return pretrain(subject, folder, steps=1, rate=None, fresh=True, seed=0, on_step=lambda step, loss: None)


def test_a_device_short_of_memory_pretrains_in_parts(tmp_path: Path) -> None:
    whole, short = learned(tmp_path / "whole", 32), learned(tmp_path / "short", 9)
    assert (whole.parts, short.parts) == (1, 4)
    assert short.before == pytest.approx(whole.before, rel=0.02)
    assert (tmp_path / "short" / "config.json").is_file()
    with pytest.raises(TrainingError, match="cpu has too little memory for a step on one row"):
        learned(tmp_path / "none", 0)
