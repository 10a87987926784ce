"""Housekeeping by APScheduler: retention of pictures, checkpoint of the WAL. Nothing on a verdict's way depends on it."""

import logging
from collections.abc import Callable
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from inspector.config import ImagesConfig
from inspector.store import queries
from inspector.store.writer import StoreWriter

RETENTION_PERIOD_S = 60
CHECKPOINT_PERIOD_S = 300
REMOVED_AT_ONCE = 500

log = logging.getLogger(__name__)


class Housekeeping:
    """Jobs in one thread, each wrapped: a fault of one ends no other."""

    def __init__(self, config: ImagesConfig, data_path: Path, station_id: int, writer: StoreWriter) -> None:
        self._config = config
        self._data_path = data_path
        self._station_id = station_id
        self._writer = writer
        self._scheduler = BackgroundScheduler(timezone="UTC")
        for job, period_s in (
            (self.remove_old_pictures, RETENTION_PERIOD_S),
            (writer.store.checkpoint, CHECKPOINT_PERIOD_S),
        ):
            self._scheduler.add_job(_wrapped(job), "interval", seconds=period_s, coalesce=True, max_instances=1)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def remove_old_pictures(self) -> int:
        """Keep at most `max_saved` pictures: OK first, the oldest first; verdict rows stay. Gives how many went."""
        with self._writer.store.read() as session:
            too_many = queries.saved_pictures(session, self._station_id) - self._config.max_saved
            if too_many <= 0:
                return 0
            rows = queries.oldest_with_picture(session, self._station_id, min(too_many, REMOVED_AT_ONCE))
            gone = [(row.id, [path for path in (row.image_path, row.map_path) if path]) for row in rows]
        for _, paths in gone:
            for path in paths:
                (self._data_path / path).unlink(missing_ok=True)
        self._writer.call(lambda session: queries.forget_pictures(session, [row_id for row_id, _ in gone]))
        return len(gone)


def _wrapped(job: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            job()
        except Exception:  # a job that fails today is tried again; its thread must not end
            log.exception("housekeeping failed")

    return run
