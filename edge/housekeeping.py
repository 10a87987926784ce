"""What is done now and then: old pictures go, the WAL is cut. Nothing on the path of a verdict depends on it.

May import the store, the configuration and APScheduler. Each job is wrapped: a failure is logged, and the job comes
again.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from inspector.store import drift, queries
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

RETENTION_S = 60
CHECKPOINT_S = 300
CHUNK = 200
DRIFT_S = 3600
DRIFT_KEPT = timedelta(days=90)


class Housekeeping:
    """A scheduler with its jobs; it is not told about the line at all."""

    def __init__(
        self,
        writer: StoreWriter,
        station_id: int,
        data_path: Path,
        max_saved: int,
        jobs: Sequence[tuple[Callable[[], object], float]] = (),
    ) -> None:
        """`jobs` are those of others, with the seconds between two runs."""
        self._writer = writer
        self._station_id = station_id
        self._data_path = data_path
        self._max_saved = max_saved
        self._scheduler = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
        own = (
            (self.remove_old_pictures, RETENTION_S),
            (writer.store.checkpoint, CHECKPOINT_S),
            (self.remove_old_drift, DRIFT_S),
        )
        for job, seconds in (*own, *jobs):
            self._scheduler.add_job(partial(_guarded, job), "interval", seconds=seconds, name=job.__name__)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def remove_old_pictures(self) -> int:
        """Delete pictures beyond the limit, the oldest OK first; the verdict rows stay. Gives how many parts."""
        removed = 0
        while True:
            with self._writer.store.read() as session:
                excess = queries.saved_pictures(session, self._station_id) - self._max_saved
                rows = queries.oldest_with_picture(session, self._station_id, min(excess, CHUNK)) if excess > 0 else []
            if not rows:
                return removed
            self._remove(rows)
            removed += len(rows)

    def remove_old_drift(self) -> None:
        """Points of the drift chart go after a quarter of a year."""
        before = datetime.now(UTC) - DRIFT_KEPT
        self._writer.call(lambda session: drift.remove_points(session, before))

    def _remove(self, rows: list[InspectionRow]) -> None:
        for row in rows:
            for path in (row.image_path, row.map_path):
                if path is not None:
                    (self._data_path / path).unlink(missing_ok=True)
        self._writer.call(partial(queries.forget_pictures, inspection_ids=[row.id for row in rows]))


def _guarded(job: Callable[[], object]) -> None:
    try:
        job()
    except Exception:  # a job that raises is gone for good, and nobody would know
        log.exception("housekeeping failed; it is tried again")
