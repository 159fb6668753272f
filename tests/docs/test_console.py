"""What docs/console.md tells people to type, typed; and what it says of scopes and pages."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import tidemill
from tidemill.config import config_text, make_config
from tidemill.console.site import places
from tidemill.console.site.rendering import PAGES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")


def test_up_serves_the_console_to_those_who_sign_in(tmp_path: Path) -> None:
    own = {"task": "tabular-classification", "data": "sklearn:iris", "target": "target", "serve": {"port": 0}}
    (tmp_path / "tidemill.yaml").write_text(config_text(make_config(**own)), encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    up, token = (line.split() for line in "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines())
    made = subprocess.run(token, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"tm_[a-z2-7]{52}", made.stdout)
    with subprocess.Popen(up, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", service.stdout.readline())
        assert found is not None
        with urllib.request.urlopen(found[0], timeout=60) as answer:
            page = answer.read().decode()
        assert "/sign-in" in answer.url and 'name="token"' in page
        service.send_signal(signal.SIGINT)
        assert service.wait(timeout=60) == 0
    assert tidemill.open(tmp_path).tokens()[0]["scopes"] == ["predict", "label"]


def test_the_page_tells_of_every_page_and_scope() -> None:
    for _, name, _ in PAGES:
        assert re.search(rf"^## {name}$", PAGE, re.MULTILINE), name
    table = dict(re.findall(r"^\| `?(\w+)`? \| (.+) \|$", PAGE.partition("## Signing in")[2], re.MULTILINE))
    assert set(table) - {"scope"} == {place.need for place in places.ALL} - {"open"}
    named = {path: (name, need) for path, name, need in PAGES}
    for place in places.ALL:
        if place.method == "GET" and place.path in named:
            name, need = named[place.path]
            assert place.need == need and (name in table[need] or need == "admin"), name


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((\S+)\)", PAGE)
    assert len(pictures) > 8
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 400_000
