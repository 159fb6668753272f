"""A user's own code: what goes wrong in it is told with its file and line, and costs its own recipe alone."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from tidemill.errors import TidemillError, TrainingError

_FORWARD = "Mend this code: forward is given the features by name, and returns float [rows, scores]."


def run_file(path: str, where: str, mend: str) -> ModuleType:
    """The module that a user's Python file makes.

    Raises:
        TrainingError: there is no such file, it is no Python file, or it fails while it is imported.
    """
    if not path or not Path(path).is_file():
        raise TrainingError(f"there is no file {path!r}", where=where, mend=mend)
    spec = importlib.util.spec_from_file_location(f"tidemill_user_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise TrainingError(f"{path} is not a Python file", where=where, mend=mend)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except TidemillError:
        raise
    except Exception as error:  # of somebody else's code: anything
        raise fault(error, f"{path}:", "it cannot be imported", "Mend this file.") from error
    return module


def fault(error: Exception, ref: str, what: str, mend: str = _FORWARD) -> TrainingError:
    """What a user's own code raised, with the line of its file that was the last to run, where there is one.

    Args:
        error: what it raised.
        ref: ``FILE.py:NAME``.
        what: what could not be done with it.
        mend: how to put it right.
    """
    path = ref.rpartition(":")[0]
    said = (str(error).strip().splitlines() or [""])[0]
    line = _line(error, Path(path).resolve())
    place = path if line is None else f"{path}, line {line}"
    return TrainingError(f"{what}: {type(error).__name__}: {said}".rstrip(": "), where=place, mend=mend)


def _line(error: Exception, file: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).resolve() == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    return lines[-1] if lines else None
