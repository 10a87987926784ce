"""The one thread that writes: verdicts first, everything else after them. A fault of one call ends no other."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.store.engine import Store

T = TypeVar("T")
Work = Callable[[Session], Any]
URGENT, NORMAL, LAST = 0, 1, 2

log = logging.getLogger(__name__)


class StoreWriter:
    """Runs functions of a session in write transactions, one after the other, in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures = 0
        self._queue: queue.PriorityQueue[tuple[int, int, Work | None, Future[Any]]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish what is waiting, then end."""
        self._queue.put((LAST, next(self._order), None, Future()))
        self._thread.join(timeout_s)

    def call(self, work: Callable[[Session], T], *, urgent: bool = False, timeout_s: float | None = 30.0) -> T:
        """Run `work` in a transaction and wait for its answer (`timeout_s` None: for as long as it takes).

        Its error is raised here.

        Raises:
            StoreError: the database failed, or did not answer within the time.
        """
        done: Future[Any] = Future()
        self._queue.put((URGENT if urgent else NORMAL, next(self._order), work, done))
        try:
            answer: T = done.result(timeout_s)
        except TimeoutError as error:
            done.cancel()  # a call that has not begun must not run later: its caller has given up on it
            raise StoreError(f"the database did not answer within {timeout_s:g} s") from error
        return answer

    def post(self, work: Work) -> "Future[Any]":
        """Run `work` some time; a failure is logged and counted, and the future has it."""
        done: Future[Any] = Future()
        self._queue.put((NORMAL, next(self._order), work, done))
        return done

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def _run(self) -> None:
        while True:
            _, _, work, done = self._queue.get()
            if work is None:
                return
            if not done.set_running_or_notify_cancel():
                continue
            try:
                with self.store.write() as session:
                    answer = work(session)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller; this thread must go on
                self.failures += 1
                log.warning("a write failed: %s", error)
                done.set_exception(error)
            else:
                done.set_result(answer)
