"""The micro-batcher: which parts go to the detector together, and when. No thread, no clock: `now` is given.

May import `parts` and the contract's codes. A batch closes as soon as one of these holds:

* it is full, or scoring one more would make one of its parts late;
* its oldest part has waited for `max_age_s`;
* the earliest deadline leaves no more time than scoring needs;
* the device is idle (it is, whoever polls) and nothing is on the way;
* the next part cannot join it: it failed, or was seen under another state of the station (another recipe).

Parts keep their order. Failed parts travel in batches of their own, so that they are answered without waiting for the
device; a part whose deadline is over, or too near to be met, becomes one of them (NONE 501): in a jam the parts behind it
then still get theirs in time.
"""

from collections import deque
from dataclasses import dataclass

from edge.parts import Part
from inspector.contract.codes import ErrorCode


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Parts of one epoch in order: all with a picture, or all failed."""

    parts: tuple[Part, ...]

    @property
    def failed(self) -> bool:
        """Whether there is nothing to score."""
        return self.parts[0].failed

    @property
    def epoch(self) -> int:
        """The station's epoch under which all of them were seen."""
        return self.parts[0].epoch


class Batcher:
    """Collects parts, gives batches."""

    def __init__(self, max_batch: int, max_age_s: float) -> None:
        if max_batch < 1 or max_age_s < 0:
            raise ValueError(f"max_batch must be at least 1 and max_age_s at least 0, but got {max_batch}, {max_age_s}")
        self._max_batch = max_batch
        self._max_age_s = max_age_s
        self._waiting: deque[Part] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def room(self) -> int:
        """Pictures that may be added before the next poll."""
        return max(0, self._max_batch - len(self._waiting))

    def add(self, part: Part) -> None:
        """Parts of one camera must be added in the order in which they were seen."""
        self._waiting.append(part)

    def poll(self, now_monotonic_s: float, *, on_the_way: bool = False, part_s: float = 0.0) -> FrameBatch | None:
        """The next batch if it is time for it.

        `on_the_way`: another part is known to come within moments. `part_s`: what scoring one part is expected to take.
        """
        if not self._waiting:
            return None
        self._expire(now_monotonic_s + part_s)
        run = self._run()
        if run[0].failed:
            return self._close(run)
        most = self._most(run, now_monotonic_s, part_s)
        is_last = len(run) == len(self._waiting)
        if len(run) < most and is_last and on_the_way and now_monotonic_s < self._due(run, part_s):
            return None
        return self._close(run[:most])

    def due_monotonic_s(self, part_s: float = 0.0) -> float | None:
        """When `poll` gives a batch at the latest; None while nothing waits."""
        return self._due(self._run(), part_s) if self._waiting else None

    def _due(self, run: list[Part], part_s: float) -> float:
        oldest = min(part.captured_monotonic_s for part in run)
        earliest = min(part.deadline_monotonic_s for part in run)
        # One part is left room for: waiting until the last moment would make the batch late by the one it waited for.
        return min(oldest + self._max_age_s, earliest - part_s * (len(run) + 1))

    def _most(self, run: list[Part], now_monotonic_s: float, part_s: float) -> int:
        """How many parts of the run can be scored together before the earliest of their deadlines; at least one."""
        earliest = min(part.deadline_monotonic_s for part in run)
        if part_s <= 0:
            return self._max_batch
        return max(1, min(self._max_batch, int((earliest - now_monotonic_s) / part_s)))

    def _expire(self, done_monotonic_s: float) -> None:
        for place, part in enumerate(self._waiting):
            if not part.failed and part.deadline_monotonic_s <= done_monotonic_s:
                self._waiting[place] = part.fail(
                    ErrorCode.DEADLINE_MISSED, "its budget was over before it could be scored"
                )

    def _run(self) -> list[Part]:
        """The leading parts that may share a batch."""
        first = self._waiting[0]
        run: list[Part] = []
        for part in self._waiting:
            if part.failed != first.failed or part.epoch != first.epoch:
                break
            if not part.failed and len(run) == self._max_batch:
                break
            run.append(part)
        return run

    def _close(self, run: list[Part]) -> FrameBatch:
        for _ in run:
            self._waiting.popleft()
        return FrameBatch(tuple(run))
