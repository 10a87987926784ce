"""The copy to the plant's central database outlives whatever its server does, and no row is lost, doubled or out of order."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from edge import central as module
from edge.alarms import AlarmBoard
from edge.central import CentralCopy
from edge.retention import Retention
from inspector.config import Config
from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from inspector.errors import StoreError
from inspector.store import engine, journal, stations
from inspector.store.engine import PLANT, Store
from inspector.store.plant import PlantInspection
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from tests.brokers import wait_until
from tests.postgres import TestPostgres, let_feed
from tests.store.test_store import NOW, record

PATIENCE_S = 60.0


class Station:
    """A station's database with verdicts, and the copy to a central one."""

    def __init__(self, folder: Path, **central: Any) -> None:
        settings = {
            "data_dir": str(folder),
            "database": {"keep_days": 1},
            "central": {"batch": 10, "alarm_after_min": 1, **central},
        }
        self.config = Config.model_validate(settings)
        engine.upgrade(self.config.database_url)
        self.writer = StoreWriter(Store(self.config.database_url))
        self.writer.start()
        self.id: int = self.writer.call(lambda session: stations.ensure_station(session, "line").id)
        self.alarms = AlarmBoard(time.time)
        self.seq = 0
        self.copy = self.begin()

    def begin(self) -> CentralCopy:
        self.copy = CentralCopy(self.config.central, self.writer, self.alarms, self.id, "line")
        return self.copy

    def put(self, count: int) -> None:
        """So many verdicts more."""
        first, self.seq = self.seq + 1, self.seq + count
        records = [record(seq) for seq in range(first, self.seq + 1)]
        self.writer.call(lambda session: journal.commit_verdicts(session, self.id, records))

    def decide(self, *seqs: int) -> None:
        """The PLC says that it let these parts pass."""
        said = [journal.PlcDecision(1, seq, 1, 1) for seq in seqs]
        self.writer.call(lambda session: journal.set_dispositions(session, self.id, said))

    def passed(self, url: str) -> list[int]:
        """`seq` of the parts that have passed as the central database knows it, in the order of the line."""
        store = Store(url)
        with store.read() as session:
            query = select(PlantInspection.seq).where(PlantInspection.acc == 1)
            found = list(session.scalars(query.order_by(PlantInspection.captured_at)))
        store.close()
        return found

    def in_plant(self, url: str) -> list[int]:
        """`seq` of what the central database has, in the order of the line."""
        store = Store(url)
        with store.read() as session:
            found = list(session.scalars(select(PlantInspection.seq).order_by(PlantInspection.captured_at)))
        store.close()
        return found

    def wait_copied(self, url: str) -> None:
        """Until the copy says that it has all, which must then be so: each row once."""
        wait_until(
            lambda: self.numbers["central_copied"] >= self.seq and not self.numbers["central_behind_s"], PATIENCE_S
        )
        assert self.in_plant(url) == list(range(1, self.seq + 1))

    @property
    def numbers(self) -> dict[str, Any]:
        return self.copy.status()

    def alarm(self, now_monotonic_s: float | None = None) -> str:
        """Text of the alarm, as the worker's main thread makes it."""
        self.copy.watch(time.monotonic() if now_monotonic_s is None else now_monotonic_s)
        return next((row.txt for row in self.alarms.message(1).alarms if row.err == ErrorCode.CENTRAL_BEHIND), "")

    def close(self) -> None:
        if self.copy._thread.is_alive():
            self.copy.stop()
        self.writer.stop()
        self.writer.store.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    monkeypatch.setattr(module, "MAX_RETRY_S", 0.5)
    monkeypatch.setattr(module, "COUNT_S", 0.1)
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)


@pytest.fixture(scope="module")
def postgres() -> Iterator[TestPostgres]:
    server = TestPostgres()
    yield server
    server.close()


@pytest.fixture
def plant(postgres: TestPostgres, tmp_path: Path) -> str:
    """An empty central database on a server that runs."""
    url = postgres.create(f"t{abs(hash(str(tmp_path)))}")
    engine.upgrade(url, PLANT)
    return url


@pytest.fixture
def station(plant: str, tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path, url=plant)
    yield made
    made.close()


