"""``tidemill serve --json`` as tests start it."""

from __future__ import annotations

import json
import subprocess


def url_of(process: subprocess.Popen[str]) -> str:
    """Where the service answers, once it says so on its standard output."""
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, "the service ended"
        text += line
    return str(json.loads(text)["url"])
