"""The server: a loopback socket, uvicorn on it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from tidemill.errors import BusyError, ConfigError
from tidemill.serving._base import ServedProject
from tidemill.serving.app import Application, with_cors
from tidemill.serving.following import OnSwap
from tidemill.serving.guard import is_loopback

GRACE = 30
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    project: ServedProject,
    host: str | None = None,
    port: int | None = None,
    on_ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    on_swap: OnSwap | None = None,
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

    Raises:
        ConfigError: *host* would open the service to other machines, or may not be listened on.
        BusyError: the port is taken.
    """
    settings = project.config.serve
    listener = listen(settings.host if host is None else host, settings.port if port is None else port)
    with contextlib.closing(listener):
        application = Application(project, on_swap)
        config = uvicorn.Config(
            with_cors(application, settings.origins),
            lifespan="off",  # started and stopped here, so that an error reaches the caller as it is
            ws="none",
            access_log=False,
            proxy_headers=False,  # nobody in front is trusted to say who the caller is
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        bound: int = listener.getsockname()[1]
        server = _Server(config, (lambda: on_ready(bound)) if on_ready else _silent, stop or threading.Event())
        application.start()
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(server.serve(sockets=[listener]))
        finally:
            application.stop()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address.

    Raises:
        ConfigError: *host* is no loopback address, or may not be listened on.
        BusyError: the port is taken.
    """
    if not is_loopback(host):
        raise ConfigError(
            f"serving on {host!r} would open the service to other machines, and no token keeps strangers out",
            where="serve.host",
            mend="Use 127.0.0.1, and let others in by an SSH tunnel or a proxy that checks who they are.",
        )
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
            mend="Use 127.0.0.1 and a port above 1023.",
        ) from None


def _silent() -> None:
    """Nobody waits for the service to be ready."""


class _Server(uvicorn.Server):
    """Uvicorn that tells when it is ready, ends on an event too, and leaves no signal to the process it ran in."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stop: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._end) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
