"""Backups can be trusted, and a damaged database is replaced by the newest one that is good."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from inspector.errors import SchemaError, StoreError
from inspector.store import backup, commands, engine, healing, stations
from inspector.store.backup import back_up, back_up_into, backups, faults
from inspector.store.engine import Store
from inspector.store.schema import Audit, Command, Station
from tests.brokers import wait_until

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Files:
    """A database of a station in a data folder, as a worker has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "inspector.db"
        self.url = f"sqlite:///{self.path}"
        engine.upgrade(self.url)

    def add(self, *names: str) -> None:
        store = engine.open_store(self.url)
        with store.write() as session:
            for name in names:
                stations.ensure_station(session, name)
        store.close()

    def names(self) -> list[str]:
        store = engine.open_store(self.url)
        try:
            with store.read() as session:
                return list(session.scalars(select(Station.name).order_by(Station.id)))
        finally:
            store.close()

    def back_up(self, hours: float = 0.0) -> Path:
        folder = healing.backup_folder(self.folder)
        return back_up_into(self.path, folder, 5, NOW + timedelta(hours=hours))

    def heal(self) -> healing.Healing | None:
        return healing.heal(self.url, self.folder, NOW + timedelta(days=1))


def damage(path: Path) -> None:
    """Write over every page but the first, as a dying disk may."""
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.add("first")
    return made


@pytest.fixture
def open_store(files: Files) -> Iterator[Store]:
    store = engine.open_store(files.url)
    yield store
    store.close()


def test_a_backup_made_while_the_line_writes_is_whole(files: Files, open_store: Store, tmp_path: Path) -> None:
    stopping, number = threading.Event(), itertools.count()
    written: list[int] = []

    def write() -> None:
        while not stopping.is_set():
            with open_store.write() as session:
                stations.ensure_station(session, f"s{next(number)}")
            written.append(1)

    line = threading.Thread(target=write)
    line.start()
    try:
        for turn in range(5):
            written.clear()
            wait_until(lambda: len(written) > 1)
            back_up(files.path, tmp_path / f"{turn}.db")
    finally:
        stopping.set()
        line.join()
    counts = []
    for turn in range(5):
        assert faults(tmp_path / f"{turn}.db") == ""
        with sqlite3.connect(tmp_path / f"{turn}.db") as copy:
            counts.append(copy.execute("select count(*) from stations").fetchone()[0])
    assert counts == sorted(counts)
    assert counts[0] > 1
    assert not list(tmp_path.glob("*.part"))


def test_only_the_newest_backups_are_kept(files: Files) -> None:
    folder = healing.backup_folder(files.folder)
    foreign = folder / "inspector-of-mine.db"
    made = [back_up_into(files.path, folder, 2, NOW + timedelta(hours=hour)) for hour in range(4)]
    foreign.write_bytes(b"not one of ours")
    assert backups(folder, files.path, NOW + timedelta(days=1)) == [made[3], made[2]]
    back_up_into(files.path, folder, 2, NOW + timedelta(hours=9))
    assert foreign.exists()
    assert backup.made_at(made[3], files.path) == NOW + timedelta(hours=3)


def test_a_damaged_database_makes_no_backup_and_the_old_ones_stay(files: Files) -> None:
    good = files.back_up()
    damage(files.path)
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        files.back_up(1)
    assert backups(good.parent, files.path, NOW + timedelta(days=1)) == [good]
    assert list(good.parent.iterdir()) == [good]


def test_a_locked_database_is_not_taken_for_a_damaged_one(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "BUSY_S", 0.1)
    files.back_up()
    thief = sqlite3.connect(files.path, isolation_level=None)
    thief.execute("PRAGMA locking_mode=EXCLUSIVE")
    thief.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="locked"):
            files.heal()
    finally:
        thief.close()
    assert not (files.folder / "quarantine").exists()
    assert files.names() == ["first"]


