"""A project on handwritten digits that tries the two recipes beside this file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import tidemill


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = tidemill.init(folder, data="sklearn:digits", recipes={"include": ["forest", "tiny"]})
        shutil.copy(Path(__file__).with_name("recipes.py"), folder)
        for candidate in project.cycle()["candidates"]:
            print(f"{candidate['recipe']:12} {candidate.get('validation', candidate.get('failed'))}")


if __name__ == "__main__":
    main()
