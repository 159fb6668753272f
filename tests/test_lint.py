"""`make lint` finds what would run code that came as data, and nothing in the program asks it to look away."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "tidemill").rglob("*.py"))
DANGEROUS = {
    "S102": 'exec("1")\n',
    "S301": "import pickle\n\npickle.loads(b'')\n",
    "S307": 'eval("1")\n',
    "S324": "import hashlib\n\nhashlib.md5(b'')\n",
    "S501": 'import httpx\n\nhttpx.get("https://tide.example", verify=False)\n',
    "S506": "import yaml\n\nyaml.load('')\n",
    "S602": 'import subprocess\n\nsubprocess.run("ls *", shell=True, check=True)\n',
    "S605": 'import os\n\nos.system("ls *")\n',
    "S701": "import jinja2\n\njinja2.Environment()\n",
}


def test_the_scan_finds_each_of_them() -> None:
    for rule, code in DANGEROUS.items():
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                "check",
                "--output-format=concise",
                "--stdin-filename",
                "src/tidemill/x.py",
                "-",
            ],
            input=code,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert f" {rule} " in done.stdout, (rule, done.stdout + done.stderr)


def test_nothing_in_the_program_silences_it() -> None:
    assert len(SOURCES) > 150
    silenced = [
        (path.name, rule)
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        for rule in re.findall(r"S\d{3}", line.partition("# noqa")[2])
        if rule in DANGEROUS
    ]
    assert not silenced


@pytest.mark.parametrize("wanted", [r"allow_pickle=True", r"\btorch\.load\(", r"joblib\.load", r"\bmarshal\b"])
def test_no_array_or_checkpoint_is_unpickled(wanted: str) -> None:
    found = [path.name for path in SOURCES if re.search(wanted, path.read_text(encoding="utf-8"))]
    assert not found
