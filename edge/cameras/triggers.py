"""Triggers on their way from the PLC to the camera: a bounded queue between threads; imports nothing of ours.

The thread that hears `cmd/trigger` puts, the camera's thread gets. It knows no network, so that any way to
trigger can use it.
"""

import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Trigger:
    """One part lies before the camera. `trg` is the PLC's counter (0 = none), `part_id` may be empty."""

    trg: int
    part_id: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.trg < 2**32:
            raise ValueError(f"trg must be an unsigned 32-bit number, but got {self.trg}")


class TriggerQueue:
    """At most `capacity` triggers wait, in the order in which they came."""

    def __init__(self, capacity: int = 64) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, but got {capacity}")
        self._capacity = capacity
        self._waiting: deque[Trigger] = deque()
        self._changed = threading.Condition()

    def put(self, trg: int, part_id: str = "") -> bool:
        """Never blocks. False when the queue is full: the part is owed a verdict NONE (105, overrun)."""
        trigger = Trigger(trg, part_id)
        with self._changed:
            if len(self._waiting) >= self._capacity:
                return False
            self._waiting.append(trigger)
            self._changed.notify()
        return True

    def get(self, timeout_s: float) -> Trigger | None:
        """The oldest trigger, or None when none has come within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, max(0.0, timeout_s))
            return self._waiting.popleft() if self._waiting else None

    def give_back(self, trigger: Trigger) -> None:
        """A trigger that was got and not used is the oldest again, also where the queue has become full meanwhile."""
        with self._changed:
            self._waiting.appendleft(trigger)
            self._changed.notify()

    def drain(self) -> list[Trigger]:
        """Takes all triggers that wait; each of their parts is owed a verdict."""
        drained = []
        while (trigger := self.get(0)) is not None:
            drained.append(trigger)
        return drained

    @property
    def waiting(self) -> int:
        """How many triggers wait; not `len`, so that an empty queue is never taken for no queue."""
        return len(self._waiting)
