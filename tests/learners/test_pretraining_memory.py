"""Continued pretraining on a machine short of memory: each step is made of parts, and where no row fits it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

LIMITED = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
from tidemill.errors import TrainingError
from tidemill.learners.pretraining import HiddenPatches, pretrain

images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
limits = resource.getrlimit(resource.RLIMIT_AS)

def learned(rows, room):
    subject = HiddenPatches(images[:rows], None, seed=0)
    folder = Path(sys.argv[1]) / f"{rows} {room}"
    folder.mkdir()
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, limits[1]) if room else limits)
    try:
        return pretrain(subject, folder, steps=1, rate=None, fresh=True, seed=0, on_step=lambda step, loss: None)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

learned(2, 0)
whole, short = learned(32, 0), learned(32, 70_000_000)
said = None
try:
    learned(32, 1_000_000)
except TrainingError as error:
    said = str(error)
print(json.dumps([whole.parts, short.parts, whole.before, short.before, said]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_machine_short_of_memory_pretrains_in_parts(tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED, encoding="utf-8")
    mapped = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # or the C library keeps what was freed, and has it
    command = [sys.executable, script, tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=mapped)
    assert done.returncode == 0, done.stderr
    plain, parts, before, after, said = json.loads(done.stdout)
    assert plain == 1 and parts in (2, 4, 8, 16)
    assert after == pytest.approx(before, rel=0.02)
    assert "too little memory for" in said
