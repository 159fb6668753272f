"""The decoders under a coverage-guided fuzzer (Atheris, on libFuzzer): a program, since that ends its process.

    python tests/fuzz/fuzz.py --seconds 60                          # a minute for each decoder
    python tests/fuzz/fuzz.py --runs 3000 --decoders npz zip        # so many inputs for each of two
    python tests/fuzz/fuzz.py --quick                               # as many as take about half a second each
    python tests/fuzz/fuzz.py --decoders npz --input FILE           # one input, such as one that was found
    python tests/fuzz/fuzz.py --list

Each decoder gets a process of its own, forked after the imports. Allowed are success and a TidemillError; anything else
is a fault: another exception, a memory error within 384 MB beyond what the process began with, more than 25 seconds, or
a crash. The input is kept under ``--found``. The Python code of the decoders is watched for coverage, and of Pillow
unless it has to be quick; native code (codecs, Arrow, ONNX Runtime, orjson) is not, and sees what Python hands to it.

On the last line stands JSON: by decoder, how many inputs, of how much coverage, in how many seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # so that a limit of memory holds for it as well
sys.path.insert(0, str(Path(__file__).parent))

from fuzz_base import Decoder

MEMORY = 384 << 20
SLOW = 25
DOORS = ("bulk", "connection", "forms", "guard", "inference", "requests", "tensors")
WATCHED = [
    *(f"tidemill.data.{part}" for part in ("encode", "images", "schema", "sources")),
    *(f"tidemill.serving.{part}" for part in DOORS),
    *(f"tidemill.{room}" for room in ("features", "packages", "project.archive", "runtime", "store.segments")),
]
PLACE = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoders", nargs="+", metavar="NAME")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each, at most")
    parser.add_argument("--quick", action="store_true", help="as many as take about half a second")
    parser.add_argument("--seconds", type=int, default=0, help="for each, at most")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's choices; 0 for another one every time")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where faulty inputs are put")
    parser.add_argument("--input", type=Path, help="decode this one instead")
    parser.add_argument("--list", action="store_true", help="say which decoders there are")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-fuzz-", dir=PLACE))
    try:
        watched = () if arguments.input or arguments.list else WATCHED if arguments.quick else (*WATCHED, "PIL")
        decoders = loaded(folder, watched)
        chosen = {name: decoders[name] for name in arguments.decoders or decoders}
        if arguments.list:
            print("\n".join(chosen))
        elif arguments.input is not None:
            for decoder in chosen.values():
                once(decoder, arguments.input.read_bytes(), folder)
        else:
            sys.exit(fuzz_all(chosen, folder, arguments))
    finally:
        shutil.rmtree(folder)


def loaded(folder: Path, watched: Sequence[str] = ()) -> dict[str, Decoder]:
    """All decoders; where modules are watched, each has decoded its seeds, so that no import is left for later."""
    warnings.simplefilter("ignore")
    if not watched:
        return {decoder.name: decoder for decoder in imported()}
    import atheris

    with atheris.instrument_imports(include=list(watched)):
        decoders = imported()
        for decoder in decoders:
            for seed in decoder.seeds():
                once(decoder, seed, folder)
    return {decoder.name: decoder for decoder in decoders}


def imported() -> list[Decoder]:
    from fuzz_packages import PACKAGES
    from fuzz_requests import REQUESTS
    from fuzz_sources import SOURCES
    from fuzz_wire import WIRE

    return [*WIRE, *REQUESTS, *SOURCES, *PACKAGES]


def once(decoder: Decoder, data: bytes, folder: Path) -> None:
    """Decode *data* in a folder below *folder* that is empty, and is the one for temporary files."""
    place = folder / "scratch"
    place.mkdir()
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir(exist_ok=True)
    try:
        decoder.check(data, place)
    finally:
        tempfile.tempdir = None
        shutil.rmtree(place)


def fuzz_all(decoders: dict[str, Decoder], folder: Path, arguments: argparse.Namespace) -> int:
    """Fuzz one after the other; the status to end with."""
    told: dict[str, Any] = {}
    for decoder in decoders.values():
        place = folder / decoder.name
        place.mkdir()
        began = time.monotonic()
        status = fuzz(decoder, place, arguments)
        log = (place / "log").read_text(errors="replace")
        runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", log)
        covered = re.findall(r"\bcov: (\d+)", log)
        told[decoder.name] = {
            "inputs": int(runs[-1]) if runs else 0,
            "coverage": int(covered[-1]) if covered else 0,
            "seconds": round(time.monotonic() - began, 1),
        }
        print(f"{decoder.name}: {told[decoder.name]}", file=sys.stderr, flush=True)
        if status != 0:
            arguments.found.mkdir(parents=True, exist_ok=True)
            kept = [shutil.copy(path, arguments.found / f"{decoder.name}-{path.name}") for path in place.glob("*-*")]
            print(f"{log[-6000:]}\n{decoder.name} ended with {status}; see {kept}", file=sys.stderr, flush=True)
            told[decoder.name]["fault"] = [str(path) for path in kept]
    print(json.dumps(told))
    return int(any("fault" in one for one in told.values()))


def fuzz(decoder: Decoder, place: Path, arguments: argparse.Namespace) -> int:
    """Fuzz *decoder* in a process of its own; what it ended with."""
    (place / "corpus").mkdir()
    for index, seed in enumerate(decoder.seeds()):
        (place / "corpus" / f"seed{index}").write_bytes(seed)
    words = ["".join(f"\\x{byte:02x}" for byte in token) for token in decoder.tokens]
    (place / "words").write_text("".join(f'"{word}"\n' for word in words))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        _fuzz(decoder, place, arguments)
    except BaseException:  # the parent's cleaning up is not for this process
        traceback.print_exc()
    return int(ctypes.CDLL(None).exit(70))  # which does not return; the fuzzer keeps the input that it was at


def _fuzz(decoder: Decoder, place: Path, arguments: argparse.Namespace) -> None:
    import atheris

    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    data, resident = (_memory(key) for key in ("VmData", "VmRSS"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, data + MEMORY))
    options = {
        "runs": decoder.quick if arguments.quick else arguments.runs,
        "max_total_time": arguments.seconds,
        "seed": arguments.seed,
        "timeout": SLOW,
        "rss_limit_mb": (resident + MEMORY) >> 20,
        "max_len": max(decoder.longest, *(path.stat().st_size for path in (place / "corpus").iterdir())),
        "dict": place / "words",
        "artifact_prefix": f"{place}/",
        "print_final_stats": 1,
        "reload": 0,
    }
    given = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(place / "corpus")]
    atheris.Setup(given, lambda data: once(decoder, data, place))
    # What libraries would do at the end is for threads that the fork did not take along.
    library = ctypes.CDLL(None)
    library.on_exit(library._exit, None)
    atheris.Fuzz()


def _memory(key: str) -> int:
    (found,) = re.findall(rf"^{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found) << 10


if __name__ == "__main__":
    main()
