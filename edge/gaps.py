"""Gaps in the PLC's trigger counter: which parts passed by unseen. No thread of its own, no clock.

May import the contract's codes. Each part that the PLC counted gets a verdict; one that the station was not awake for,
or had no room for, gets NONE when its absence shows: at the next trigger, or when the line is idle again.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from inspector.contract.codes import ErrorCode

COUNTER_PERIOD = 2**32 - 1  # the counter goes 1 … 2³²−1, 1 …; 0 is free running
MAX_GAP = 10_000
"""So many parts may have passed by unseen, a quarter of an hour of a fast line; a longer jump is a counter set anew."""


LONG_ABSENCE = 250
"""From so many unseen triggers in a row on, only the last is told at once; the others follow between the batches."""


@dataclass(frozen=True)
class Missed:
    """A trigger without a frame, and how many directly before it went by as unseen and are not told one by one."""

    trg: int
    part_id: str
    failure: ErrorCode
    unseen: int = 0


@dataclass(frozen=True)
class Step:
    """What a new trigger says about those before it; `reset` where the counter did not simply go on."""

    missed: tuple[Missed, ...] = ()
    reset: bool = False


class TriggerGaps:
    """The trigger counter of one camera. `last` is the last trigger that has its verdict recorded; 0 = none yet."""

    def __init__(self, last: int = 0, *, max_gap: int = MAX_GAP) -> None:
        self._last = last
        self._max_gap = max_gap
        self._overruns: dict[int, tuple[str, ErrorCode]] = {}
        self._lock = threading.Lock()

    def overrun(self, trg: int, part_id: str, failure: ErrorCode = ErrorCode.TRIGGER_OVERRUN) -> None:
        """A trigger came that gets no frame: nothing had room for it (105), or the product is being changed (503)."""
        with self._lock:
            self._overruns[trg] = (part_id, failure)

    def seen(self, trg: int) -> Step:
        """A frame with this trigger came. A counter that goes back, or jumps too far, was reset: no gap."""
        with self._lock:
            if trg == 0:
                return Step()
            last, ahead, self._last = self._last, self._ahead(trg), trg
            if last == 0 or ahead == 0:
                return Step(self._take_overruns(trg) if last == 0 else ())
            if ahead > self._max_gap + 1:
                return Step(self._take_overruns(trg), reset=True)
            between = [(last + step - 1) % COUNTER_PERIOD + 1 for step in range(1, ahead)]
            return Step(tuple(_folded(self._miss(number) for number in between)))

    def flush(self, waiting: Callable[[], int] = lambda: 0) -> tuple[Missed, ...]:
        """The line is idle: what is known up to the last trigger that had no room, without waiting for the next one.

        `waiting` counts the triggers that will still be seen; while there are any, nothing is known for sure. It is asked
        here, since a trigger that came before one without room is counted by then.
        """
        with self._lock:
            self._overruns.pop(self._last, None)  # has its verdict
            if not self._overruns or waiting():
                return ()
            last, in_order = self._last, sorted(self._overruns, key=self._ahead)
            newest = in_order[-1]
            if last == 0 or self._ahead(newest) > self._max_gap + 1:
                missed = [self._miss(trg) for trg in in_order]
            else:
                missed = [self._miss(trg) for trg in triggers_before(newest % COUNTER_PERIOD + 1, self._ahead(newest))]
            self._last = newest
            return tuple(_folded(missed))

    def _ahead(self, trg: int) -> int:
        return (trg - self._last) % COUNTER_PERIOD

    def _miss(self, trg: int) -> Missed:
        if trg in self._overruns:
            return Missed(trg, *self._overruns.pop(trg))
        return Missed(trg, "", ErrorCode.MISSED_TRIGGER)

    def _take_overruns(self, before: int) -> tuple[Missed, ...]:
        taken = tuple(Missed(trg, *gone) for trg, gone in self._overruns.items() if trg != before)
        self._overruns.clear()
        return taken


def triggers_before(trg: int, count: int) -> list[int]:
    """The `count` triggers before one, the first of them first."""
    return [(trg - back - 1) % COUNTER_PERIOD + 1 for back in range(count, 0, -1)]


def _folded(missed: Iterable[Missed]) -> Iterator[Missed]:
    """Those of a long run of which nothing is known but the number are left to its last one."""
    for nothing_known, run in groupby(missed, lambda one: one.failure is ErrorCode.MISSED_TRIGGER):
        found = list(run)
        if nothing_known and len(found) >= LONG_ABSENCE:
            yield replace(found[-1], unseen=len(found) - 1)
        else:
            yield from found
