"""Everything that keeps the store and the disk of a station healthy for months, as jobs of the scheduler.

May import the store, the disk guard, retention and the alarms. Each job is safe to fail and comes again.
"""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from edge.disk import MIB, Ballast, DiskGuard, Watched
from edge.housekeeping import Housekeeping, Job
from edge.retention import Retention
from edge.state import Station
from inspector.config import Config
from inspector.contract.codes import ErrorCode
from inspector.errors import StoreError
from inspector.store import healing, queries
from inspector.store.backup import back_up_into, backups, database_file, made_at
from inspector.store.redo import RedoLog
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

PICTURES_S = 60.0
ROWS_S = 600.0
UNKNOWN_S = 6 * 3600.0
CHECKPOINT_S = 300.0
DRIFT_S = 3600.0
BACKUP_LOOK_S = 60.0
DISK_S = 2.0
SEEN_S = 1.0
MEASURE_S = 1.0
BACKUP, DATABASE, REDO, SCHEDULER = "backup", "database", "redo", "scheduler"
"""Sources of alarms."""


class Keeping:
    """Backups, disk, retention, and the scheduler that runs them."""

    def __init__(
        self,
        config: Config,
        writer: StoreWriter,
        station: Station,
        station_id: int,
        redo: RedoLog,
        jobs: Sequence[Job] = (),
    ) -> None:
        """`jobs` are those of others, with the seconds between two runs."""
        self._config = config
        self._redo = redo
        self._writer = writer
        self._alarms = station.alarms
        self._station_id = station_id
        self._file = database_file(config.database_url)
        self._backups = healing.backup_folder(config.data_path)
        self.retention = Retention(config, writer, station_id)
        rows = [] if self._file is None else [self._file.absolute().parent]
        watched = Watched(config.data_path, rows, config.images.min_free_mb * MIB, self.retention.make_room)
        place = rows[0] if rows else config.data_path
        ballast = Ballast(place / f"{config.station.name}.ballast", config.disk.ballast_mb * MIB)
        self.disk = DiskGuard(watched, ballast, station.alarms)
        self._rolled_at = self._newest(datetime.now(UTC))
        self.backup_problem = ""
        self._numbers: dict[str, object] = {}
        self.housekeeping = Housekeeping((*self._jobs(), *jobs))

    def start(self) -> None:
        """Say what happened to the database before, look at the disk once, then run the jobs."""
        with self._writer.store.read() as session:
            what = healing.unseen(session)
        if what:
            self._alarms.up(ErrorCode.DATABASE_RESTORED, what, DATABASE)
        self.retention.begin()
        try:
            self.look_at_the_disk()
            self.measure()
        except (OSError, StoreError) as error:
            log.error("the disk cannot be looked at: %s", error)
        self.housekeeping.start()

    def stop(self) -> None:
        self.housekeeping.stop()

    def watch(self, now_monotonic_s: float) -> None:
        """Called by the worker's main thread: the scheduler must not be dead without anybody knowing."""
        if self.housekeeping.watch(now_monotonic_s):
            self._alarms.down(ErrorCode.HOUSEKEEPING, SCHEDULER)
        else:
            self._alarms.up(ErrorCode.HOUSEKEEPING, self.housekeeping.problem, SCHEDULER)

    def status(self) -> dict[str, object]:
        """Numbers for the status row and the telemetry, as they were measured last; touches no disk."""
        return self._numbers

    def measure(self) -> None:
        """Take the numbers anew, and see whether the redo log is written."""
        if self._redo.problem:
            self._alarms.up(ErrorCode.HOUSEKEEPING, f"no redo log: {self._redo.problem}", REDO)
        else:
            self._alarms.down(ErrorCode.HOUSEKEEPING, REDO)
        store = self._writer.store
        self._numbers = self.disk.status() | {
            "wal_bytes": store.wal_bytes,
            "database_bytes": store.file_bytes,
            "outbox": self._outbox(),
            "last_backup_at": None if (newest := self._newest(datetime.now(UTC))) is None else newest.isoformat(),
            "pictures_removed": self.retention.removed,
            "housekeeping_replaced": self.housekeeping.replaced,
        }

    def back_up(self) -> None:
        """Make a backup if the newest one is old enough; a failure is an alarm until one succeeds."""
        every_h, now = self._config.database.backup_every_h, datetime.now(UTC)
        if self._file is None or not every_h:
            return
        newest = self._newest(now)
        if newest != self._rolled_at:
            self._redo.roll()  # what was stored before that backup is in it
            self._rolled_at = newest
        if newest is not None and (now - newest).total_seconds() < every_h * 3600:
            return
        try:
            self._refuse_without_room()
            made = back_up_into(self._file, self._backups, self._config.database.backups_kept, now)
        except (StoreError, OSError) as error:
            self._alarms.up(ErrorCode.HOUSEKEEPING, f"no backup: {error}", BACKUP)
            if str(error) != self.backup_problem:
                log.error("%s", error)
            self.backup_problem = str(error)
            return
        self.backup_problem = ""
        self._alarms.down(ErrorCode.HOUSEKEEPING, BACKUP)
        log.info("the database was backed up to %s", made)

    def look_at_the_disk(self) -> None:
        """One look of the disk guard."""
        self._config.data_path.mkdir(parents=True, exist_ok=True)
        self.disk.tick(time.monotonic())

    def take_confirmation(self) -> None:
        """A person has seen that the database was replaced: the alarm goes, also for the workers to come."""
        if self._alarms.is_confirmed(ErrorCode.DATABASE_RESTORED, DATABASE):
            now = datetime.now(UTC)
            self._writer.call(lambda session: healing.confirm(session, now))
            self._alarms.down(ErrorCode.DATABASE_RESTORED, DATABASE)

    def _jobs(self) -> list[Job]:
        retention = self.retention
        return [
            (self.look_at_the_disk, DISK_S),
            (self.measure, MEASURE_S),
            (self.take_confirmation, SEEN_S),
            (self.back_up, BACKUP_LOOK_S),
            (self._writer.store.checkpoint, CHECKPOINT_S),
            (retention.remove_pictures, PICTURES_S),
            (retention.remove_rows, ROWS_S),
            (retention.remove_drift, DRIFT_S),
            (retention.remove_unknown, UNKNOWN_S),
        ]

    def _newest(self, now: datetime) -> datetime | None:
        """When the last backup was made; those of a clock that stood ahead do not count."""
        if self._file is None:
            return None
        found = backups(self._backups, self._file, now)
        newest = made_at(found[0], self._file) if found else None
        return newest if newest is not None and newest <= now else None

    def _refuse_without_room(self) -> None:
        need = self._writer.store.file_bytes
        self._backups.mkdir(parents=True, exist_ok=True)
        free = self.disk.free_at(self._backups) - self._config.disk.ballast_mb * MIB
        if free < need:
            raise StoreError(f"a backup takes {need // MIB} MiB, but only {max(free, 0) // MIB} MiB are free")

    def _outbox(self) -> int | None:
        try:
            with self._writer.store.read() as session:
                return queries.outbox_size(session, self._station_id)
        except StoreError:
            return None  # the number is not known now; that the database fails is told where it matters
