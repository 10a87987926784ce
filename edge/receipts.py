"""What the PLC did with each part: its receipts on `disp`, beside what it was told.

A part that should have been rejected, and was not, or of which the PLC does not say so, is alarm 703.
May import the contract, the store and `state`. `ReceiptBook` knows what is right, without thread, clock or network;
`Receipts` gives it a thread, the broker's messages and the database. Nothing here is on the way of a verdict.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from edge.mqtt import Connected, Lost, MqttLink, Received
from edge.state import Station
from edge.verdicts import Statement
from inspector.contract.codes import PASSING_FLAGS, ErrorCode, Flag
from inspector.contract.reports import Disposition
from inspector.errors import ContractError, StoreError
from inspector.store import journal
from inspector.store.journal import Identity, PlcDecision, VerdictRecord
from inspector.store.writer import StoreWriter
from inspector.types import Verdict

log = logging.getLogger(__name__)

TICK_S = 0.2
STORE_TIMEOUT_S = 5.0
REMEMBERED = 1000
REMEMBERED_S = 10.0
"""A receipt may overtake the knowledge of its verdict by so much; an older one is of another part of that number."""
MOST_AT_ONCE = 100
MOST_UNWRITTEN = 20_000
"""Receipts that wait for the database or for their verdicts' rows: as many as verdicts can wait for it."""
RETRY_S = 1.0
LET_PASS, SILENT = "plc", "receipt"
"""Sources of alarm 703: the PLC let a part pass; it sent no receipt for one."""
ACCEPTABLE = PASSING_FLAGS | Flag.SIMULATED
"""Flags with which a part may pass, on a line without real parts, too."""


@dataclass(frozen=True)
class Told:
    """A verdict as the PLC heard it."""

    boot: int
    seq: int
    trg: int
    part: str
    verdict: Verdict
    err: int
    flg: int

    @property
    def identity(self) -> Identity:
        return self.boot, self.seq

    @property
    def may_pass(self) -> bool:
        return self.verdict is Verdict.OK and not self.err and not self.flg & ~int(ACCEPTABLE)

    def __str__(self) -> str:
        why = f" {self.err}" if self.err else ""
        return f"part {self.part or '-'} (trigger {self.trg}, seq {self.seq}): {self.verdict.name}{why}"


Stored = Mapping[Identity, VerdictRecord] | None
"""None: the database is away."""


