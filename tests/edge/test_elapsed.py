"""How long ago something was does not depend on what becomes of the wall clock while the worker runs."""

from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from edge.elapsed import RunClock

START = datetime(2026, 5, 4, 6, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEN_YEARS = timedelta(days=3652)
STEPS = [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS]


class Clocks:
    """A wall clock that a test can set, and a monotonic one that goes on all the same."""

    def __init__(self, at: datetime = START) -> None:
        self._at, self._passed_s = at, 1000.0

    def utc(self) -> datetime:
        return self._at

    def monotonic_s(self) -> float:
        return self._passed_s

    def wait(self, duration_s: float) -> None:
        self._at += timedelta(seconds=duration_s)
        self._passed_s += duration_s

    def set(self, step: timedelta) -> None:
        """As a person or NTP does."""
        self._at += step


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def clock(clocks: Clocks) -> RunClock:
    return RunClock(clocks.utc, clocks.monotonic_s)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_wall_clock_makes_nothing_older_or_younger(
    clocks: Clocks, clock: RunClock, step: timedelta
) -> None:
    before, first = START - HOUR, clocks.utc()
    clock.witness(first)
    clocks.wait(60.0)
    clocks.set(step)
    assert clock.ago_s(before) == 3660.0
    assert clock.ago_s(first) == 60.0
    second = clocks.utc()
    clock.witness(second)
    clocks.wait(60.0)
    assert clock.ago_s(second) == 60.0


def test_what_the_run_has_not_seen_cannot_be_later_than_its_start_however_long_it_lasts(
    clocks: Clocks, clock: RunClock
) -> None:
    assert clock.ago_s(START + HOUR) == inf
    clocks.wait(2 * 3600.0)
    assert clock.ago_s(START + HOUR) == inf
    assert clock.ago_s(START) == 7200.0
