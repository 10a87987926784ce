"""The test bench: station, PLC, observer and ledger together, and the few moves that every fault is made of.

May import the rest of the room. `NotAcceptedError` ends a fault that has failed; bad parts that were accepted need no
error, the ledger has them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from inspector.config import MqttConfig
from inspector.contract.messages import Result
from inspector.contract.reports import Disposition
from inspector.errors import BrokerError
from inspector.fat.ledger import Ledger, Part
from inspector.fat.observer import Observer
from inspector.fat.opponents import Opponent
from inspector.fat.station import HEARTBEAT_MS, PlayedStation

HEARTBEAT_S = HEARTBEAT_MS / 1000
SILENT_PERIODS = 3.4
"""More than the three after which a PLC must accept nothing, and fewer than four."""
RECEIPT_S = 8.0
"""How long a receipt may take beyond the PLC's own timer."""
PATIENCE_S = 12.0
NEXT_PART_S = 10.0
WAIT_S = 10.0
SETTLE_S = 0.3
"""For what was sent to be taken by a PLC; nothing is asserted about how long it takes."""


class NotAcceptedError(BrokerError):
    """The PLC does not do what the contract asks of it; the text says what was seen."""


class Bench:
    """`patience_s` is how long good parts may take to be accepted again."""

    def __init__(self, plc: Opponent, station: PlayedStation, observer: Observer, ledger: Ledger) -> None:
        self.plc, self.station, self.observer, self.ledger = plc, station, observer, ledger
        self.patience_s = PATIENCE_S
        self.notes: list[str] = []
        self.onset_s: float | None = None
        self.back_s: float | None = None
        self.repeated = 0
        """Duplicates that were sent."""

    @property
    def config(self) -> MqttConfig:
        return self.plc.config

    def begin(self, fault: str) -> None:
        """From here on parts, notes and times are those of this fault."""
        self.ledger.fault = fault
        self.notes = []
        self.onset_s = self.back_s = None
        self.repeated = 0

    def onset(self) -> None:
        """The fault happens now: the time until the PLC is safe counts from here."""
        self.onset_s = time.monotonic()

    def part(self) -> Part:
        """The next part that the PLC triggers.

        Raises:
            NotAcceptedError: it triggers none.
        """
        until = time.monotonic() + NEXT_PART_S
        while (part := self.second_part()) is None:
            if time.monotonic() > until:
                raise NotAcceptedError(f"the PLC triggered no part within {NEXT_PART_S:g} s")
        return part

    def second_part(self) -> Part | None:
        """One more part while others wait; None from a PLC that has only one on the way."""
        self.plc.ask_for_part()
        return self.ledger.claim(self.plc.timeout_s / 2, self.plc.timeout_s / 4)

    def unheard_part(self, trg: int) -> Part:
        """A part that went by while nobody could hear of it."""
        part = self.ledger.triggered(trg)
        part.claimed = True
        return part

    def answer(self, part: Part, /, **changes: Any) -> Result:
        """Send an OK for a part, with what is different about it, that does not make the part a good one."""
        result = self.station.verdict(part.trg, **changes)
        self.station.send_result(result)
        return result

    def close(self, *parts: Part) -> None:
        """Send NG for parts that need not wait for the PLC's timer, and wait for their receipts."""
        for part in parts:
            if not part.receipts:
                self.answer(part, res=2, scr=1500)
        self.settle(*parts)

    def settle(self, *parts: Part) -> None:
        """Wait until the PLC has said what it did with each part, by its timer at the latest."""
        self.ledger.wait_decided(parts, self.plc.timeout_s + RECEIPT_S)

    def good(self, **changes: Any) -> Result:
        """A good part that must be accepted at once.

        Raises:
            NotAcceptedError: it was not.
        """
        part = self.part()
        part.good = True
        result = self.answer(part, **changes)
        self.expect_accepted(part)
        return result

    def expect_accepted(self, part: Part) -> None:
        """Wait for the receipt of a part that was answered as a good one.

        Raises:
            NotAcceptedError: it was rejected, or there is no receipt.
        """
        self.settle(part)
        if not part.receipts:
            raise NotAcceptedError(f"no receipt came for the good part {part.trg}")
        if not part.accepted:
            raise NotAcceptedError(f"the good part {part.trg} was rejected (rsn {part.receipts[0][0].rsn})")

    def recover(self) -> None:
        """Good parts until one is accepted.

        Raises:
            NotAcceptedError: none was, for `patience_s`.
        """
        since = time.monotonic()
        while True:
            try:
                self.good()
            except NotAcceptedError as error:
                if time.monotonic() - since > self.patience_s:
                    raise NotAcceptedError(f"no good part was accepted for {self.patience_s:g} s: {error}") from error
                time.sleep(0.05)
            else:
                self.back_s = time.monotonic() - since
                return

    def be_silent(self) -> None:
        """Stop the heartbeat, and wait until it is too old for the PLC."""
        self.station.beats = False
        time.sleep(max(0.0, self.station.last_beat_s + SILENT_PERIODS * HEARTBEAT_S - time.monotonic()))

    @contextmanager
    def cut_plc(self) -> Iterator[None]:
        """The PLC loses its connection while the station is silent; the block runs before the heartbeat comes back."""
        self.station.beats = False
        try:
            self.plc.cut_connection()
            yield
        finally:
            self.station.beats = True
            self.station.beat()

    def learn_lost_receipts(self, *parts: Part) -> None:
        """Ask the PLC itself about parts whose receipts could not be sent; a real one cannot be asked."""
        deadline = time.monotonic() + self.plc.timeout_s + RECEIPT_S
        for part in parts:
            while not part.receipts and time.monotonic() < deadline:
                decision = self.plc.decision_of(part.trg)
                if decision is not None:
                    seen = (0, 0) if decision.result is None else (decision.result.boot, decision.result.seq)
                    self.ledger.told(
                        Disposition(
                            trg=part.trg,
                            boot=seen[0],
                            seq=seen[1],
                            acc=int(decision.accepted),
                            rsn=decision.reason.number,
                        )
                    )
                time.sleep(0.02)

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> bool:
        """Give a condition time to come true; whether it did."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def note(self, text: str) -> None:
        """Something that the report says beside the fault, such as a step that could not be played."""
        self.notes.append(text)