def test_what_the_line_has_decided_is_in_the_plant_soon_after(station: Station, plant: str) -> None:
    station.put(25)
    station.copy.start()
    station.wait_copied(plant)
    station.put(3)
    station.wait_copied(plant)
    assert station.alarm() == ""
    assert (station.numbers["central_rows_behind"], station.numbers["central_failures"]) == (0, 0)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_an_outage_is_caught_up_in_order_and_nothing_is_lost_or_doubled(
    station: Station, plant: str, postgres: TestPostgres, how: str
) -> None:
    station.put(15)
    station.copy.start()
    station.wait_copied(plant)
    postgres.stop() if how == "stopped" else postgres.kill()
    station.put(500)
    wait_until(lambda: station.numbers["central_rows_behind"] == 500, PATIENCE_S)
    wait_until(lambda: station.numbers["central_problem"])
    assert station.alarm() == "", "an outage of seconds is none that a person must know"
    assert "is behind" in station.alarm(time.monotonic() + 90)
    seen: list[list[int]] = []
    postgres.start()
    while len(seen) < 5:
        seen.append(station.in_plant(plant))
    station.wait_copied(plant)
    assert all(rows == list(range(1, len(rows) + 1)) for rows in seen), "the plant has no gaps at any time"
    assert station.alarm() == ""


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_the_plc_does_in_an_outage_is_caught_up_without_loss(
    station: Station, plant: str, postgres: TestPostgres, how: str
) -> None:
    station.put(20)
    station.decide(*range(1, 18))
    station.copy.start()
    station.wait_copied(plant)
    postgres.stop() if how == "stopped" else postgres.kill()
    station.decide(18, 20)  # their verdicts are in the plant already
    for seq in range(21, 81):
        station.put(1)
        station.decide(seq)
    wait_until(lambda: station.numbers["central_problem"], PATIENCE_S)
    postgres.start()
    station.wait_copied(plant)
    wait_until(lambda: 20 in station.passed(plant), PATIENCE_S)
    assert station.passed(plant) == [seq for seq in range(1, 81) if seq != 19]
    station.decide(19)
    wait_until(lambda: station.passed(plant) == list(range(1, 81)), PATIENCE_S)
    assert station.in_plant(plant) == list(range(1, 81))
    assert station.alarm() == ""


