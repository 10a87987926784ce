"""Says in the log when the wall clock was set: who compares times of the record with another machine's has to know.

No verdict depends on it: ages and deadlines are taken from the monotonic clock. No thread; asked by whoever comes by often.
"""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

STEP_S = 1.0
"""NTP slews smaller differences, by 0.5 ms a second."""
SURE_S = 0.1
"""The clocks are read one after the other; if the process was held up for longer in between, they say nothing."""


class ClockSteps:
    """Compares the wall clock with the monotonic one, each time with the time before."""

    def __init__(
        self, utc_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._utc_s, self._monotonic_s = utc_s, monotonic_s
        self._apart_s: float | None = None
        self.look()

    def look(self) -> None:
        """One line for a step of more than a second since the last look; the first one was when this was made."""
        before = self._monotonic_s()
        utc_s = self._utc_s()
        if self._monotonic_s() - before > SURE_S:
            return
        last, self._apart_s = self._apart_s, utc_s - before
        if last is not None and abs(step_s := self._apart_s - last) > STEP_S:
            log.warning(
                "the wall clock was set by %+.1f s; times before and after it cannot be compared, verdicts are not touched",
                step_s,
            )
