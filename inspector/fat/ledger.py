"""What the PLC triggered and what it says it did: the books that the acceptance test is judged by.

May import the contract's messages. Every part counts as bad until a fresh, correct OK was sent for it: accepting any
other part, one without a verdict included, is what must never happen.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from inspector.contract.reports import Disposition


@dataclass
class Part:
    """One trigger of the PLC; times are monotonic seconds. `good` once an OK was sent that it may rely on."""

    trg: int
    fault: str
    triggered_s: float
    claimed: bool = False
    good: bool = False
    receipts: list[tuple[Disposition, float]] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether any receipt says that the part was let through."""
        return any(receipt.acc for receipt, _ in self.receipts)

    @property
    def decided_s(self) -> float | None:
        """When the first receipt came."""
        return self.receipts[0][1] if self.receipts else None

    @property
    def contradicted(self) -> bool:
        """Whether the PLC said two different things; the same receipt twice is a repetition of QoS 1."""
        return len({receipt for receipt, _ in self.receipts}) > 1


class Ledger:
    """Written by the observer's thread, read by the test; every change wakes those who wait."""

    def __init__(self) -> None:
        self.fault = ""
        """The fault that parts belong to from now on."""
        self._parts: dict[int, Part] = {}
        self._strange: list[tuple[str, Disposition]] = []
        self._changed = threading.Condition()

    def triggered(self, trg: int) -> Part:
        """Open a part; a trigger that is known already is a repetition."""
        with self._changed:
            part = self._parts.setdefault(trg, Part(trg, self.fault, time.monotonic()))
            self._changed.notify_all()
            return part

    def told(self, receipt: Disposition) -> None:
        """The PLC says what it did with a part."""
        with self._changed:
            part = self._parts.get(receipt.trg)
            if part is None:
                self._strange.append((self.fault, receipt))
            else:
                part.receipts.append((receipt, time.monotonic()))
            self._changed.notify_all()

    def claim(self, timeout_s: float, youngest_s: float) -> Part | None:
        """The newest part that nobody has claimed and that is not older than `youngest_s`; waits for one."""

        def find() -> Part | None:
            since = time.monotonic() - youngest_s
            waiting = [p for p in self._parts.values() if not (p.claimed or p.receipts) and p.triggered_s >= since]
            return max(waiting, key=lambda part: part.triggered_s, default=None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None, timeout_s)
            part = find()
            if part is not None:
                part.claimed, part.fault = True, self.fault
            return part

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the books say so; False if they do not in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def wait_decided(self, parts: Iterable[Part], timeout_s: float) -> bool:
        """Wait until each of the parts has a receipt; False if one has none in time."""
        wanted = list(parts)
        return self.wait(lambda: all(part.receipts for part in wanted), timeout_s)

    @property
    def has_receipts(self) -> bool:
        """Whether the PLC has ever said what it did with a part that it triggered."""
        with self._changed:
            return any(part.receipts for part in self._parts.values())

    @property
    def has_triggers(self) -> bool:
        """Whether the PLC has ever triggered a part."""
        with self._changed:
            return bool(self._parts)

    def parts(self, fault: str) -> list[Part]:
        """The parts of a fault, in the order of their triggers."""
        with self._changed:
            return [part for part in self._parts.values() if part.fault == fault]

    def strangers(self, fault: str) -> int:
        """Receipts during a fault for parts that were let through without any trigger that we heard of."""
        with self._changed:
            return sum(receipt.acc for of, receipt in self._strange if of == fault)
