"""An encoder on a machine short of memory: groups of rows are halved, the vectors stay; where none fits, it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from _checkpoints import Checkpoints

LIMITED = """
import json, resource, sys
import numpy as np
import torch
torch.set_num_threads(1)
from tidemill.errors import TrainingError
from tidemill.features.encoder import Encoder

images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
step = Encoder(["image"], checkpoint=sys.argv[1], side=256)  # 0.8 MB a row before anything is made of it
step.observe({"image": images})
step.finish()
limits = resource.getrlimit(resource.RLIMIT_AS)

def vectors(room):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, limits[1]) if room else limits)
    try:
        return step.transform({"image": images})["x"]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

sizes = []
step.backbone.register_forward_pre_hook(lambda network, given: sizes.append(len(given[0])))
whole, short, said = vectors(0), vectors(3_000_000), None
told = list(sizes)
try:
    vectors(-30_000_000)
except TrainingError as error:
    said = str(error)
print(json.dumps([float(np.abs(whole - short).max()), told, said]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_machine_short_of_memory_encodes_in_parts(checkpoints: Checkpoints, tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED, encoding="utf-8")
    mapped = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # or the C library keeps what was freed, and has it
    command = [sys.executable, script, checkpoints.reference("resnet")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=mapped)
    assert done.returncode == 0, done.stderr
    off, sizes, said = json.loads(done.stdout)
    assert sizes[:3] == [32, 8, 32] and max(sizes[3:]) <= 16 and off < 1e-4
    assert "cpu has too little memory for encoding one row" in said
