"""The server: a socket, uvicorn on it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from tidemill.config import Serve
from tidemill.errors import BusyError, ConfigError
from tidemill.records import Token
from tidemill.serving._base import Pages, ServedProject
from tidemill.serving.app import Application, wrapped
from tidemill.serving.collector import seldom_collected
from tidemill.serving.connection import Shelves, connect
from tidemill.serving.following import OnSwap
from tidemill.serving.guard import is_loopback
from tidemill.serving.logs import logged_to
from tidemill.serving.signals import handled
from tidemill.serving.tls import tls_context
from tidemill.serving.tracing import tracing
from tidemill.serving.wire import wired
from tidemill.serving.workers import Workers
from tidemill.store import Store

GRACE = 30
FILES = 128
YEAR = 365 * 24 * 3600


def serve(
    project: ServedProject,
    host: str | None = None,
    port: int | None = None,
    on_ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    on_swap: OnSwap | None = None,
    settings: Serve | None = None,
    worker: Sequence[str] = (),
    pages: Pages | None = None,
) -> None:
    """Serve *project* until SIGINT or SIGTERM (in the main thread) or until *stop* is set.

    At the end requests in flight are answered, the journal is flushed and folded into the tables. A second signal cuts
    the answering short, not the flushing.

    Args:
        project: what is served.
        host: a name or address of this machine; ``serve.host`` unless given.
        port: 0 means any free one; ``serve.port`` unless given.
        on_ready: called with the port once requests are answered.
        stop: set it from any thread to end the service.
        on_swap: told of each deployment that is taken up, the first one included, on a thread of the service.
        settings: what the project's configuration says under ``serve`` unless given.
        worker: the command that starts one process where ``serve.workers`` asks for several; without it there is one.
        pages: pages for people, beside the API; a worker brings its own.

    Raises:
        ConfigError: *host* would open the service to other machines, and there is no token; or it may not be listened
            on; or the files for TLS are faulty.
        BusyError: the port is taken.
        ExtraMissingError: traces are asked for, and OpenTelemetry is not installed.
    """
    settings = settings or project.config.serve
    host = settings.host if host is None else host
    tls_context(_file(project, settings.tls_certificate), _file(project, settings.tls_key))  # its faults, before all
    if not is_loopback(host):
        require_token(project.store, host)
    listener = listen(host, settings.port if port is None else port)
    bound: int = listener.getsockname()[1]
    ready = (lambda: on_ready(bound)) if on_ready else _silent
    stop = stop or threading.Event()
    with contextlib.closing(listener):
        if settings.workers > 1 and worker:
            with logged_to(sys.stderr, settings.log):
                Workers(worker, project.dir, listener, settings, host, ready, on_swap).run(stop)
        else:
            answer(project, listener, settings, host, on_ready=ready, stop=stop, on_swap=on_swap, pages=pages)


def answer(
    project: ServedProject,
    listener: socket.socket,
    settings: Serve,
    host: str,
    *,
    on_ready: Callable[[], None],
    stop: threading.Event,
    on_swap: OnSwap | None,
    pages: Pages | None = None,
) -> None:
    """Serve *project* on a socket that listens already, in this process alone; see :func:`serve`."""
    tls = tls_context(_file(project, settings.tls_certificate), _file(project, settings.tls_key))
    with logged_to(sys.stderr, settings.log), tracing(settings.tracing) as tracer:
        application = Application(project, on_swap, settings, host=host, pages=pages)
        config = uvicorn.Config(
            wired(wrapped(application, settings, tracer)),
            interface="asgi3",
            lifespan="off",  # started and stopped here, so that an error reaches the caller as it is
            ws="none",
            access_log=False,
            proxy_headers=bool(settings.proxies),  # nobody else in front is trusted to say who the caller is
            forwarded_allow_ips=list(settings.proxies),
            log_config=None,
            log_level="error",
            server_header=False,
            headers=[] if tls is None else [("strict-transport-security", f"max-age={YEAR}")],
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=GRACE,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
        shelves = Shelves(min(settings.max_connections, most_connections()))
        server = _Server(config, shelves, on_ready, stop)
        try:
            application.start()
            with seldom_collected(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(server.serve(sockets=[listener]))
        finally:
            application.stop()


def _file(project: ServedProject, name: str | None) -> Path | None:
    return None if name is None else project.dir / Path(name).expanduser()


def most_connections() -> int:
    """For how many connections the system gives this process files, besides those that it needs for other things."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(FILES, files - FILES) if files != resource.RLIM_INFINITY else sys.maxsize


def require_token(store: Store, host: str) -> None:
    """Make sure that somebody holds a key before the door is set up on the street.

    Raises:
        ConfigError: there is no token.
    """
    if store.count(Token, revoked=None) == 0:
        raise ConfigError(
            f"serving on {host!r} would open the service to other machines, and no token keeps strangers out",
            where="serve.host",
            mend="Make one with `tidemill token new NAME`, or use 127.0.0.1.",
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: *host* may not be listened on.
        BusyError: the port is taken.
    """
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"port {port} is taken by another process",
                where=f"{address}:{port}",
                mend="Give another one with --port; 0 takes any free one.",
            ) from None
        raise ConfigError(
            f"the address cannot be listened on ({error.strerror})",
            where=f"{address}:{port}",
            mend="Use an address of this machine, such as 127.0.0.1, and a port above 1023.",
        ) from None


def _silent() -> None:
    """Nobody waits for the service to be ready."""


class _Server(uvicorn.Server):
    """Uvicorn that tells when it is ready, ends on an event too, and leaves no signal to the process it ran in."""

    def __init__(
        self, config: uvicorn.Config, shelves: Shelves, ready: Callable[[], None], stop: threading.Event
    ) -> None:
        super().__init__(config)
        self._shelves = shelves
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        connected = connect(self.config, self.server_state, self._shelves)
        patience = None if tls is None else self._shelves.head_seconds
        self.servers = [
            await loop.create_server(connected, sock=listener, ssl=tls, ssl_handshake_timeout=patience)
            for listener in sockets or ()
        ]
        self.started = True
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        self._shelves.clear(asyncio.get_running_loop().time())
        return await super().on_tick(counter) or self._stop.is_set()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return handled(self._end)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
