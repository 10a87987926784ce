"""Triggers on their way from the PLC to the camera: a bounded queue between threads; imports nothing of ours.

The thread that hears `cmd/trigger` puts, the camera's thread gets. It knows no network, so that any way to
trigger can use it.
"""

import queue
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
        self._waiting: queue.Queue[Trigger] = queue.Queue(capacity)

    def put(self, trg: int, part_id: str = "") -> bool:
        """Never blocks. False when the queue is full: the part is owed a verdict NONE (105, overrun)."""
        try:
            self._waiting.put_nowait(Trigger(trg, part_id))
        except queue.Full:
            return False
        return True

    def get(self, timeout_s: float) -> Trigger | None:
        """The oldest trigger, or None when none has come within `timeout_s`."""
        try:
            return self._waiting.get(timeout=timeout_s) if timeout_s > 0 else self._waiting.get_nowait()
        except queue.Empty:
            return None

    def drain(self) -> list[Trigger]:
        """Takes all triggers that wait; each of their parts is owed a verdict."""
        drained = []
        while (trigger := self.get(0)) is not None:
            drained.append(trigger)
        return drained

    @property
    def waiting(self) -> int:
        """How many triggers wait; not `len`, so that an empty queue is never taken for no queue."""
        return self._waiting.qsize()
