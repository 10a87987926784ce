"""The store of a station is backed up in time, and what happened to it is told until somebody has seen it."""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import pytest

from edge import keeping as module
from edge.inflight import InFlight, last_boot
from edge.keeping import Keeping
from edge.logs import log_file, set_up_logging
from edge.state import Station
from inspector.config import Config, LoggingConfig
from inspector.contract.codes import ErrorCode, StationMode
from inspector.errors import ConfigError
from inspector.store import engine, healing, stations
from inspector.store.backup import back_up_into, backups, made_at
from inspector.store.redo import RedoLog
from inspector.store.writer import StoreWriter
from tests.brokers import wait_until


class Plant:
    """A station with a database, without a line."""

    def __init__(self, folder: Path, **values: Any) -> None:
        defaults = {"disk": {"ballast_mb": 1}, "images": {"min_free_mb": 0}}
        self.config = Config.model_validate({"data_dir": str(folder), **defaults, **values})
        engine.upgrade(self.config.database_url)
        self.writer = StoreWriter(engine.open_store(self.config.database_url))
        self.writer.start()
        self.writer.call(lambda session: stations.ensure_station(session, "station1"))
        self.path = folder / "inspector.db"
        self.backup_folder = folder / "backups"
        self.begin()

    def begin(self) -> None:
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.keeping = Keeping(self.config, self.writer, self.station, 1, RedoLog(self.config.data_path / "redo", 6))

    @property
    def alarms(self) -> dict[int, str]:
        return {row.err: row.txt for row in self.station.alarms.message(1).alarms}

    @property
    def backups(self) -> list[Path]:
        return backups(self.backup_folder, self.path, datetime.now(UTC))

    def close(self) -> None:
        self.keeping.stop()
        self.writer.stop()
        self.writer.store.close()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)
    made = Plant(tmp_path)
    yield made
    made.close()


def test_a_backup_is_made_when_the_newest_is_old_enough_whenever_the_worker_was_started(plant: Plant) -> None:
    plant.keeping.back_up()
    assert len(plant.backups) == 1
    plant.begin()
    plant.keeping.back_up()
    assert len(plant.backups) == 1
    plant.backups[0].unlink()
    back_up_into(plant.path, plant.backup_folder, 5, datetime.now(UTC) - timedelta(hours=6.1))
    plant.keeping.back_up()
    assert len(plant.backups) == 2


def test_a_clock_that_was_set_back_does_not_stop_the_backups(plant: Plant) -> None:
    for day in range(5):
        back_up_into(plant.path, plant.backup_folder, 5, datetime.now(UTC) + timedelta(days=3650 + day))
    for _ in range(3):
        plant.keeping.back_up()
    assert len(plant.backups) == 5
    first, *others = [made_at(path, plant.path) for path in plant.backups]
    assert first <= datetime.now(UTC) < min(others), "the new one is there, is the newest, and is made once"


def test_a_backup_that_fails_is_an_alarm_until_one_succeeds(plant: Plant) -> None:
    plant.backup_folder.write_text("a file where the folder should be")
    plant.keeping.back_up()
    assert "backup" in plant.alarms[ErrorCode.HOUSEKEEPING]
    plant.backup_folder.unlink()
    plant.keeping.back_up()
    assert plant.alarms == {}
    assert len(plant.backups) == 1


def test_without_room_for_it_no_backup_fills_the_disk(plant: Plant) -> None:
    guard = plant.keeping.disk
    object.__setattr__(guard._watched, "free", lambda _folder: 2**20 + 4096)
    plant.keeping.back_up()
    assert plant.backups == []
    assert "MiB are free" in plant.alarms[ErrorCode.HOUSEKEEPING]


def test_backups_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)
    plant = Plant(tmp_path, database={"backup_every_h": 0})
    plant.keeping.back_up()
    assert plant.backups == []
    plant.close()


