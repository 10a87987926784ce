"""Which parts are owed a verdict: opened when seen, closed by their one verdict, overdue when the budget is over.

May import `parts`. Without a clock: the time is given. It is the worker's conscience: a second verdict for a part, or
one for a part that was never seen, is an error here, before anything leaves the station.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Protocol

from edge.parts import Part
from inspector.contract.codes import ErrorCode


class Kept(Protocol):
    """Where the parts in flight are kept; see `inflight.py`."""

    def open(self, part: Part) -> None: ...

    def close(self, part: Part) -> None: ...


class Deadlines:
    """The parts in flight, in the order in which they were opened. Safe to use from all threads."""

    def __init__(self, kept: "Kept | None" = None) -> None:
        """`kept` hears of each part that is opened and closed, so that it outlives this process."""
        self._kept = kept
        self._open: dict[int, Part] = {}
        self._opened = 0
        self._closed = 0
        self._lock = threading.Lock()

    def open(self, make: Callable[[int], Part]) -> Part:
        """A part has been seen; `make` gets its number. From here on it is owed one verdict."""
        with self._lock:
            self._opened += 1
            part = make(self._opened)
            if part.number != self._opened:
                raise ValueError(f"part must have the number {self._opened}, but has {part.number}")
            self._open[part.number] = _light(part)
            if self._kept is not None:
                self._kept.open(part)
            return part

    def close(self, part: Part) -> None:
        """The part has its verdict.

        Raises:
            ValueError: it already had one, or was never opened.
        """
        with self._lock:
            if self._open.pop(part.number, None) is None:
                raise ValueError(f"part {part.number} of camera {part.camera} is not owed a verdict")
            self._closed += 1
            if self._kept is not None:
                self._kept.close(part)

    def is_open(self, part: Part) -> bool:
        """Whether it is still owed its verdict."""
        with self._lock:
            return part.number in self._open

    def expire(self, now_monotonic_s: float = inf) -> list[Part]:
        """The parts whose budget is over, failed (501), still open; without a time, all that are in flight."""
        with self._lock:
            return [part for part in self._open.values() if part.deadline_monotonic_s <= now_monotonic_s]

    @property
    def in_flight(self) -> int:
        """Parts that are owed a verdict."""
        with self._lock:
            return len(self._open)

    @property
    def counts(self) -> tuple[int, int]:
        """Parts opened and closed so far."""
        with self._lock:
            return self._opened, self._closed


def _light(part: Part) -> Part:
    """The part without its picture; the register must not keep pictures alive."""
    if part.failed:
        return part
    return replace(part, image=None, failure=ErrorCode.DEADLINE_MISSED, reason="no verdict within the budget")