@pytest.mark.parametrize("at", ["plant_inspections", "plant_regions", "COMMIT"])
def test_a_server_that_is_killed_in_the_middle_of_a_batch_gets_it_once(
    station: Station, plant: str, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    opened, killed = module.central.open_central, threading.Event()

    def open_and_watch(url: str) -> Store:
        store = opened(url)

        def kill() -> None:
            if not killed.is_set() and station.numbers["central_copied"] >= 20:
                killed.set()
                postgres.kill()

        if at == "COMMIT":
            event.listen(store._writer, "commit", lambda _connection: kill())
        else:
            event.listen(
                store._writer,
                "after_cursor_execute",
                lambda _c, _u, sql, *_: kill() if f"INSERT INTO {at}" in sql else None,
            )
        return store

    monkeypatch.setattr(module.central, "open_central", open_and_watch)
    station.put(100)
    station.copy.start()
    wait_until(killed.is_set, PATIENCE_S)
    wait_until(lambda: station.numbers["central_problem"], PATIENCE_S)
    station.put(20)
    postgres.start()
    station.wait_copied(plant)


def test_a_worker_that_dies_between_the_two_databases_repeats_one_batch_and_doubles_none(
    station: Station, plant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.put(35)

    def die(*_: object) -> None:
        raise SystemExit

    station.copy.turn()
    with monkeypatch.context() as dying:
        dying.setattr(station.writer, "call", die)
        with pytest.raises(SystemExit):
            station.copy.turn()
    assert station.in_plant(plant) == list(range(1, 21))
    station.begin().start()
    wait_until(lambda: station.numbers["central_copied"] == 25, PATIENCE_S)
    assert station.in_plant(plant) == list(range(1, 36))


def test_a_server_that_is_frozen_keeps_nobody_waiting_and_is_told(
    station: Station, plant: str, postgres: TestPostgres
) -> None:
    station.put(5)
    station.copy.start()
    station.wait_copied(plant)
    postgres.freeze()
    station.put(5)
    began_s = time.monotonic()
    station.put(5)
    assert time.monotonic() - began_s < PATIENCE_S, "the line goes on"
    assert "has not answered for 120 s" in station.alarm(time.monotonic() + 200)
    postgres.thaw()
    station.wait_copied(plant)
    assert station.alarm() == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_survives_every_exception_and_is_replaced_when_it_dies(
    station: Station, plant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, raised = station.copy.turn, [ValueError("a fault of ours"), MemoryError(), SystemExit()]

    def fails_first() -> bool:
        if raised:
            raise raised.pop(0)
        return turn()

    monkeypatch.setattr(station.copy, "turn", fails_first)
    station.put(5)
    station.copy.start()
    wait_until(lambda: not raised, PATIENCE_S)

    def copied() -> bool:
        station.alarm()
        return bool(station.numbers["central_copied"] == 5)

    wait_until(copied, PATIENCE_S)
    assert station.numbers["central_failures"] == 3
    station.wait_copied(plant)


def test_the_local_database_may_fail_for_a_while(station: Station, plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    station.put(5)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise StoreError("the disk is full")

        broken.setattr(station.writer, "call", fail)
        station.copy.start()
        wait_until(lambda: "the disk is full" in station.numbers["central_problem"], PATIENCE_S)
    station.wait_copied(plant)


@pytest.mark.parametrize("state", ["empty", "newer"])
def test_a_schema_that_is_not_ours_is_an_alarm_at_once_and_goes_by_itself(
    station: Station, plant: str, postgres: TestPostgres, state: str
) -> None:
    store = Store(plant)

    def set_version(sql: str) -> None:
        with store.write() as session:
            session.connection().exec_driver_sql(sql)

    set_version("delete from plant_version" if state == "empty" else "update plant_version set version_num = '9999'")
    station.put(5)
    station.copy.start()
    wait_until(lambda: station.numbers["central_problem"], PATIENCE_S)
    told = station.numbers["central_problem"]
    assert ("newer version" if state == "newer" else "inspector db upgrade --central") in told
    assert "is behind" in station.alarm()
    assert station.in_plant(plant) == []
    change = (
        "insert into plant_version values ('{}')" if state == "empty" else "update plant_version set version_num='{}'"
    )
    set_version(change.format(engine.head_revision(PLANT)))
    station.wait_copied(plant)
    assert station.alarm() == ""
    store.close()


def test_a_wrong_password_is_told_and_the_right_one_is_taken_without_a_restart(tmp_path: Path) -> None:
    server = TestPostgres()
    url = server.create("plant")
    server.execute("CREATE ROLE feeder LOGIN PASSWORD 'right'")
    engine.upgrade(url, PLANT)
    let_feed(url, "feeder")
    server.ask_for_passwords()
    (tmp_path / "password").write_text("wrong")
    station = Station(tmp_path, url=server.url_of("plant", "feeder"), password_file=str(tmp_path / "password"))
    try:
        station.put(12)
        station.copy.start()
        wait_until(lambda: "password authentication failed" in station.numbers["central_problem"], PATIENCE_S)
        assert "password authentication failed" in station.alarm(time.monotonic() + 90)
        (tmp_path / "password").write_text("right\n")
        wait_until(lambda: station.numbers["central_copied"] == 12, PATIENCE_S)
        assert station.alarm() == ""
    finally:
        station.close()
        server.close()


@pytest.mark.parametrize("url", ["refused", "unknown host", "nonsense"])
def test_an_address_where_nobody_answers_costs_nothing_but_the_copy(tmp_path: Path, url: str) -> None:
    addresses = {
        "refused": f"postgresql+psycopg://me@127.0.0.1:{free_port()}/plant",
        "unknown host": "postgresql+psycopg://me@plant.invalid/plant",
        "nonsense": "central",
    }
    station = Station(tmp_path, url=addresses[url])
    station.put(5)
    station.copy.start()
    wait_until(lambda: station.numbers["central_failures"] >= 3, PATIENCE_S)
    station.put(5)
    assert station.numbers["central_problem"]
    at_once = station.alarm()
    assert ("central.url" in at_once) == (url == "nonsense")
    assert "is behind" in station.alarm(time.monotonic() + 90)
    station.close()


def test_retries_come_less_and_less_often_and_never_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 1.0)
    monkeypatch.setattr(module, "MAX_RETRY_S", 60.0)
    station = Station(tmp_path, url="nonsense")
    pauses = [station.copy._guarded_turn() for _ in range(12)]
    for pause_s, most_s in zip(pauses, [1, 2, 4, 8, 16, 32, *[60] * 6], strict=True):
        assert most_s / 2 <= pause_s <= most_s
    assert len(set(pauses[6:])) == 6
    station.copy.start()
    station.close()


def test_retention_keeps_what_the_plant_lacks(station: Station, plant: str) -> None:
    station.put(25)
    rules = Retention(station.config, station.writer, station.id)
    later = NOW + timedelta(days=10)

    def rows() -> int:
        with station.writer.store.read() as session:
            return session.scalar(select(func.count()).select_from(InspectionRow)) or 0

    station.writer.call(lambda session: journal.clear_outbox(session, range(1, 100)))
    assert rules.remove_rows(later) == 0
    station.copy.turn()
    assert (rules.remove_rows(later), rows()) == (10, 15)
    station.copy.turn()
    station.copy.turn()
    assert rules.remove_rows(later) == 14
    assert rows() == 1, "the last one of the camera stays"
    assert station.in_plant(plant) == list(range(1, 26))
    not_central = Config.model_validate({"data_dir": str(station.config.data_dir), "database": {"keep_days": 1}})
    station.put(5)
    station.writer.call(lambda session: journal.clear_outbox(session, range(1, 100)))
    assert Retention(not_central, station.writer, station.id).remove_rows(later) == 5, "nobody waits for a copy"


def test_an_outage_that_is_older_than_the_worker_counts_from_its_beginning(tmp_path: Path) -> None:
    station = Station(tmp_path, url=f"postgresql+psycopg://me@127.0.0.1:{free_port()}/plant")
    old = [record(1, captured_at=datetime.now(UTC) - timedelta(hours=2))]
    station.writer.call(lambda session: journal.commit_verdicts(session, station.id, old))
    station.copy.start()
    wait_until(lambda: station.numbers["central_behind_s"] >= 7200, PATIENCE_S)
    assert "is behind" in station.alarm()
    station.close()


def test_what_is_new_when_the_worker_stops_is_copied_first(
    station: Station, plant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 3600.0)
    station.copy.start()
    wait_until(lambda: station.copy._seen_at_s > 0, PATIENCE_S)
    station.put(5)
    station.copy.stop()
    assert station.in_plant(plant) == [1, 2, 3, 4, 5]