def test_a_restored_database_is_told_by_every_worker_until_somebody_has_confirmed_it(plant: Plant) -> None:
    plant.writer.call(
        lambda session: healing._note(session, healing.Healing("torn", None, None, None), datetime.now(UTC))
    )
    for _ in range(2):  # the alarm outlives a worker
        plant.begin()
        plant.keeping.start()
        assert "NEW AND EMPTY" in plant.alarms[ErrorCode.DATABASE_RESTORED]
        plant.keeping.stop()
    plant.keeping.take_confirmation()
    assert ErrorCode.DATABASE_RESTORED in plant.alarms
    assert plant.station.alarms.confirm(ErrorCode.DATABASE_RESTORED)
    plant.keeping.take_confirmation()
    assert plant.alarms == {}
    plant.begin()
    plant.keeping.start()
    assert plant.alarms == {}


def test_a_dead_scheduler_is_an_alarm_until_the_new_one_goes(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.keeping.start()
    plant.keeping.watch(time.monotonic())
    assert plant.alarms == {}
    plant.keeping.watch(time.monotonic() + 1000)
    assert "has not come by" in plant.alarms[ErrorCode.HOUSEKEEPING]

    def goes() -> bool:
        plant.keeping.watch(time.monotonic())
        return not plant.alarms

    wait_until(goes)


def test_the_numbers_of_store_and_disk_are_known_from_the_start(plant: Plant) -> None:
    plant.keeping.start()
    numbers = plant.keeping.status()
    assert numbers["database_bytes"] > 4096  # type: ignore[operator]
    assert numbers["disk_free_bytes"] > 0  # type: ignore[operator]
    assert (numbers["outbox"], numbers["ballast_held"], numbers["last_backup_at"]) == (0, True, None)
    assert set(numbers) >= {"wal_bytes", "disk_low", "pictures_removed", "housekeeping_replaced"}


def test_each_job_has_a_period_and_a_name_of_its_own(plant: Plant) -> None:
    jobs = plant.keeping._jobs()
    assert all(seconds > 0 for _, seconds in jobs)
    assert {job.__name__ for job, _ in jobs} == {
        "look_at_the_disk",
        "measure",
        "take_confirmation",
        "back_up",
        "checkpoint",
        "remove_pictures",
        "remove_rows",
        "remove_drift",
        "remove_unknown",
    }
    assert len(jobs) == 9
    assert module.DISK_S <= 3, "the PLC knows within 3 s"


def test_the_station_remembers_its_boot_beside_the_database(tmp_path: Path) -> None:
    path = tmp_path / "s.inflight"
    assert last_boot(path) == 0
    InFlight(path, 77)
    assert last_boot(path) == 77
    path.write_bytes(b"nonsense")
    assert last_boot(path) == 0


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    root.handlers.clear()
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = kept
    root.setLevel(level)


def test_log_files_rotate_and_no_more_than_so_many_are_kept(tmp_path: Path, root_logger: logging.Logger) -> None:
    config = LoggingConfig(file=tmp_path / "logs" / "line.log", max_mb=0.001, backups=2)
    root_logger.handlers.clear()
    set_up_logging(config)
    for number in range(200):
        logging.getLogger("x").info("line %d", number)
    assert any(isinstance(handler, RotatingFileHandler) for handler in root_logger.handlers)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["line.log", "line.log.1", "line.log.2"]
    assert "line 199" in (tmp_path / "logs" / "line.log").read_text()
    assert max(path.stat().st_size for path in (tmp_path / "logs").iterdir()) <= 0.001 * 2**20
    assert log_file(config, "-supervisor") == tmp_path / "logs" / "line-supervisor.log"


def test_a_log_file_that_cannot_be_written_is_refused_in_a_sentence(
    tmp_path: Path, root_logger: logging.Logger
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"logging\.file"):
        set_up_logging(LoggingConfig(file=tmp_path / "file" / "line.log"))
