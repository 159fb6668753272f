"""What people should know before they answer."""

from __future__ import annotations

from pathlib import Path

from tidemill.errors import InputError
from tidemill.project.opened import OpenProject


def read(project: OpenProject) -> str | None:
    """What people should know before they answer: the text, or that of the file which is named.

    Raises:
        InputError: the file is missing, cannot be read, or is no UTF-8 text.
    """
    said = project.config.annotation.guidelines
    if said is None:
        path = project.dir / "guidelines.md"
        return _read(path) if path.is_file() else None
    if "\n" not in said and said.endswith((".md", ".txt")):
        path = (project.dir / said).resolve()
        if not path.is_relative_to(project.dir) or not path.is_file():
            raise InputError(
                f"there is no file {said!r} in the project", where="annotation.guidelines", mend="Check its path."
            )
        return _read(path)
    return said


def read_or_fault(project: OpenProject) -> str | None:
    """The guidelines, or why they cannot be shown: people go on labelling without them."""
    try:
        return read(project)
    except InputError as error:
        return f"The guidelines cannot be shown. {error}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the guidelines are no UTF-8 text", where=str(path), mend="Save the file as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"the guidelines cannot be read: {error.strerror}", where=str(path), mend="Check who may read the file."
        ) from None
