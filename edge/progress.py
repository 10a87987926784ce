"""A worker's side of its supervisor: says that it makes progress, and hears that the supervisor is gone.

Standard library only. Words go to standard output, one in a line; the end of standard input is the end of the supervisor, and
a worker must not outlive it: the next supervisor would start a second one.
"""

import logging
import os
import sys
import threading
import time

log = logging.getLogger(__name__)

VARIABLE = "INSPECTOR_PROGRESS"
"""Set by a supervisor that listens."""
PERIOD_S = 0.5


class ProgressPipe:
    """Does nothing for a worker that was started without a supervisor."""

    def __init__(self, stopping: threading.Event) -> None:
        self._listens = bool(os.environ.get(VARIABLE))
        self._stopping = stopping
        self._said_s = 0.0
        if self._listens:
            threading.Thread(target=self._watch_supervisor, name="supervisor", daemon=True).start()

    def say(self, word: str) -> None:
        """Say "ready" at once, "beat" at most twice a second."""
        now_s = time.monotonic()
        if not self._listens or (word == "beat" and now_s - self._said_s < PERIOD_S):
            return
        self._said_s = now_s
        try:
            os.write(sys.stdout.fileno(), f"{word}\n".encode())
        except OSError:
            self._gone()

    def _watch_supervisor(self) -> None:
        while os.read(sys.stdin.fileno(), 64):
            pass
        self._gone()

    def _gone(self) -> None:
        if self._listens:
            self._listens = False
            log.error("the supervisor is gone; the worker stops, so that no second one runs beside it")
            self._stopping.set()
