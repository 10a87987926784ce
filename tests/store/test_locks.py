"""PostgreSQL: what others hold stops the station's one writer for seconds, never for good."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from inspector.errors import StoreError
from inspector.store import engine, journal, stations
from inspector.store.engine import PLANT, Store
from inspector.store.writer import StoreWriter
from tests.postgres import TestPostgres
from tests.store.test_store import NOW, record, station_id


@pytest.fixture
def url(postgres: TestPostgres, tmp_path: Path) -> str:
    return postgres.create(f"l{abs(hash(str(tmp_path)))}")


@pytest.fixture
def stranger(url: str) -> Iterator[Connection]:
    """Somebody with psql, who leaves a transaction open."""
    foreign = create_engine(url)
    with foreign.connect() as connection:
        yield connection
    foreign.dispose()


def test_a_station_row_that_somebody_holds_stops_neither_the_writer_nor_the_verdicts(
    store: Store, stranger: Connection
) -> None:
    line, writer = station_id(store), StoreWriter(store)
    writer.start()
    stranger.execute(text("UPDATE stations SET boot = boot"))
    told = writer.post(lambda session: stations.set_status(session, line, {}, NOW))
    writer.call(lambda session: journal.commit_verdicts(session, line, [record(1)]), timeout_s=60.0)
    with pytest.raises(StoreError, match="could not obtain lock"):
        told.result(60.0)
    with pytest.raises(StoreError, match="lock timeout"):
        writer.call(lambda session: stations.next_boot(session, line), timeout_s=60.0)
    writer.call(lambda session: journal.commit_verdicts(session, line, [record(2)]), timeout_s=60.0)
    stranger.rollback()
    writer.call(lambda session: stations.set_status(session, line, {"on": 1}, NOW), timeout_s=60.0)
    writer.stop()


def test_verdicts_that_a_foreign_lock_stops_are_refused_until_it_is_gone(store: Store, stranger: Connection) -> None:
    line, writer = station_id(store), StoreWriter(store)
    writer.start()
    stranger.execute(text("SELECT * FROM stations FOR UPDATE"))
    with pytest.raises(StoreError, match="lock timeout"):
        writer.call(lambda session: journal.commit_verdicts(session, line, [record(1)]), timeout_s=60.0)
    stranger.rollback()
    writer.call(lambda session: journal.commit_verdicts(session, line, [record(1)]), timeout_s=60.0)
    writer.stop()


def limits_of(url: str) -> list[str]:
    """Of a session for writing and of one for reading."""
    store = Store(url)
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "work_mem")
    with store.write() as writing, store.read() as reading:
        found = [str(session.scalar(text(f"SHOW {name}"))) for session in (writing, reading) for name in names]
    store.close()
    assert found[:4] == found[4:]
    return found[:4]


def test_our_sessions_wait_for_no_lock_for_long_and_what_the_user_says_wins(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits_of(url) == ["5s", "1min", "0", "4MB"]
    said = url + "?options=-c%20lock_timeout%3D1s%20-c%20work_mem%3D8MB"
    assert limits_of(said) == ["1s", "1min", "0", "8MB"]
    monkeypatch.setenv("PGOPTIONS", "-c idle_in_transaction_session_timeout=2h -c work_mem=16MB")
    assert limits_of(url) == ["5s", "2h", "0", "16MB"]
    assert limits_of(said) == ["1s", "1min", "0", "8MB"]


@pytest.mark.parametrize("lineage", [engine.STATION, PLANT])
def test_an_upgrade_is_cut_short_by_none_of_these_limits(
    url: str, lineage: engine.Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look(config: object, _: str) -> None:
        connection = config.attributes["connection"]  # type: ignore[attr-defined]
        for name in ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout"):
            seen.append(str(connection.scalar(text(f"SHOW {name}"))))

    monkeypatch.setattr(engine.command, "upgrade", look)
    engine.upgrade(url, lineage)
    assert seen == ["0", "0", "0"]