def test_a_check_that_takes_too_long_does_not_keep_the_worker_from_starting(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PROGRESS_STEPS", 1)
    assert faults(files.path, limit_s=-1.0) == ""


def test_a_good_database_is_left_alone(files: Files) -> None:
    files.back_up()
    assert files.heal() is None
    assert not (files.folder / "quarantine").exists()


def test_a_damaged_database_is_put_aside_and_the_newest_backup_takes_over(files: Files) -> None:
    store = engine.open_store(files.url)
    with store.write() as session:
        commands.submit(session, 1, source="cli", cid=1, name="select_recipe", payload={"rcp": 3}, who="t", now=NOW)
    store.close()
    files.back_up()
    files.add("second")
    newest = files.back_up(1)
    files.add("never backed up")
    damage(files.path)

    healed = files.heal()

    assert healed is not None
    assert healed.backup == newest
    assert healed.quarantine is not None
    assert (healed.quarantine / "inspector.db").exists()
    assert "backup of 2026-11-21 13:00 UTC" in healed.text
    assert len(healed.text) <= 120
    assert files.names() == ["first", "second"]
    assert files.heal() is None
    store = engine.open_store(files.url)
    with store.write() as session:
        assert session.scalar(select(Command.status)) == "done", "a command of hours ago must not run now"
        assert healing.unseen(session) == healed.text
        healing.confirm(session, NOW)
    with store.read() as session:
        assert healing.unseen(session) == ""
        assert session.scalars(select(Audit.action).order_by(Audit.id)).all()[-2:] == [
            healing.RESTORED,
            healing.SEEN,
        ]
    store.close()


def test_a_backup_that_is_damaged_too_is_passed_over(files: Files) -> None:
    older = files.back_up()
    damage(files.back_up(1))
    (older.parent / older.name.replace("120000", "140000")).write_bytes(b"no database")
    damage(files.path)
    healed = files.heal()
    assert healed is not None
    assert healed.backup == older
    assert files.names() == ["first"]


def test_without_a_good_backup_the_line_comes_back_with_a_new_database_that_says_so(files: Files) -> None:
    files.path.write_bytes(b"x" * 10_000)
    healed = files.heal()
    assert healed is not None
    assert "NEW AND EMPTY" in healed.text
    assert files.names() == []


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_database_that_is_gone_comes_back_from_its_backup(files: Files, content: bytes | None) -> None:
    files.back_up()
    files.path.unlink()
    if content is not None:
        files.path.write_bytes(content)
    assert files.heal() is not None
    assert files.names() == ["first"]


def test_a_first_start_is_no_damage(tmp_path: Path) -> None:
    assert healing.heal(f"sqlite:///{tmp_path / 'new.db'}", tmp_path, NOW) is None
    assert list(tmp_path.iterdir()) == []
    assert healing.heal("postgresql+psycopg://nobody@127.0.0.1:1/none", tmp_path, NOW) is None


def test_a_newer_database_is_refused_and_never_replaced_by_an_old_backup(files: Files) -> None:
    files.back_up()
    with create_engine(files.url).begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    assert files.heal() is None
    with pytest.raises(SchemaError, match="newer"):
        engine.open_store(files.url)


def test_a_backup_of_an_older_schema_is_brought_up_to_date(files: Files) -> None:
    from alembic import command

    config = engine._alembic()
    with create_engine(files.url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    files.back_up()
    damage(files.path)
    assert files.heal() is not None
    assert files.names() == ["first"]


def test_whoever_has_the_database_open_goes_on_in_the_restored_one(files: Files, open_store: Store) -> None:
    files.back_up()
    files.add("second")
    with open_store.read() as session:
        assert len(session.scalars(select(Station)).all()) == 2
    files.path.unlink()
    healing.restore(files.url, files.folder, files.folder / "backups" / "inspector-20261121T120000Z.db", NOW)
    with open_store.read() as session:
        assert session.scalars(select(Station.name)).all() == ["first"]
    with open_store.write() as session:
        stations.ensure_station(session, "third")
    assert files.names() == ["first", "third"]


def test_what_is_no_backup_is_not_restored(files: Files, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no database" * 1000)
    sqlite3.connect(tmp_path / "foreign").execute("create table t (a)").connection.close()
    with pytest.raises(StoreError, match="not a good backup"):
        healing.restore(files.url, files.folder, tmp_path / "text", NOW)
    with pytest.raises(SchemaError, match="none of this program"):
        healing.restore(files.url, files.folder, tmp_path / "foreign", NOW)
    assert files.names() == ["first"]


def test_a_reader_that_does_not_end_keeps_neither_checkpoint_nor_line(files: Files, open_store: Store) -> None:
    reader = sqlite3.connect(files.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("select * from stations").fetchall()
    with open_store.write() as session:
        stations.ensure_station(session, "second")
    assert open_store.wal_bytes > 0
    began = time.monotonic()
    open_store.checkpoint()
    assert time.monotonic() - began < engine.BUSY_TIMEOUT_MS / 1000 / 2
    reader.close()
    open_store.checkpoint()
    assert open_store.wal_bytes == 0
    assert open_store.file_bytes > 4096


def test_no_boot_number_comes_twice_after_a_restore(files: Files, open_store: Store) -> None:
    with open_store.write() as session:
        assert stations.next_boot(session, 1) == 1
        assert stations.next_boot(session, 1, 41) == 42
        assert stations.next_boot(session, 1, 7) == 43
        assert stations.next_boot(session, 1, 65_535) == 1
