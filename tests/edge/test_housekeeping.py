"""Housekeeping goes on whatever its jobs and its scheduler do."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge import housekeeping as module
from edge.housekeeping import DEAD_S, Every, Housekeeping
from tests.brokers import wait_until


class Job:
    """Counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.__name__ = "job"

    def __call__(self) -> None:
        self.runs += 1


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    return Job()


@pytest.fixture
def housekeeping(job: Job) -> Iterator[Housekeeping]:
    made = Housekeeping([(job, 0.05)])
    made.start()
    wait_until(lambda: job.runs)
    yield made
    made.stop()


def kill(housekeeping: Housekeeping) -> None:
    """What a locked database did to a scheduler: an error in its own thread."""
    scheduler: Any = housekeeping._scheduler

    def fail() -> None:
        raise RuntimeError("as a locked job store does")

    scheduler._process_jobs = fail
    scheduler.wakeup()
    scheduler._thread.join(10.0)
    assert not scheduler._thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_scheduler_thread_is_noticed_and_replaced(housekeeping: Housekeeping, job: Job) -> None:
    assert housekeeping.watch(time.monotonic())
    kill(housekeeping)
    scheduler: Any = housekeeping._scheduler
    assert scheduler.running, "it still says that it runs: this is why it is watched"
    before = job.runs

    assert not housekeeping.watch(time.monotonic() + DEAD_S)
    assert "has not come by" in housekeeping.problem
    assert housekeeping.replaced == 1
    wait_until(lambda: job.runs > before)
    wait_until(lambda: housekeeping.watch(time.monotonic()))
    assert housekeeping.problem == ""


def test_a_scheduler_that_comes_by_is_left_alone(housekeeping: Housekeeping) -> None:
    scheduler = housekeeping._scheduler
    for _ in range(20):
        assert housekeeping.watch(time.monotonic() + DEAD_S / 2)
    assert (housekeeping._scheduler, housekeeping.replaced) == (scheduler, 0)


def test_a_job_that_fails_comes_again_and_one_that_hangs_keeps_no_other(job: Job) -> None:
    release, failed = threading.Event(), []

    def fails() -> None:
        failed.append(1)
        raise RuntimeError("no")

    def hangs() -> None:
        release.wait(30)

    made = Housekeeping([(fails, 0.05), (hangs, 0.05), (job, 0.05)])
    made.start()
    try:
        wait_until(lambda: len(failed) > 2 and job.runs > 2)
        assert made.watch(time.monotonic())
    finally:
        release.set()
        made.stop()


def test_before_the_start_and_after_the_end_nothing_is_watched(job: Job) -> None:
    made = Housekeeping([(job, 0.05)])
    assert made.watch(time.monotonic() + 10 * DEAD_S)
    made.start()
    made.stop()
    assert made.watch(time.monotonic() + 10 * DEAD_S)
    assert made.replaced == 0


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_clock_that_jumps_ten_years_ahead_costs_one_run_and_not_one_for_each_second() -> None:
    every, later = Every(1.0), NOON + timedelta(days=3650)
    first = every.get_next_fire_time(None, NOON)
    assert first == NOON + timedelta(seconds=1)
    assert every.get_next_fire_time(first, later) == later + timedelta(seconds=1)


def test_runs_keep_their_distance_while_they_come_a_little_late() -> None:
    every, due = Every(1.0), NOON
    for _ in range(5):
        due = every.get_next_fire_time(due, due + timedelta(milliseconds=300))
    assert due == NOON + timedelta(seconds=5)
