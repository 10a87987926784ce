"""Time that goes on only when somebody sleeps."""

from datetime import UTC, datetime, timedelta

from edge.cameras import Clock


class FakeTime:
    """A clock for tests; `slept_s` is the sum of all sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s = 0.0
        self.utc_step = timedelta()
        self.clock = Clock(monotonic_s=lambda: self.now_s, utc=self._utc, sleep=self._sleep)

    def _utc(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s) + self.utc_step

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s += seconds
