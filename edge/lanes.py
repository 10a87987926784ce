"""Which message may be sent now, and on which topic: the live lane and the record lane, without threads or clock.

May import the contract. `publisher.py` gives it a thread, a connection and a store. The rules it keeps:

* A verdict goes out on `result` only while it is younger than the window, also after a reconnect.
* One that missed its window goes out on `late`, marked as late, and never again on `result`.
* With the binary form switched on, a verdict goes out on `result` and `resultb` by the same rules, and counts as delivered
  when both are acknowledged.
* A row leaves the outbox only when the broker has acknowledged its message, on whichever topic.
* A `result` row that nobody has offered to the live lane (a worker killed between commit and publish) is taken
  for late after a whole window, because its age is not known. A missed trigger that is marked as late when it is stored
  (`absences.py`) was never meant for that lane and need not wait.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from inspector.contract.binary import ByteOrder, fit_for_binary, pack_result
from inspector.contract.codes import ErrorCode, Flag
from inspector.contract.messages import U16_MAX, Result, saturate
from inspector.contract.session import Token
from inspector.errors import ContractError

RECORD_WINDOW = 20
LIVE_QUEUE_SIZE = 1000
AGES = 10_000
MARGIN_S = 300.0
"""How far back the margin to the window looks."""
RETRY_S = 5.0
"""A message that the broker has refused is tried again after this pause."""


@dataclass(frozen=True)
class LiveVerdict:
    """A committed verdict on its way to the PLC; `outbox_id` is the row of its `result` message."""

    result: Result
    outbox_id: int
    captured_monotonic_s: float


@dataclass(frozen=True)
class OutboxMessage:
    """A row of the outbox; `topic` is `result` or `detail`."""

    id: int
    topic: str
    payload: str


@dataclass(frozen=True)
class Outgoing:
    """A message for the broker; `kind` is its topic below the base."""

    kind: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: float | None = None


Send = Callable[[Outgoing], Token | None]
"""Sends a message now; None when it cannot be sent now."""


@dataclass
class LaneCounts:
    """What went out since the start."""

    live_sent: int = 0
    live_acknowledged: int = 0
    live_expired: int = 0
    live_overflow: int = 0
    late_sent: int = 0
    detail_sent: int = 0
    record_acknowledged: int = 0
    refused: int = 0
    malformed: int = 0


@dataclass(frozen=True)
class Margin:
    """What was left of the window, over the newest verdicts: at the slowest, and at the 99th percentile of their ages.

    Below zero: a verdict missed its window.
    """

    least_s: float
    p99_s: float
    verdicts: int


@dataclass(frozen=True)
class _Flight:
    """A message that is sent and not acknowledged; `verdict` is None in the record lane.

    Both forms of one verdict are a flight each, with the same `verdict`.
    """

    outbox_id: int
    verdict: LiveVerdict | None
    sent_monotonic_s: float


@dataclass
class Lanes:
    """The two lanes of one station; `window_s` is the contract's `win`, `byte_order` that of `resultb` (None: not sent)."""

    window_s: float
    byte_order: ByteOrder | None = None
    utc_s: Callable[[], float] = time.time
    """For the age that a late verdict names; nothing is decided by it."""
    counts: LaneCounts = field(default_factory=LaneCounts)
    _ages_s: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=AGES))
    last: Outgoing | None = None
    """The newest copy for displays."""
    _live: deque[LiveVerdict] = field(default_factory=deque)
    _half_sent: LiveVerdict | None = None
    """The first of the live lane, if its `result` is out and only its `resultb` found no room yet."""
    _rows: dict[int, OutboxMessage] = field(default_factory=dict)
    _flights: dict[Token, _Flight] = field(default_factory=dict)
    _not_before: dict[int, float] = field(default_factory=dict)
    _acknowledged: list[int] = field(default_factory=list)
    _clearing: set[int] = field(default_factory=set)
    _malformed: set[int] = field(default_factory=set)
    _refused: set[int] = field(default_factory=set)
    """Rows of which the broker refused a form, so that the other form alone does not count as delivered."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits: neither for sending, nor for the broker, nor for the store."""
        waiting = self._rows.keys() - self._malformed - self._clearing
        return not (self._live or self._flights or self._acknowledged or waiting)

    @property
    def has_to_clear(self) -> bool:
        """Whether rows can be deleted from the outbox."""
        return bool(self._acknowledged)

    def offer(self, verdict: LiveVerdict) -> None:
        """Take a committed verdict into the live lane; beyond 1,000 waiting ones it is for the record only."""
        if len(self._live) >= LIVE_QUEUE_SIZE:
            self.counts.live_overflow += 1
            return
        self._live.append(verdict)

    def pump_live(self, now: float, send: Send) -> None:
        """Send what is young enough, in order; what is too old leaves the lane for good."""
        while self._live:
            verdict = self._live[0]
            age_s = now - verdict.captured_monotonic_s
            if age_s > self.window_s:
                self._live.popleft()
                self._half_sent = None
                self._ages_s.append((now, age_s))
                self.counts.live_expired += 1
                self._not_before[verdict.outbox_id] = now
                continue
            if not self._send_verdict(verdict, now, send):
                return
            self._live.popleft()
            self._half_sent = None

    def _send_verdict(self, verdict: LiveVerdict, now: float, send: Send) -> bool:
        """Send a verdict in each form that is switched on; False if it must be tried again (with what is left of it)."""
        age_s = now - verdict.captured_monotonic_s
        result = verdict.result.model_copy(update={"lat": saturate(age_s * 1000, U16_MAX)})
        if self._half_sent is not verdict:
            payload = result.to_json()
            if not self._send_form("result", payload, verdict, now, send):
                return False
            self._ages_s.append((now, age_s))
            self.counts.live_sent += 1
            self.last = Outgoing("last", payload, qos=0, retain=True)
            send(self.last)
        if self.byte_order is None:
            return True
        self._half_sent = verdict
        return self._send_form("resultb", pack_result(fit_for_binary(result), self.byte_order), verdict, now, send)

    def _send_form(self, kind: str, payload: bytes, verdict: LiveVerdict, now: float, send: Send) -> bool:
        token = send(Outgoing(kind, payload, expiry_s=self.window_s - (now - verdict.captured_monotonic_s)))
        if token is not None:
            self._flights[token] = _Flight(verdict.outbox_id, verdict, now)
        return token is not None

    def replace_rows(self, rows: Sequence[OutboxMessage], *, complete: bool) -> None:
        """Take what the store has just read, oldest first; `complete` if there are no more rows than these."""
        self._rows = {row.id: row for row in rows}
        newest = max(self._rows, default=0)
        gone = {
            row_id
            for row_id in (*self._clearing, *self._not_before, *self._malformed, *self._refused)
            if row_id not in self._rows and (complete or row_id <= newest)
        }
        offered = {verdict.outbox_id for verdict in self._live}
        self._clearing -= gone
        self._malformed -= gone
        self._refused -= gone
        for row_id in gone - offered:
            self._not_before.pop(row_id, None)

    def pump_records(self, now: float, send: Send, *, window: int = RECORD_WINDOW) -> None:
        """Send rows in order while fewer than `window` of them are unacknowledged."""
        busy = {flight.outbox_id for flight in self._flights.values()}
        busy |= {verdict.outbox_id for verdict in self._live}
        busy |= self._clearing | self._malformed | set(self._acknowledged)
        on_the_way = sum(flight.verdict is None for flight in self._flights.values())
        for row in list(self._rows.values()):
            if on_the_way >= window:
                return
            if row.id in busy or now < self._earliest(row, now):
                continue
            try:
                message = _for_the_record(row, self.utc_s())
            except ContractError:
                self.counts.malformed += 1
                self._malformed.add(row.id)  # stays in the outbox, where a person can look at it
                continue
            token = send(message)
            if token is None:
                return
            on_the_way += 1
            self._flights[token] = _Flight(row.id, None, now)
            if message.kind == "late":
                self.counts.late_sent += 1
            else:
                self.counts.detail_sent += 1

    def acknowledge(self, token: Token, accepted: bool, now: float) -> None:
        """Take the broker's answer; a refused message goes on in the record lane, after a pause."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return
        if not accepted:
            self.counts.refused += 1
            self._not_before[flight.outbox_id] = now + RETRY_S
            if flight.verdict is not None:
                self._refused.add(flight.outbox_id)
            return
        if flight.verdict is not None and (self._is_on_the_way(flight.verdict) or flight.outbox_id in self._refused):
            return  # its other form
        self._acknowledged.append(flight.outbox_id)
        if flight.verdict is None:
            self.counts.record_acknowledged += 1
        else:
            self.counts.live_acknowledged += 1

    def lose(self, session: int) -> None:
        """Take back what a lost session had not delivered; the live lane may send it again while it is young."""
        lost = [token for token in self._flights if token.session <= session]
        verdicts = {id(flight.verdict): flight.verdict for flight in map(self._flights.pop, lost)}
        waiting = {id(verdict) for verdict in self._live}
        again = [verdict for key, verdict in verdicts.items() if verdict is not None and key not in waiting]
        self._live.extendleft(reversed(again))
        self._refused -= {verdict.outbox_id for verdict in again}
        self._half_sent = None  # a new session hears both forms

    def _is_on_the_way(self, verdict: LiveVerdict) -> bool:
        """Whether a form of it is not acknowledged, or not even sent."""
        return self._half_sent is verdict or any(flight.verdict is verdict for flight in self._flights.values())

    def take_acknowledged(self) -> list[int]:
        """Give the rows that can be deleted; `clearing_failed` gives them back."""
        ids, self._acknowledged = self._acknowledged, []
        self._clearing.update(ids)
        return ids

    def clearing_failed(self, ids: Iterable[int]) -> None:
        """The store could not delete these rows; they must be deleted later and not sent again."""
        self._acknowledged.extend(ids)

    def margin(self, now: float) -> Margin | None:
        """How near the verdicts of the last five minutes came to the window; None without any. For any thread."""
        ages_s = sorted(age_s for at, age_s in self._ages_s.copy() if now - at <= MARGIN_S)
        if not ages_s:
            return None
        p99_s = ages_s[min(len(ages_s) - 1, int(0.99 * len(ages_s)))]
        return Margin(self.window_s - ages_s[-1], self.window_s - p99_s, len(ages_s))

    def longest_wait_s(self, now: float) -> float:
        """How long the oldest message has waited for the broker's answer; 0 if none does."""
        return max((now - flight.sent_monotonic_s for flight in self._flights.values()), default=0.0)

    def _earliest(self, row: OutboxMessage, now: float) -> float:
        if row.topic == "result" and row.id not in self._not_before:
            self._not_before[row.id] = now if _was_late_from_the_start(row) else now + self.window_s
        return self._not_before.get(row.id, now)


def _was_late_from_the_start(row: OutboxMessage) -> bool:
    try:
        result = Result.from_json(row.payload.encode())
    except ContractError:  # told when it is to be sent
        return False
    return result.err == ErrorCode.MISSED_TRIGGER and bool(result.flg & Flag.LATE)


def _for_the_record(row: OutboxMessage, now_s: float) -> Outgoing:
    payload = row.payload.encode()
    if row.topic == "result":
        return Outgoing("late", Result.from_json(payload).as_late(now_s).to_json())
    return Outgoing(row.topic, payload)
