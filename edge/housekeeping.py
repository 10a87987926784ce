"""What is done now and then, by a scheduler whose thread is watched. Nothing on the path of a verdict depends on it.

May import APScheduler and nothing of ours. Each job is wrapped: a failure is logged, and the job comes again. A scheduler
says that it runs also when its thread is dead, so a job of its own beats; when the beat is missed, another one takes over.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

log = logging.getLogger(__name__)

BEAT_S = 1.0
DEAD_S = 30.0
"""Without a beat for so long the scheduler is given up: dead, hung, or waiting for a clock that was set back."""

Job = tuple[Callable[[], object], float]


class Every(BaseTrigger):  # type: ignore[misc]
    """An interval that leaves out the runs that a clock jumped over.

    APScheduler's own lists each of them before it runs one: after a jump of ten years, three hundred million of a job that
    comes each second, which takes the processor from the inspection for minutes, and all memory in the end.
    """

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next run, after `now` by one interval at most where runs were missed."""
        due = (previous_fire_time or now) + self._interval
        return due if due > now else now + self._interval


class Housekeeping:
    """Jobs with the seconds between two runs; it is not told about the line at all."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self._scheduler: BackgroundScheduler | None = None
        self._beat_s = time.monotonic()
        self.replaced = 0
        """How many schedulers had to be replaced."""
        self.problem = ""
        """Why, until the new one beats."""

    def start(self) -> None:
        """Begin; each job runs first after its time."""
        self._beat_s = time.monotonic()
        self._scheduler = self._made()
        self._scheduler.start()

    def stop(self) -> None:
        """End; a job that runs is not waited for."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            _give_up(scheduler)

    def watch(self, now_monotonic_s: float) -> bool:
        """Called by another thread: replace a scheduler whose beat is missed; False while it is."""
        if self._scheduler is None:
            return True
        age_s = now_monotonic_s - self._beat_s
        if age_s <= DEAD_S:
            if self.problem and age_s <= 2 * BEAT_S:
                log.warning("housekeeping goes on with a new scheduler")
                self.problem = ""
            return not self.problem
        self.problem = f"the scheduler of backups and clean-up has not come by for {age_s:.0f} s; a new one is started"
        log.error("%s", self.problem)
        self.replaced += 1
        _give_up(self._scheduler)
        self._scheduler = self._made()
        self._beat_s = now_monotonic_s - 2 * BEAT_S - 1.0  # not a beat: the new one has to give it
        self._scheduler.start()
        return False

    def _made(self) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(len(self._jobs) + 1)},  # a job that hangs keeps no other waiting
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        scheduler.add_job(self._beat, Every(BEAT_S), args=[scheduler], name="beat")
        for job, seconds in self._jobs:
            scheduler.add_job(partial(_guarded, job), Every(seconds), name=job.__name__)
        return scheduler

    def _beat(self, scheduler: BackgroundScheduler) -> None:
        if scheduler is self._scheduler:  # not one that was given up and came back
            self._beat_s = time.monotonic()


def _give_up(scheduler: BackgroundScheduler) -> None:
    """Ask it to end, from a thread of its own: a hung one would keep the caller waiting for ever."""

    def end() -> None:
        try:
            scheduler.shutdown(wait=False)
        except Exception as error:  # noqa: BLE001 - it is broken already; what it still says is of no use
            log.warning("the old scheduler did not end in order: %s", error)

    threading.Thread(target=end, name="housekeeping-end", daemon=True).start()


def _guarded(job: Callable[[], object]) -> None:
    try:
        job()
    except Exception:  # a job that raises is gone for good, and nobody would know
        log.exception("housekeeping failed; it is tried again")
