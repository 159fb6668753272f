"""A small real project after a cycle, served with its console by a thread of this process."""

from __future__ import annotations

import base64
import contextlib
import io
import queue
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tidemill.api import Project, init
from tidemill.api.pages import pages_of
from tidemill.serving.server import serve

CODE = re.compile(r'name="code" value="(\w+)"')


def grown(folder: Path) -> Path:
    """Handwritten digits, one cycle of the closed forms and a small network."""
    project = init(folder, data="sklearn:digits", target="label", recipes={"exclude": ["cnn"]})
    project.cycle(max_trials=0, max_epochs=2)
    project.data()
    project.store.close()
    return folder


def digit_png(row: int) -> bytes:
    """One of the digits, as a file."""
    from sklearn.datasets import load_digits

    pixels = np.clip(load_digits().images[row] * 15, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@dataclass
class Mill:
    """A project and a visitor of its console.

    Attributes:
        project: what is served.
        url: where.
        client: keeps cookies, and follows no redirect.
        clients: of further visitors, closed with the service.
    """

    project: Project
    url: str
    client: httpx.Client
    clients: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def get(self, path: str, status: int = 200, **query: Any) -> str:
        """The page at *path*."""
        answer = self.client.get(path, params=query or None)
        assert answer.status_code == status, (path, answer.status_code, text(answer.text)[-600:])
        return answer.text

    def code(self) -> str:
        """What forms of this visitor carry."""
        found = CODE.search(self.get("/sign-in") if self.client.get("/").status_code != 200 else self.get("/"))
        assert found is not None
        return found[1]

    def post(
        self, path: str, status: int = 303, files: Mapping[str, Any] | None = None, **fields: Any
    ) -> httpx.Response:
        """Send a form of ours."""
        answer = self.client.post(path, data={"code": self.code(), **fields}, files=files)
        assert answer.status_code == status, (path, answer.status_code, text(answer.text)[-600:])
        return answer

    def ask(self, row: int = 3) -> str:
        """Try a digit; the id of the prediction."""
        page = self.post("/try", 200, files={"in.0": ("digit.png", digit_png(row), "image/png")}).text
        found = re.search(r'name="prediction" value="(\w+)"', page)
        assert found is not None
        return found[1]

    def visitor(self) -> Mill:
        """Somebody else, without cookies."""
        return Mill(
            self.project,
            self.url,
            self.clients.enter_context(httpx.Client(base_url=self.url, timeout=60)),
            self.clients,
        )


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Mill]:
    """The project in *folder*, served until the block ends."""
    project = Project(folder)
    chosen = project.serve_settings(port=0, **settings)
    ready: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        try:
            serve(project, on_ready=ready.put, stop=stop, settings=chosen, pages=pages_of(project, chosen))
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        port = ready.get(timeout=120)
        if isinstance(port, BaseException):
            raise port
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60) as client, contextlib.ExitStack() as clients:
            yield Mill(project, url, client, clients)
    finally:
        stop.set()
        thread.join()
        project.store.close()


def text(page: str) -> str:
    """What a reader sees, with every blank as one space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def data_url(content: bytes) -> str:
    """A PNG as pages write it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
