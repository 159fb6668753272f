"""What the benchmarks share: data, environments for peers, and a JSON line from another process."""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # for bare loops too, what tidemill sets before it imports torch

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def data_folder(name: str) -> Path:
    """A real data set: under ``TIDEMILL_TEST_DATA``, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("TIDEMILL_TEST_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        sys.exit(
            f"There is no data at {folder}. docs/benchmark-data.md says how to get it; then set TIDEMILL_TEST_DATA."
        )
    return folder


def mnist() -> tuple[Arrays, Arrays]:
    """Training and test images uint8 ``[n, 28, 28, 1]`` with their labels."""
    folder = data_folder("mnist")

    def read(stem: str) -> Arrays:
        with gzip.open(folder / f"{stem}-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
        with gzip.open(folder / f"{stem}-labels-idx1-ubyte.gz") as file:
            return images, np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)

    return read("train"), read("t10k")


def cifar() -> tuple[Arrays, Arrays]:
    """4,000 training and 1,000 test images uint8 ``[n, 32, 32, 3]`` with their labels."""
    from PIL import Image

    archive = zipfile.ZipFile(next(data_folder("cifar10-5k").glob("*.zip")))
    names = sorted(name for name in archive.namelist() if name.endswith(".png"))
    labels = sorted({name.split("/")[-2] for name in names})

    def read(split: str) -> Arrays:
        chosen = [name for name in names if name.split("/")[-3] == split]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in chosen]
        return np.stack(images), np.array([labels.index(name.split("/")[-2]) for name in chosen], np.int64)

    return read("train"), read("test")


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment of its own under ``benchmarks/.venv-NAME``, made on first use."""
    folder = HERE / f".venv-{name}"
    python = folder / "bin" / "python"
    marker = folder / "ready"
    if not marker.is_file() or marker.read_text() != "\n".join(requirements):
        print(f"making {folder} with {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
        marker.write_text("\n".join(requirements))
    return python


def in_process(python: Path | str, script: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run a script; what the last line of its output says as JSON."""
    done = subprocess.run(
        [str(python), str(script), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Do the work; seconds, processor seconds of all threads, and the growth of anonymous memory at its peak, in MB."""
    before, peak, stop = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    used = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    stop.set()
    thread.join()
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
        "anonymous_mb": round((max(peak[0], anonymous()) - before) / 1e6, 1),
    }


def anonymous() -> int:
    """Bytes of this process's memory that no file stands behind."""
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - read a hundred times a second
        for line in file:
            if line.startswith(b"RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


def calibration_error(probabilities: npt.NDArray[Any], truth: npt.NDArray[np.int64]) -> float:
    """The debiased calibration error of the reports: how far certainty lies from how often answers are right."""
    from tidemill.metrics.calibration import calibration
    from tidemill.metrics.units import Units

    answered, rows = probabilities.argmax(axis=1), len(truth)
    found = calibration(probabilities.max(axis=1), answered == truth, Units.of(np.arange(rows)), np.ones(rows))
    return found.debiased


def machine() -> str:
    """One line that says what the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    flags = Path("/proc/cpuinfo").read_text()
    extras = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags][:1]
    return f"{os.cpu_count()} cores {model} ({', '.join(extras)}), load {os.getloadavg()[0]:.1f} at the start"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)