class ReceiptBook:
    """Verdicts that wait for their receipts, receipts that came before them, and what is not written of either.

    Safe to use from all threads.
    """

    def __init__(self, timeout_s: float) -> None:
        """A part that must be rejected needs its receipt within so long, once the PLC has sent one at all; 0: never."""
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._speaks = False
        self._awaited: OrderedDict[int, tuple[Told, float]] = OrderedDict()
        self._told: OrderedDict[int, Told] = OrderedDict()
        self._came: OrderedDict[int, tuple[Disposition, float]] = OrderedDict()
        self._owed: OrderedDict[Identity, None] = OrderedDict()
        self._unwritten: OrderedDict[Identity, PlcDecision] = OrderedDict()
        self.forgotten = 0
        """Receipts that were too many to be kept until they could be written."""

    def tell(self, told: Told, now_monotonic_s: float) -> bool:
        """A verdict is out; True if the PLC is known to have let its part pass although it must not."""
        if told.trg == 0:
            return False  # free running: no receipt can name it
        with self._lock:
            _keep(self._told, told.trg, told)
            receipt, came = self._came.get(told.trg, (None, 0.0))
            if receipt is None or now_monotonic_s - came > REMEMBERED_S:
                if not told.may_pass:
                    _keep(self._awaited, told.trg, (told, now_monotonic_s))
                return False
            # The verdict that a receipt names is looked up when it comes; here it may be about that of another camera.
            other = (receipt.boot, receipt.seq) != told.identity
            if not (receipt.seq and other):  # without a number the PLC did not wait for this verdict of its part
                self._add(PlcDecision(told.boot, told.seq, receipt.acc, receipt.rsn))
            return not told.may_pass and other and bool(receipt.acc and receipt.seq)

    def owe(self, verdict: Identity) -> None:
        """It is told without being stored; its row comes once the database is back."""
        with self._lock:
            _keep(self._owed, verdict, None, MOST_UNWRITTEN)

    def unwritten(self, new: Sequence[PlcDecision], most: int) -> list[PlcDecision]:
        """What is to be written: `new`, and the `most` oldest of what waits; all of it waits until `wrote` is told."""
        with self._lock:
            chosen = {one.identity: one for one in islice(self._unwritten.values(), most)}
            for one in new:
                self._add(one)
            return list((chosen | {one.identity: one for one in new}).values())

    def wrote(self, tried: Sequence[PlcDecision], stored: Container[Identity]) -> None:
        """`tried` was written as far as its verdicts are stored; of the others wait those whose rows are yet to come."""
        with self._lock:
            for one in tried:
                if one.identity in stored:
                    self._owed.pop(one.identity, None)
                if self._unwritten.get(one.identity) != one:
                    continue  # the PLC has said something else meanwhile
                if one.identity in self._owed:
                    self._unwritten.move_to_end(one.identity)
                else:
                    del self._unwritten[one.identity]

    @property
    def waiting(self) -> int:
        """How many are not written."""
        return len(self._unwritten)

    def _add(self, decision: PlcDecision) -> None:
        self.forgotten += _keep(self._unwritten, decision.identity, decision, MOST_UNWRITTEN)

    def take(self, receipt: Disposition, now_monotonic_s: float) -> Told | None:
        """A receipt came; gives the verdict that it is about, the one that must be rejected if there are several."""
        with self._lock:
            self._speaks = True
            _keep(self._came, receipt.trg, (receipt, now_monotonic_s))
            awaited = self._awaited.pop(receipt.trg, None)
            return awaited[0] if awaited is not None else self._told.get(receipt.trg)

    def overdue(self, now_monotonic_s: float) -> list[Told]:
        """Parts that should have been rejected and whose receipts have not come; each is given once."""
        with self._lock:
            late = [trg for trg, (_, since) in self._awaited.items() if now_monotonic_s - since > self._timeout_s]
            gone = [self._awaited.pop(trg)[0] for trg in late]
            return gone if self._speaks and self._timeout_s else []

    def forget(self) -> None:
        """The connection is gone: receipts of these parts may have been missed here, and prove nothing."""
        with self._lock:
            self._awaited.clear()


def _read(event: Received) -> Disposition | None:
    try:
        return Disposition.from_json(event.payload)
    except ContractError as error:
        log.warning("a receipt of the PLC is wrong: %s", error)
        return None


def _decision(receipt: Disposition, told: Told | None) -> PlcDecision:
    """For the row: of the verdict that the PLC names, or, where it decided without one, of that of its part."""
    named = receipt if receipt.seq or told is None else told
    return PlcDecision(named.boot, named.seq, receipt.acc, receipt.rsn)


def _keep(kept: "OrderedDict[Any, Any]", key: object, value: object, most: int = REMEMBERED) -> int:
    """The newest `most`; gives how many had to go."""
    kept[key] = value
    kept.move_to_end(key)
    gone = len(kept) - most
    if gone > 0:
        kept.popitem(last=False)
    return max(gone, 0)


