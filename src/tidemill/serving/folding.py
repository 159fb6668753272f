"""Folding the journal into the tables in the background, so that cycles, traces and the queue see recent traffic."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tidemill.errors import BusyError, TidemillError

logger = logging.getLogger("tidemill.serving")

INTERVAL = 1.0


class Folder:
    """Calls *fold* every second or so, when asked, and once more at the end.

    Several processes may each have one: whoever holds the ingester's lock folds for all, the others leave it to them.

    Args:
        fold: moves new journal records into the tables, and says how many.
        interval: seconds between two calls.
    """

    def __init__(self, fold: Callable[[], int], *, interval: float = INTERVAL) -> None:
        self._fold = fold
        self._interval = interval
        self._stop = threading.Event()
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name="tidemill-folder", daemon=True)

    def start(self) -> None:
        """Begin folding."""
        self._thread.start()

    def now(self) -> None:
        """Fold once, on the calling thread."""
        try:
            self._fold()
            self._said = None
        except BusyError:  # another process is folding
            return
        except TidemillError as error:  # the journal keeps everything until it succeeds
            if self._said != str(error):
                logger.error("the journal could not be folded; it is kept, and tried again: %s", error)  # noqa: TRY400
            self._said = str(error)

    def close(self) -> None:
        """Stop, and fold what is left."""
        self._stop.set()
        self._thread.join()
        self.now()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.now()
