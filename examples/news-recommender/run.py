"""A page of news that learns from clicks over HTTP, and shows how much it still loses to the best choice in hindsight.

python examples/news-recommender/run.py           # a few made-up readers, and the regret in words
python examples/news-recommender/run.py --open    # the page at http://127.0.0.1:8765, for you and them
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np

import tidemill
from tidemill.client import Answer, Client

TOPICS = ("city", "culture", "science", "sport")
PAGE = Path(__file__).parent / "page.html"


def likes(age: int, hour: int) -> dict[str, float]:
    """How likely a made-up reader clicks on a story of each topic."""
    evening = hour >= 17
    return {
        "city": 0.35 if age >= 50 and not evening else 0.1,
        "culture": 0.4 if evening and age >= 30 else 0.05,
        "science": 0.45 if age < 30 and not evening else 0.1,
        "sport": 0.5 if age < 30 and evening else 0.08,
    }


def write_log(path: Path, rows: int = 600) -> None:
    """What a page logged that showed topics blindly."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(rows):
        age, hour, topic = int(rng.integers(16, 80)), int(rng.integers(6, 23)), TOPICS[rng.integers(4)]
        click = float(rng.random() < likes(age, hour)[topic])
        lines.append({"age": age, "hour": hour, "action": topic, "propensity": 0.25, "reward": click})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@dataclass
class Score:
    """What was earned so far, beside choosing blindly and the best choice in hindsight."""

    earned: float = 0.0
    blind: float = 0.0
    best: float = 0.0
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, chances: dict[str, float], topic: str) -> None:
        """One story was shown."""
        self.earned += chances[topic]
        self.blind += sum(chances.values()) / len(chances)
        self.best += max(chances.values())
        self.curve.append((len(self.curve) + 1, self.best - self.earned, self.best - self.blind))


class Paper:
    """Shows stories by asking the service, and tells it of clicks."""

    def __init__(self, url: str) -> None:
        self.client = Client(url)
        self.score = Score()
        self.rng = np.random.default_rng(1)

    def show(self, age: int, hour: int) -> Answer:
        """The story for a reader: its topic, how likely that was, and the id by which a click is told."""
        return self.client.predict({"age": age, "hour": hour})

    def readers(self, count: int) -> None:
        """Made-up readers come by, one after the other."""
        for _ in range(count):
            age, hour = int(self.rng.integers(16, 80)), int(self.rng.integers(6, 23))
            shown, chances = self.show(age, hour), likes(age, hour)
            self.score.add(chances, str(shown.action))
            self.client.reward(shown, float(self.rng.random() < chances[str(shown.action)]))


class Handler(BaseHTTPRequestHandler):
    """The page, the next story, clicks, and the curve of the live plot."""

    paper: ClassVar[Paper]

    def do_GET(self) -> None:
        """Answer a browser."""
        if self.path == "/":
            self._send(PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/curve":
            self._send(json.dumps(self.paper.score.curve[-2000:]).encode())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """A reader asks for a story, clicks on one, or lets some made-up readers come by."""
        said = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if self.path == "/story":
            story = self.paper.show(int(said["age"]), int(said["hour"]))
            shown = {"id": story.id, "action": story.action, "propensities": story.propensities}
            self._send(json.dumps(shown).encode())
        elif self.path == "/click":
            self.paper.client.reward(said["id"], float(said["value"]))
            self._send(b"{}")
        elif self.path == "/readers":
            self.paper.readers(50)
            self._send(b"{}")
        else:
            self.send_error(404)

    def _send(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of each request."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Where the project answers, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tidemill", "-C", str(folder), "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            with Client(url) as client:
                while not client.ready() and server.poll() is None:
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", action="store_true", help="show the page until Ctrl-C")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log.jsonl")
        project = tidemill.init(
            folder / "project",
            data=folder / "log.jsonl",
            target="reward",
            recipes={"include": ["means", "linear"]},
            bandit={"fast_seconds": 0.1, "min_choices": 10, "memory": 0.999},
        )
        print(project.cycle()["decision"]["reason"])
        with served(project.dir) as url:
            paper = Paper(url)
            if given.open:
                Handler.paper = paper
                print("http://127.0.0.1:8765 shows the page; Ctrl-C ends it")
                with contextlib.suppress(KeyboardInterrupt):
                    ThreadingHTTPServer(("127.0.0.1", 8765), Handler).serve_forever()
            else:
                paper.readers(400)
        score = paper.score
        if score.curve:
            print(f"after {len(score.curve)} stories: {score.earned:.0f} clicks expected, {score.blind:.0f} blindly,")
            print(f"and {score.best:.0f} by the best choice each time, known in hindsight")


if __name__ == "__main__":
    main()
