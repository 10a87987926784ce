"""The inbox: parts between the cameras and the detector, bounded, in order, never blocking the cameras.

May import `parts` and the contract's codes. When it is full, the oldest part of the camera that has the most waiting is
given up: it stays in its place as a failed part (NONE 502, without its picture), so that verdicts keep their order, and
one busy camera cannot push out another.
"""

import threading
from collections import Counter, deque

from edge.parts import Part
from inspector.contract.codes import ErrorCode


class Inbox:
    """At most `capacity` pictures wait; failed parts have none and are not counted."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, but got {capacity}")
        self._capacity = capacity
        self._parts: deque[Part] = deque()
        self._pictures: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._woken = False
        self.evicted = 0
        """How many parts were given up because the inbox was full."""

    def put(self, part: Part) -> Part | None:
        """Never blocks. Gives the part that lost its place, if any; its NONE (502) is on the way already."""
        with self._changed:
            evicted = None
            if not part.failed:
                if self._pictures.total() >= self._capacity:
                    evicted = self._evict()
                self._pictures[part.camera] += 1
            self._parts.append(part)
            self._changed.notify()
            return evicted

    def take(self, most: int) -> list[Part]:
        """The oldest parts in order: failed ones, and up to `most` with a picture."""
        taken: list[Part] = []
        with self._changed:
            while self._parts and (self._parts[0].failed or most > 0):
                part = self._parts.popleft()
                if not part.failed:
                    self._pictures[part.camera] -= 1
                    most -= 1
                taken.append(part)
        return taken

    def wait(self, timeout_s: float) -> bool:
        """Until a part is there, `wake` is called, or the time is over; whether a part is there."""
        with self._changed:
            if not self._parts and not self._woken and timeout_s > 0:
                self._changed.wait(timeout_s)
            self._woken = False
            return bool(self._parts)

    def wake(self) -> None:
        """End a `wait` early."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def __len__(self) -> int:
        """Pictures that wait."""
        with self._changed:
            return self._pictures.total()

    def _evict(self) -> Part:
        most = max(self._pictures.values())
        for place, part in enumerate(self._parts):
            if not part.failed and self._pictures[part.camera] == most:
                self._parts[place] = part.fail(ErrorCode.QUEUE_OVERFLOW, "more parts came than could be inspected")
                self._pictures[part.camera] -= 1
                self.evicted += 1
                return part
        raise ValueError("the inbox counts pictures that it does not hold")
