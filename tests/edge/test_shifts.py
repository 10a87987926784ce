"""Counters of minute and shift: what counts where, when they begin anew, and that a restart loses none."""

import time as clock
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from edge.shifts import ShiftCounts, shift_start
from edge.verdicts import Answer, Statement
from inspector.contract.codes import ErrorCode
from inspector.types import Verdict
from tests.edge.part_maker import part

BOUNDARIES = [time(6), time(14), time(22)]
NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)


@pytest.fixture(autouse=True, params=["UTC", "Europe/Berlin"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    clock.tzset()
    yield request.param
    monkeypatch.undo()
    clock.tzset()


class Line:
    """Counts at a time that the test sets; `noon` is local."""

    def __init__(self) -> None:
        self.noon = datetime(2026, 6, 1, 12, 0, 5).astimezone(UTC)
        self.now = self.noon
        self.counts = ShiftCounts([f"{at:%H:%M}" for at in BOUNDARIES], 7, lambda: self.now)

    def part(self, verdict: Verdict, *, captured: datetime | None = None, challenge: bool = False) -> None:
        shown = replace(part(1), captured_at=captured or self.now, challenge=challenge)
        err = ErrorCode.ABORTED if verdict is Verdict.NONE else ErrorCode.NONE
        self.counts.seen(Statement(Answer(shown, verdict, err), 1, 7), 0.02)


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_shift_begins_at_the_last_boundary_of_the_local_clock(zone: str) -> None:
    def local(*args: int) -> datetime:
        return datetime(*args).astimezone(UTC)  # type: ignore[arg-type]

    assert shift_start(local(2026, 6, 1, 12), BOUNDARIES) == local(2026, 6, 1, 6)
    assert shift_start(local(2026, 6, 1, 14), BOUNDARIES) == local(2026, 6, 1, 14)
    assert shift_start(local(2026, 6, 1, 3), BOUNDARIES) == local(2026, 5, 31, 22)
    assert shift_start(local(2026, 6, 1, 3), [time(6)]) == local(2026, 5, 31, 6)


def test_in_the_night_of_the_change_of_time_a_shift_is_an_hour_shorter(zone: str) -> None:
    before_six = datetime(2026, 3, 29, 5, 59).astimezone(UTC)
    took = before_six + timedelta(minutes=1) - shift_start(before_six, BOUNDARIES)
    assert took == timedelta(hours=8 if zone == "UTC" else 7)


def test_the_last_full_minute_and_the_shift_are_counted_by_verdict(line: Line) -> None:
    for verdict, parts in ((Verdict.OK, 5), (Verdict.NG, 3), (Verdict.UNDECIDED, 2), (Verdict.NONE, 1)):
        for _ in range(parts):
            line.part(verdict)
    assert line.counts.message().minute.n == 0
    line.now += timedelta(minutes=1)
    said = line.counts.message()
    assert (said.minute.n, said.minute.ok, said.minute.ng, said.minute.und, said.minute.none) == (11, 5, 3, 2, 1)
    assert said.shift == said.minute
    assert (said.p50, said.p99) == (20, 20)
    assert said.since == int(line.noon.timestamp()) - 6 * 3600 - 5
    assert said.rate == 0.0
    line.now += timedelta(minutes=1)
    said = line.counts.message()
    assert (said.minute.n, said.p50, said.shift.n) == (0, None, 11)


def test_known_parts_of_a_challenge_count_nowhere(line: Line) -> None:
    line.part(Verdict.OK, challenge=True)
    line.now += timedelta(minutes=1)
    assert (line.counts.message().minute.n, line.counts.message().shift.n) == (0, 0)


def test_a_new_shift_begins_at_zero_and_a_part_of_the_old_one_does_not_count_in_it(line: Line) -> None:
    line.part(Verdict.OK)
    line.now = line.noon + timedelta(hours=2)  # 14:00:05
    line.part(Verdict.NG, captured=line.now - timedelta(seconds=10))
    line.part(Verdict.OK)
    said = line.counts.message()
    assert (said.shift.n, said.shift.ok) == (1, 1)
    assert said.since == int(line.now.timestamp()) - 5


def test_after_a_restart_the_shift_goes_on_from_the_database(line: Line) -> None:
    line.counts.begin({Verdict.OK: 700, Verdict.NG: 19, Verdict.NONE: 1})
    line.part(Verdict.OK)
    said = line.counts.message()
    assert (said.shift.n, said.shift.ok, said.shift.ng, said.shift.none) == (721, 701, 19, 1)
    assert said.rate == 2.0
