"""Counters of the running shift and of the last full minute, for displays, on `stats`. No thread, no connection.

May import the contract and `verdicts`. The clock is given. Shifts begin at times of the machine's local clock; after a
restart the shift goes on from what the database has of it. Known parts of a challenge count in none of it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from edge.verdicts import Statement
from inspector.contract.messages import U32_MAX, saturate
from inspector.contract.reports import Counters, Stats
from inspector.types import Verdict

MINUTE_S = 60


def shift_start(now: datetime, boundaries: Sequence[time]) -> datetime:
    """When the shift that runs at `now` began, in UTC; `boundaries` are times of the local clock, at least one."""
    today = now.astimezone().date()
    days = (today - timedelta(days=1), today)
    starts = [datetime.combine(day, at).astimezone(UTC) for day in days for at in boundaries]
    return max(start for start in starts if start <= now)


@dataclass
class _Minute:
    """The verdicts of one minute, with their latencies."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> int | None:
        newest = sorted(self.latencies_s)
        return saturate(newest[min(len(newest) - 1, int(share * len(newest)))] * 1000, U32_MAX) if newest else None


class ShiftCounts:
    """Counts from `begin` on. Safe to use from all threads."""

    def __init__(self, shifts: Sequence[str], boot: int, clock: Callable[[], datetime]) -> None:
        """`shifts` are the times of the local clock (`06:00`) at which they begin; `clock` gives aware UTC times."""
        self._boundaries = [time.fromisoformat(at) for at in shifts]
        self._boot = boot
        self._clock = clock
        self._lock = threading.Lock()
        now = clock()
        self._minute_no = _minute_no(now)
        self._this, self._last = _Minute(), _Minute()
        self.since = shift_start(now, self._boundaries)
        self._shift: Counter[Verdict] = Counter()

    def begin(self, stored: Mapping[Verdict, int]) -> None:
        """What the database has of the shift since `since`; before the first part of this run."""
        with self._lock:
            self._shift.update(stored)

    def seen(self, statement: Statement, latency_s: float) -> None:
        """A verdict is out, so long after the exposure."""
        answer = statement.answer
        if answer.part.challenge:
            return
        with self._lock:
            self._roll(self._clock())
            self._this.counts[answer.verdict] += 1
            self._this.latencies_s.append(latency_s)
            if answer.part.captured_at >= self.since:  # a part of the last shift counts there, as in the database
                self._shift[answer.verdict] += 1

    def message(self) -> Stats:
        """`stats`, as it is now."""
        with self._lock:
            now = self._clock()
            self._roll(now)
            minutes = max(1.0, (now - self.since).total_seconds() / MINUTE_S)
            return Stats(
                boot=self._boot,
                ts=saturate(now.timestamp(), U32_MAX),
                since=saturate(self.since.timestamp(), U32_MAX),
                minute=_counters(self._last.counts),
                p50=self._last.quantile_ms(0.5),
                p99=self._last.quantile_ms(0.99),
                shift=_counters(self._shift),
                rate=round(self._shift.total() / minutes, 1),
            )

    def _roll(self, now: datetime) -> None:
        """A minute, or a shift, may be over."""
        number = _minute_no(now)
        if number == self._minute_no:
            return
        self._last = self._this if number == self._minute_no + 1 else _Minute()
        self._this, self._minute_no = _Minute(), number
        since = shift_start(now, self._boundaries)
        if since != self.since:
            self.since, self._shift = since, Counter()


def _minute_no(now: datetime) -> int:
    return int(now.timestamp()) // MINUTE_S


def _counters(counts: Counter[Verdict]) -> Counters:
    def most(verdict: Verdict) -> int:
        return saturate(counts[verdict], U32_MAX)

    return Counters(
        n=saturate(counts.total(), U32_MAX),
        ok=most(Verdict.OK),
        ng=most(Verdict.NG),
        und=most(Verdict.UNDECIDED),
        none=most(Verdict.NONE),
    )
