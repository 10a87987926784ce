"""What is sent in a Sparkplug session, and when: births, what has changed, verdicts that waited. No thread, no socket.

May import the contract's edge node and `readings`. The broker of SCADA may be away for hours: verdicts wait in a
bounded backlog, and those that are older than the birth are sent as historical.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from edge.sparkplug.readings import NO_VERDICT, VerdictReading, read_verdict
from inspector.contract.messages import Result
from inspector.contract.sparkplug.node import EdgeNode, Outgoing, Phase
from inspector.contract.sparkplug.payload import Value
from inspector.types import Verdict

WINDOW = 100
"""Verdicts that may be on their way to the socket; the others wait here, where they can be counted."""

LOOK_MS = 100
"""How often the station is looked at for changes; verdicts are sent at once."""

Send = Callable[[Outgoing], Hashable]
"""Hands a message to the connection and gives what it is called there; raises where there is no connection."""


class Readings(Protocol):
    """The station as the reporter sees it."""

    @property
    def device_is_alive(self) -> bool: ...

    def node(self, dropped: int, refused: int) -> dict[str, Value]: ...

    def device(self) -> dict[str, Value]: ...


class Backlog:
    """Verdicts that wait, oldest first; safe to use from all threads. A full one drops its oldest and counts it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[VerdictReading] = deque()
        self._lock = threading.Lock()
        self._counts: Counter[Verdict] = Counter()
        self.latest: VerdictReading | None = None
        self.offered = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, result: Result, lat_ms: int) -> None:
        """Take a verdict in; never waits for anything but a few lines of another thread."""
        with self._lock:
            self._counts[Verdict(result.res)] += 1
            self.offered += 1
            self.latest = read_verdict(result, lat_ms, self.offered, self._counts)
            self._waiting.append(self.latest)
            self._drop()

    def take(self) -> VerdictReading | None:
        """The oldest verdict; None if none waits."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def give_back(self, verdicts: list[VerdictReading]) -> None:
        """Verdicts that were taken, oldest first, and never left."""
        with self._lock:
            self._waiting.extendleft(reversed(verdicts))
            self._drop()

    def _drop(self) -> None:
        while len(self._waiting) > self._size:
            self._waiting.popleft()
            self.dropped += 1


@dataclass(frozen=True)
class _Underway:
    """A verdict that was handed to the connection, and what it is called there."""

    token: Hashable
    verdict: VerdictReading


class Reporter:
    """Turns the station's readings and verdicts into messages of an edge node; used by one thread."""

    def __init__(self, node: EdgeNode, readings: Readings, backlog: Backlog) -> None:
        self._node = node
        self._readings = readings
        self._backlog = backlog
        self._born_at = 0
        self._looked_ms = 0
        self._underway: deque[_Underway] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits that could be sent now."""
        cannot_send = self._node.phase is not Phase.ALIVE or not self._node.device_is_alive
        return cannot_send or not (len(self._backlog) or self._underway)

    def turn(self, now_ms: int, send: Send) -> None:
        """Send what is due: births first, then what has changed, then verdicts in their order."""
        node, readings = self._node, self._readings
        if node.phase is Phase.DUE:
            send(node.birth(readings.node(self._backlog.dropped, node.refused_writes), now_ms))
            if readings.device_is_alive:
                self._bear_device(now_ms, send)
        if node.phase is not Phase.ALIVE:
            return
        if node.device_is_alive and not readings.device_is_alive:
            send(node.device_death(now_ms))
        elif readings.device_is_alive and not node.device_is_alive:
            self._bear_device(now_ms, send)
        if abs(now_ms - self._looked_ms) >= LOOK_MS:  # the clock may have been set back
            self._looked_ms = now_ms
            self._send_changes(now_ms, send)
        if node.device_is_alive:
            self._send_verdicts(now_ms, send)

    def written(self, token: Hashable) -> None:
        """The connection has written a message to its socket; more cannot be known at QoS 0."""
        if any(entry.token == token for entry in self._underway):
            while self._underway.popleft().token != token:
                pass  # they left before it

    def lost(self) -> None:
        """The session is over; verdicts that never left wait for the next one."""
        self._backlog.give_back([entry.verdict for entry in self._underway])
        self._underway.clear()

    def _bear_device(self, now_ms: int, send: Send) -> None:
        """The birth has the newest verdict; whatever waits now is history."""
        latest = self._backlog.latest
        verdict = NO_VERDICT if latest is None else dict(latest.values)
        times_ms = {} if latest is None else dict.fromkeys(verdict, latest.exposed_ms)
        self._born_at = 0 if latest is None else latest.number
        send(self._node.device_birth(self._readings.device() | verdict, times_ms, now_ms))

    def _send_changes(self, now_ms: int, send: Send) -> None:
        node, readings = self._node, self._readings
        changes = [node.node_changes(readings.node(self._backlog.dropped, node.refused_writes), now_ms)]
        if node.device_is_alive:
            changes.append(node.device_changes(readings.device(), now_ms))
        for change in changes:
            if change is not None:
                send(change)

    def _send_verdicts(self, now_ms: int, send: Send) -> None:
        while len(self._underway) < WINDOW and (verdict := self._backlog.take()) is not None:
            is_old = verdict.number <= self._born_at
            try:
                message = self._node.device_data(verdict.values, verdict.exposed_ms, now_ms, historical=is_old)
                token = send(message)
            except Exception:  # whatever it was, it is raised again; only the verdict must not be lost by it
                self._backlog.give_back([verdict])
                raise
            self._underway.append(_Underway(token, verdict))
