"""Folding the journal into the tables in the background, so that cycles, traces and the queue see recent traffic.

A little traffic is folded by a thread of the serving process. A lot of it would take the interpreter's lock away from
the answers (at 7,000 requests a second, two fifths of them), so what is too much to fold at once is left to a process
of its own, with a lower priority, until the traffic has calmed down.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tidemill.data.assigned import fold_journal
from tidemill.engines.local import LocalEngine, LocalJob
from tidemill.errors import BusyError, TidemillError
from tidemill.serving.collector import seldom_collected
from tidemill.store import Store, open_store, unfolded

logger = logging.getLogger("tidemill.serving")

INTERVAL = 1.0
MUCH = 500_000
CALM = 30.0


class Folder:
    """Folds every second or so, when asked, and once more at the end.

    Several processes may each have one: whoever holds the ingester's lock folds for all, the others leave it to them.

    Args:
        store: whose journal.
        url: the store's database, as the configuration names it.
        interval: seconds between two passes.
        much: bytes of the journal in one pass from which on a process of its own takes over.
        also: called once a pass, before it.

    Attributes:
        helper: that process, or ``None``.
    """

    def __init__(
        self,
        store: Store,
        url: str | None,
        *,
        interval: float = INTERVAL,
        much: int = MUCH,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._url = url
        self._interval = interval
        self._much = much
        self._also = also
        self._stop = threading.Event()
        self._said: str | None = None
        self.helper: LocalJob | None = None
        self._thread = threading.Thread(target=self._run, name="tidemill-folder", daemon=True)

    def start(self) -> None:
        """Begin folding."""
        self._thread.start()

    def now(self) -> int:
        """Fold once, on the calling thread; how many predictions became rows."""
        try:
            folded = fold_journal(self._store)
        except BusyError:  # another process has been folding all the while
            return 0
        except TidemillError as error:  # the journal keeps everything until it succeeds
            if self._said != str(error):
                logger.error("the journal could not be folded; it is kept, and tried again: %s", error)  # noqa: TRY400
            self._said = str(error)
            return 0
        self._said = None
        return folded

    def close(self) -> None:
        """Stop, and fold what is left."""
        self._stop.set()
        self._thread.join()
        if self.helper is not None:
            self.helper.stop()
            self.helper.wait()
        self.now()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._also()
            if self.helper is not None:
                if self.helper.poll() is None:
                    continue
                self.helper.wait()
                self.helper = None
            if not self._is_much():
                self.now()
            else:
                arguments = {"root": str(self._store.root), "url": self._url, "parent": os.getpid()}
                self.helper = LocalEngine(threads=1, nice=19).submit(
                    "tidemill.serving.folding:fold_while_busy", arguments
                )

    def _is_much(self) -> bool:
        try:
            return unfolded(self._store).bytes >= self._much
        except TidemillError:  # which folding will meet, too, and tell
            return False


def fold_while_busy(root: str, url: str | None, parent: int) -> int:
    """Fold again and again, as a job of an engine, until traffic has been calm for a while or *parent* has gone.

    Returns:
        How many predictions became rows.
    """
    total, last = 0, time.monotonic()
    with open_store(Path(root), url) as store, seldom_collected():
        while time.monotonic() - last < CALM:
            if os.getppid() != parent:
                raise SystemExit  # nobody is left to tell the result
            with contextlib.suppress(BusyError):
                if unfolded(store).bytes >= MUCH * INTERVAL:
                    last = time.monotonic()
                total += fold_journal(store)
            time.sleep(INTERVAL)
    return total
