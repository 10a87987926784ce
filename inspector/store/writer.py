"""The one thread that writes: verdicts first, everything else after them. A fault of one call ends no other."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Set
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.store.engine import Store
from inspector.store.journal import Identity

T = TypeVar("T")
Work = Callable[[Session], Any]
URGENT, NORMAL, LAST = 0, 1, 2

log = logging.getLogger(__name__)


class _Call:
    """Work for the thread. Its caller may give up on it; once the database is told to commit, that undoes nothing."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._commits = self._given_up = False
        self.done: Future[Any] = Future()

    def run(self, session: Session) -> Any:
        answer = self._work(session)
        session.flush()  # from here on only the commit itself is left
        with self._lock:
            if self._given_up:
                raise StoreError("whoever asked for it has given up on it")
            self._commits = True
        return answer

    def give_up(self) -> bool:
        """Gives whether it certainly leaves nothing in the database."""
        self.done.cancel()  # if it has not begun it need not
        with self._lock:
            self._given_up = True
            return not self._commits


class StoreWriter:
    """Runs functions of a session in write transactions, one after the other, in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures = 0
        self.in_doubt: Set[Identity] = frozenset()
        """Verdicts of which the database may tell another story than whoever asked for it knows, if only for a moment."""
        self._doubt_lock = threading.Lock()
        self._queue: queue.PriorityQueue[tuple[int, int, _Call | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish what is waiting, then end."""
        self._queue.put((LAST, next(self._order), None))
        self._thread.join(timeout_s)

    def call(
        self,
        work: Callable[[Session], T],
        *,
        urgent: bool = False,
        timeout_s: float | None = 30.0,
        about: Set[Identity] = frozenset(),
    ) -> T:
        """Run `work` in a transaction and wait for its answer (`timeout_s` None: for as long as it takes).

        Its error is raised here. Work that did not answer in time leaves nothing, unless it was being committed just then:
        the verdicts that it is `about` stay in doubt, until work about them succeeds.

        Raises:
            StoreError: the database failed, or did not answer within the time.
        """
        call, doubted = _Call(work), self._doubt(about)
        self._queue.put((URGENT if urgent else NORMAL, next(self._order), call))
        try:
            answer: T = call.done.result(timeout_s)
        except BaseException as error:  # whoever leaves without the answer, Ctrl-C included, has given up on the work
            if call.give_up():
                self._settle(about - doubted)
            if isinstance(error, TimeoutError):
                raise StoreError(f"the database did not answer within {timeout_s:g} s") from error
            raise
        self._settle(about)
        return answer

    def post(self, work: Work) -> "Future[Any]":
        """Run `work` some time; a failure is logged and counted, and the future has it."""
        call = _Call(work)
        self._queue.put((NORMAL, next(self._order), call))
        return call.done

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def _doubt(self, verdicts: Set[Identity]) -> Set[Identity]:
        """Gives those that were in doubt before."""
        with self._doubt_lock:
            before, self.in_doubt = self.in_doubt, self.in_doubt | verdicts
        return before

    def _settle(self, verdicts: Set[Identity]) -> None:
        with self._doubt_lock:
            self.in_doubt = self.in_doubt - verdicts

    def _run(self) -> None:
        while True:
            _, _, call = self._queue.get()
            if call is None:
                return
            if not call.done.set_running_or_notify_cancel():
                continue
            try:
                with self.store.write() as session:
                    answer = call.run(session)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller; this thread must go on
                self.failures += 1
                log.warning("a write failed: %s", error)
                call.done.set_exception(error)
            else:
                call.done.set_result(answer)
