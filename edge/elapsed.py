"""How long ago something was, within one run of the worker, whatever becomes of the wall clock meanwhile. No thread.

Imports nothing of the project. The times in the database are labels: a person, NTP or an empty battery may set the wall
clock at any moment, by an hour or by years, and no verdict may change for that. So the wall clock is read once, when the
run begins, and from there on the monotonic clock alone counts; and what happens in the run itself is remembered with its
monotonic time, so that its label does not matter at all.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class RunClock:
    """Anchored to the wall clock once, when it is made; advanced by the monotonic clock.

    A wrong wall clock at the start cannot be told from a right one by itself, and stays wrong for the run:

    * It stands ahead: everything before the run seems older than it is. What must come in time is asked for too early.
    * It stands behind the labels that it meets: nothing can have happened after the run began that the run has not seen,
      so nobody knows how long ago it was (infinitely long), for all of the run. A clock that is put right later changes
      nothing in that: only something that happens in the run, or another start, does.
    * It stands behind, but not behind the labels: everything seems younger by the error, and what must come in time is
      asked for too late by no more than that. No clock of this machine can know better.
    """

    def __init__(
        self, utc: Callable[[], datetime] = _wall_clock, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.utc, self.monotonic_s = utc, monotonic_s
        self._began_at, self._began_monotonic_s = utc(), monotonic_s()
        self._witnessed: dict[datetime, float] = {}

    def witness(self, at: datetime) -> None:
        """What has this label of the wall clock happens now."""
        self._witnessed[at] = self.monotonic_s()

    def ago_s(self, at: datetime) -> float:
        """Seconds since what has this label happened; infinite where nobody can know."""
        now_monotonic_s = self.monotonic_s()
        if at in self._witnessed:
            return now_monotonic_s - self._witnessed[at]
        if at > self._began_at:
            return inf
        return (self._began_at - at).total_seconds() + now_monotonic_s - self._began_monotonic_s
