"""When a worker is started again, and when that is given a rest: a circuit breaker. No process, no thread, no clock.

Pure decisions for `supervisor.py`. A worker that fails now and then is started again at once; one that fails again and
again is tried ever more rarely, but never given up: whatever was wrong may be mended while nobody is there to restart it.
"""

from collections import deque
from dataclasses import dataclass

FIRST_PAUSE_S = 1.0
MOST_PAUSE_S = 60.0
OPEN_AFTER = 5
"""So many failures within `WINDOW_S` open the circuit."""
WINDOW_S = 600.0
OPEN_PAUSE_S = 300.0


@dataclass(frozen=True)
class Restart:
    """What to do after a failure: wait for so long; `open` tells that the circuit is open and the alarm is due."""

    pause_s: float
    open: bool


class Breaker:
    """Remembers the failures of the last ten minutes; times are monotonic seconds."""

    def __init__(self) -> None:
        self._failures: deque[float] = deque()

    def failed(self, now_s: float, jitter: float) -> Restart:
        """A worker ended that should not have; `jitter` 0..1 keeps the stations of a plant from starting all at once."""
        self._failures.append(now_s)
        while now_s - self._failures[0] > WINDOW_S:
            self._failures.popleft()
        if len(self._failures) >= OPEN_AFTER:
            return Restart(OPEN_PAUSE_S * (0.8 + 0.4 * jitter), open=True)
        pause_s = min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (len(self._failures) - 1))
        return Restart(pause_s * (0.5 + 0.5 * jitter), open=False)


@dataclass
class Progress:
    """What the supervisor has heard of a worker, and whether that is enough.

    A worker says "ready" once, and then "beat" as long as its inspection loop comes by; a process that lives and says
    nothing hangs.
    """

    started_s: float
    start_limit_s: float
    beat_limit_s: float
    ready: bool = False
    heard_s: float | None = None

    def hear(self, word: str, now_s: float) -> None:
        """A word of the worker; those that are not known are no sign of life."""
        if word not in ("ready", "beat"):
            return
        self.ready = self.ready or word == "ready"
        self.heard_s = now_s

    def hangs(self, now_s: float) -> bool:
        """Whether it must be ended."""
        if not self.ready:
            return now_s - self.started_s > self.start_limit_s
        return self.heard_s is not None and now_s - self.heard_s > self.beat_limit_s