class Receipts:
    """The thread that reads `disp`. `seen` is called by the inspection loop and never blocks."""

    def __init__(
        self, link: MqttLink, station: Station, station_id: int, writer: StoreWriter, timeout_s: float
    ) -> None:
        self._link = link
        self._topic = link.topics.of("disp")
        self._station = station
        self._station_id = station_id
        self._writer = writer
        self._book = ReceiptBook(timeout_s)
        self._events: queue.Queue[Any] = link.listen(Connected, Lost, Received)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._came = self._unconfirmed = self._forgotten = 0
        self._retry_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(STORE_TIMEOUT_S + 1.0)

    def status(self) -> dict[str, int]:
        """Receipts that came, and parts of which alarm 703 was raised."""
        return {"receipts": self._came, "rejects_not_confirmed": self._unconfirmed}

    def seen(self, statement: Statement) -> None:
        """A verdict is out. Without a connection its receipt could not be heard, and is not awaited."""
        result = statement.result
        told = Told(result.boot, result.seq, result.trg, result.part, Verdict(result.res), result.err, result.flg)
        if told.err == ErrorCode.STORAGE:
            self._book.owe(told.identity)
        if self._link.is_connected and self._book.tell(told, time.monotonic()):
            self._let_pass(str(told))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # whatever a receipt holds must not end the thread that reads the next one
                log.exception("a receipt of the PLC failed in an unexpected way")
        self._write_the_rest()

    def _turn(self) -> None:
        receipts = self._take_in()
        self._came += len(receipts)
        about = [self._book.take(receipt, came) for receipt, came in receipts]
        decisions = [_decision(receipt, told) for (receipt, _), told in zip(receipts, about, strict=True)]
        stored = self._store(decisions)
        for (receipt, _), told in zip(receipts, about, strict=True):
            self._judge(receipt, told, stored)
        for told in self._book.overdue(time.monotonic()):
            self._raise(SILENT, f"no receipt of the PLC for {told}")
        for source in (LET_PASS, SILENT):
            if self._station.alarms.is_confirmed(ErrorCode.REJECT_NOT_CONFIRMED, source):
                self._station.alarms.down(ErrorCode.REJECT_NOT_CONFIRMED, source)

    def _take_in(self) -> list[tuple[Disposition, float]]:
        """Wait for one message, for a tick at most, and take the receipts that are there: one transaction for all."""
        found = []
        try:
            event = self._events.get(timeout=TICK_S)
            while True:
                if isinstance(event, Connected | Lost):
                    self._book.forget()
                elif event.topic == self._topic and not event.retained and (receipt := _read(event)) is not None:
                    found.append((receipt, event.received_monotonic_s))
                if len(found) >= MOST_AT_ONCE:
                    return found
                event = self._events.get_nowait()
        except queue.Empty:
            return found

    def _store(self, decisions: Sequence[PlcDecision]) -> Stored:
        """Put them beside their verdicts; gives the verdicts that they name, None while the database is away.

        What waits goes along, or alone once a second; a part that was told NONE (800) has its row only later.
        """
        if not decisions and not (self._book.waiting and time.monotonic() >= self._retry_at):
            return {}
        chosen = self._book.unwritten(decisions, MOST_AT_ONCE)
        if self._book.forgotten > self._forgotten:
            self._forgotten = self._book.forgotten
            log.error("too many receipts of the PLC wait for the database; forgotten so far: %d", self._forgotten)
        self._retry_at = time.monotonic() + RETRY_S
        work = partial(journal.set_dispositions, station_id=self._station_id, decisions=chosen)
        try:
            stored = self._writer.call(work, timeout_s=STORE_TIMEOUT_S)
        except StoreError as error:
            log.warning("receipts of the PLC wait for the database (%d): %s", self._book.waiting, error)
            return None
        self._book.wrote(chosen, stored)
        if stored:
            self._retry_at = 0.0  # rows come in again
        return stored

    def _write_the_rest(self) -> None:
        """The station stops: what waits, as far as the rows are there now."""
        left = self._book.waiting + 1
        while 0 < self._book.waiting < left:
            left = self._book.waiting
            self._retry_at = 0.0
            self._store([])
        if left := self._book.waiting:
            log.error("receipts of the PLC that are not stored: %d", left)

    def _judge(self, receipt: Disposition, about: Told | None, stored: Stored) -> None:
        """A part that the PLC let pass must have been told OK, by the verdict that the PLC names."""
        if not receipt.acc:
            return
        if about is not None and not about.may_pass:
            self._let_pass(str(about))
            return
        if stored is None and about is not None:
            return  # the database is away; what is remembered says that it may pass
        row = None if stored is None or not receipt.seq else stored.get((receipt.boot, receipt.seq))
        if row is None:
            self._let_pass(f"trigger {receipt.trg}: the station knows no verdict {receipt.boot}/{receipt.seq}")
            return
        named = Told(row.boot, row.seq, row.trg, row.part, Verdict(row.verdict), row.err, row.flg)
        if not named.may_pass:
            self._let_pass(str(named))
        elif named.trg != receipt.trg:
            self._let_pass(f"trigger {receipt.trg} by the verdict of another: {named}")

    def _let_pass(self, what: str) -> None:
        self._raise(LET_PASS, f"the PLC let pass {what}")

    def _raise(self, source: str, text: str) -> None:
        log.error("%s", text)
        self._unconfirmed += 1
        alarms = self._station.alarms
        if alarms.is_confirmed(ErrorCode.REJECT_NOT_CONFIRMED, source):  # what was seen was the one before
            alarms.down(ErrorCode.REJECT_NOT_CONFIRMED, source)
        alarms.up(ErrorCode.REJECT_NOT_CONFIRMED, text, source)
