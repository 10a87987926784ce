"""Sends committed verdicts: threads around `lanes.py`, so that neither broker nor store is on the path of a verdict.

May import the contract, `lanes` and `mqtt`; of the store it knows only the protocol `Outbox`. One thread sends and
hears the broker's answers; a second one talks to the store, so that a locked database delays no live verdict.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.lanes import RECORD_WINDOW, LaneCounts, Lanes, LiveVerdict, OutboxMessage, Outgoing
from inspector.config import MqttConfig
from inspector.contract.link import BrokerLink
from inspector.contract.session import Acknowledged, Connected, Lost, Token
from inspector.contract.topics import Topics
from inspector.errors import InspectorError

__all__ = ["LiveVerdict", "Outbox", "OutboxMessage", "Publisher"]

log = logging.getLogger(__name__)

INBOX_SIZE = 10_000
TICK_S = 0.1
READ_PERIOD_S = 1.0
"""How often the outbox is read when nothing points to new rows in it."""


class Outbox(Protocol):
    """What the publisher needs of the store. Both calls may block and may raise InspectorError."""

    def pending(self, limit: int) -> Sequence[OutboxMessage]:
        """Give the oldest rows of this station, oldest first."""

    def clear(self, ids: Sequence[int]) -> None:
        """Delete rows; when it returns they are deleted."""


@dataclass(frozen=True)
class _Request:
    """For the store's thread: delete these rows, then read."""

    ids: list[int]
    limit: int


@dataclass(frozen=True)
class _Reply:
    """From the store's thread; `rows` is None when the store failed."""

    request: _Request
    rows: Sequence[OutboxMessage] | None


class Publisher:
    """Publishes live verdicts at once, and everything in the outbox in the end.

    Make it before the link is started, and stop it before the link is stopped.
    """

    def __init__(self, config: MqttConfig, link: BrokerLink, outbox: Outbox) -> None:
        self._topics = Topics(config.prefix)
        self._link = link
        self._outbox = outbox
        self._lanes = Lanes(config.window_ms / 1000, config.resultb)
        self._answer_limit_s = config.window_ms / 1000 + config.keepalive_s
        self._inbox: queue.Queue[LiveVerdict | Connected | Lost | Acknowledged | _Reply] = queue.Queue(INBOX_SIZE)
        self._requests: queue.Queue[_Request | None] = queue.Queue()
        self._stop_at: float | None = None
        self._store_is_busy = False
        self._read_at = 0.0
        self._retry_store_at = 0.0
        self._threads: list[threading.Thread] = []
        self.store_failures = 0
        self.inbox_overflow = 0
        link.listen(Connected, Lost, Acknowledged, into=self._inbox)

    @property
    def counts(self) -> LaneCounts:
        return self._lanes.counts

    def start(self) -> None:
        for name, target in (("publisher", self._run), ("outbox", self._serve_store)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout_s: float = 3.0) -> None:
        """Send what can still be sent within the time; the rest stays in the outbox for the next start."""
        self._stop_at = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(timeout_s + 2.0)

    def publish_live(self, verdict: LiveVerdict) -> None:
        """Hand over a committed verdict; never blocks. What is not sent in time reaches `late` by the outbox."""
        try:
            self._inbox.put_nowait(verdict)
        except queue.Full:
            self.inbox_overflow += 1

    def status(self) -> dict[str, Any]:
        """The margin to the window, for the status row: in ms for people, the least of it in seconds for the telemetry."""
        margin = self._lanes.margin(time.monotonic())
        if margin is None:
            return {"margin_ms": None, "margin_s": None}
        told = {
            "least": round(margin.least_s * 1000, 1),
            "p99": round(margin.p99_s * 1000, 1),
            "verdicts": margin.verdicts,
        }
        return {"margin_ms": told, "margin_s": round(margin.least_s, 4)}

    def repeat_last(self) -> None:
        """Publish `last` again, for a broker that has lost it."""
        last = self._lanes.last
        if last is not None:
            self._send(last)

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._turn()
            except Exception:  # a fault in one turn must not end all publishing; the outbox keeps the messages
                log.exception("publishing failed; it goes on")
                time.sleep(TICK_S)
        self._requests.put(None)

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        if time.monotonic() >= self._stop_at:
            return True
        done = self._lanes.is_idle or not (self._link.is_connected or self._lanes.has_to_clear)
        return done and self._inbox.empty() and not self._store_is_busy

    def _turn(self) -> None:
        self._take_in()
        now = time.monotonic()
        self._lanes.pump_live(now, self._send)
        if self._link.is_connected:
            # At most half of what the broker lets us have in flight, so that records never stop the live lane.
            window = max(1, min(RECORD_WINDOW, self._link.capacity // 2))
            self._lanes.pump_records(now, self._send, window=window)
            if self._lanes.longest_wait_s(now) > self._answer_limit_s:
                self._link.abort(f"the broker has not acknowledged a message for {self._answer_limit_s:g} s")
        self._ask_store(now)

    def _take_in(self) -> None:
        """Wait for one thing that happens, for a tick at most, and take all that is there."""
        try:
            self._handle(self._inbox.get(timeout=TICK_S))
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, item: LiveVerdict | Connected | Lost | Acknowledged | _Reply) -> None:
        now = time.monotonic()
        if isinstance(item, LiveVerdict):
            self._lanes.offer(item)
            self._read_at = min(self._read_at, now)  # its detail lies in the outbox
        elif isinstance(item, Acknowledged):
            self._lanes.acknowledge(item.token, item.accepted, now)
        elif isinstance(item, Lost):
            self._lanes.lose(item.session)
        elif isinstance(item, Connected):
            self._read_at = now
            self.repeat_last()
        else:
            self._take_reply(item, now)

    def _ask_store(self, now: float) -> None:
        """Let the store's thread delete what is acknowledged and read what is next; one request at a time."""
        if self._store_is_busy or now < self._retry_store_at:
            return
        ids = self._lanes.take_acknowledged()
        if ids or (self._link.is_connected and now >= self._read_at):
            self._store_is_busy = True
            self._read_at = now + READ_PERIOD_S
            # Rows that wait for their turn or their answer stand before the next ones.
            self._requests.put(_Request(ids, 10 * RECORD_WINDOW))

    def _take_reply(self, reply: _Reply, now: float) -> None:
        self._store_is_busy = False
        if reply.rows is None:
            self._lanes.clearing_failed(reply.request.ids)
            self._retry_store_at = now + READ_PERIOD_S
            return
        complete = len(reply.rows) < reply.request.limit
        self._lanes.replace_rows(reply.rows, complete=complete)
        if not complete and reply.request.ids:
            self._read_at = now

    def _serve_store(self) -> None:
        while (request := self._requests.get()) is not None:
            rows: Sequence[OutboxMessage] | None = None
            try:
                if request.ids:
                    self._outbox.clear(request.ids)
                rows = self._outbox.pending(request.limit)
            except InspectorError as error:
                self.store_failures += 1
                log.warning("the outbox cannot be used, trying again: %s", error)
            except Exception:  # the store's own errors must not end the thread that everything late depends on
                self.store_failures += 1
                log.exception("the outbox failed, trying again")
            self._inbox.put(_Reply(request, rows))

    def _send(self, message: Outgoing) -> Token | None:
        return self._link.publish(
            self._topics.of(message.kind),
            message.payload,
            qos=message.qos,
            retain=message.retain,
            expiry_s=message.expiry_s,
        )
