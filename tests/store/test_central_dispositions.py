"""What the PLC did with a part comes into the plant's central database, whenever it says so and whatever happens then."""

from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import create_engine, event, insert, select, text, update

from inspector.store import copying, engine, journal, stations
from inspector.store.backup import back_up
from inspector.store.copying import Batch
from inspector.store.engine import PLANT, STATION, Lineage, Store
from inspector.store.journal import PlcDecision
from inspector.store.plant import PlantInspection, PlantStation
from inspector.store.schema import InspectionRow
from inspector.types import Verdict
from tests.store.test_central import LATER, Copier, line, plant
from tests.store.test_store import NOW, record

__all__ = ["line", "plant"]
PASSED, REJECTED, SILENT = (1, 1), (0, 8), (None, None)
Decision = tuple[int, int]


def decide(copier: Copier, said: dict[int, Decision], boot: int = 1) -> None:
    """Receipts of the PLC, by `seq`, in one transaction."""
    decisions = [PlcDecision(boot, seq, *decision) for seq, decision in said.items()]
    with copier.local.write() as session:
        journal.set_dispositions(session, copier.station_id, decisions)


def in_plant(copier: Copier) -> dict[int, tuple[int | None, int | None]]:
    """What the central database has, by `seq`."""
    query = select(PlantInspection.seq, PlantInspection.acc, PlantInspection.rsn).order_by(PlantInspection.seq)
    with copier.central.read() as session:
        return {seq: (acc, rsn) for seq, acc, rsn in session.execute(query)}


def next_batch(store: Store, station_id: int) -> Batch:
    """Of a station whose database is `store`."""
    with store.read() as session:
        place = copying.place_of(session, station_id)
        assert place is not None
        return copying.next_batch(session, station_id, place, 100, LATER)


def sent(batch: Batch) -> list[int]:
    return [row["seq"] for row in batch.dispositions]


def test_it_comes_with_its_verdict_or_after_it(line: Copier) -> None:
    line.put(1, 2, 3)
    decide(line, {1: PASSED})
    assert sent(line.step()) == [], "the verdict's row has it"
    assert in_plant(line) == {1: PASSED, 2: SILENT, 3: SILENT}
    decide(line, {3: REJECTED})
    decide(line, {2: PASSED})
    assert sent(line.step()) == [3, 2], "in the order in which the PLC said it"
    assert in_plant(line) == {1: PASSED, 2: PASSED, 3: REJECTED}
    assert line.step().is_empty


def test_a_receipt_that_comes_twice_is_copied_once_and_another_decision_replaces_the_first(line: Copier) -> None:
    line.put(1)
    line.step()
    decide(line, {1: PASSED})
    line.step()
    decide(line, {1: PASSED})
    assert line.step().is_empty
    decide(line, {1: REJECTED})
    line.step()
    assert in_plant(line) == {1: REJECTED}


def test_one_that_comes_while_its_verdict_is_on_the_way_is_not_lost(line: Copier) -> None:
    line.put(1, 2)
    batch = line.read()
    decide(line, {2: REJECTED})
    line.send(batch)
    with line.local.write() as session:
        copying.advance(session, line.station_id, batch)
    assert in_plant(line) == {1: SILENT, 2: SILENT}
    line.step()
    assert in_plant(line) == {1: SILENT, 2: REJECTED}


def test_one_that_comes_in_the_middle_of_a_reading_is_not_lost(store: Store) -> None:
    """PostgreSQL shows each statement what is there by then."""
    with store.write() as session:
        station_id = stations.ensure_station(session, "line").id
        copying.begin(session, station_id)
        journal.commit_verdicts(session, station_id, [record(1), record(2)])
    read: list[str] = []

    def intrude(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if "FROM inspections" in sql:
            read.append(sql)
            if len(read) == 2:  # of verdicts and dispositions one is read, the other is not
                with store.write() as session:
                    journal.set_dispositions(session, station_id, [PlcDecision(1, 2, *PASSED)])

    event.listen(store._reader, "before_cursor_execute", intrude)
    first = next_batch(store, station_id)
    event.remove(store._reader, "before_cursor_execute", intrude)
    assert len(read) >= 2
    with store.write() as session:
        copying.advance(session, station_id, first)
    assert first.verdicts[1]["acc"] == 1 or sent(next_batch(store, station_id)) == [2]


def test_a_batch_that_comes_again_after_a_crash_changes_nothing(line: Copier) -> None:
    line.put(1, 2)
    line.step()
    decide(line, {1: PASSED, 2: REJECTED})
    line.send(line.read())  # the worker dies before it has noted that
    again = line.step()
    assert (sent(again), in_plant(line)) == ([1, 2], {1: PASSED, 2: REJECTED})
    assert line.step().is_empty


def test_an_outage_is_caught_up_in_order_and_nothing_is_sent_twice(line: Copier) -> None:
    line.put(*range(1, 11))
    decide(line, dict.fromkeys(range(1, 9), PASSED))
    line.step()
    for seq in range(9, 101):  # the central database is away
        if seq > 10:
            line.put(seq)
        decide(line, {seq: PASSED if seq % 2 else REJECTED})
    batches = [line.step(limit=7)]
    while batches[-1].full:
        told = in_plant(line)
        assert list(told) == list(range(1, len(told) + 1)), "the plant has no gaps at any time"
        assert SILENT not in told.values()
        batches.append(line.step(limit=7))
    assert [seq for batch in batches for seq in sent(batch)] == [9, 10], "the others are in their verdicts' rows"
    assert in_plant(line) == {seq: PASSED if seq < 9 or seq % 2 else REJECTED for seq in range(1, 101)}
    assert line.step().is_empty


def test_many_receipts_at_once_are_more_than_one_batch(line: Copier) -> None:
    line.put(*range(1, 8))
    line.step()
    decide(line, dict.fromkeys(range(1, 8), PASSED))
    assert [(sent(batch), batch.full) for batch in (line.step(limit=2) for _ in range(2))] == [
        ([1, 2, 3, 4], True), ([5, 6, 7], False),
    ]  # fmt: skip


def test_a_central_database_that_was_restored_gets_them_again(line: Copier) -> None:
    line.put(1, 2, 3)
    line.step()
    decide(line, {1: PASSED})
    line.step()
    decide(line, {2: REJECTED, 3: PASSED})
    line.step()
    with line.central.write() as session:  # as it was after the first receipt
        session.execute(update(PlantInspection).where(PlantInspection.seq > 1).values(acc=None, rsn=None))
        session.execute(update(PlantStation).values(disposition_no=1))
    line.silence()
    line.step()
    assert sent(line.step()) == [2, 3], "the place was sent back, and nothing else comes again"
    assert in_plant(line) == {1: PASSED, 2: REJECTED, 3: PASSED}


def test_a_station_that_goes_on_from_a_backup_takes_nothing_back_and_loses_nothing(
    line: Copier, tmp_path: Path
) -> None:
    line.put(1, 2)
    line.step(limit=1)
    back_up(line.path, tmp_path / "backup.db")  # it knows no receipt, and not that 2 is copied
    decide(line, {1: PASSED, 2: REJECTED})
    line.step()
    line.step()
    line.local.close()
    back_up(tmp_path / "backup.db", line.path)
    for path in tmp_path.glob("line.db-*"):
        path.unlink()
    line.put(3)
    line.step()
    assert in_plant(line) == {1: PASSED, 2: REJECTED, 3: SILENT}
    decide(line, {3: PASSED})  # it gets a number that a receipt had before
    line.step()
    assert in_plant(line) == {1: PASSED, 2: REJECTED, 3: PASSED}


def test_a_verdict_that_is_replaced_at_its_station_keeps_what_the_plc_did(line: Copier) -> None:
    line.put(1)
    decide(line, {1: REJECTED})
    line.step()
    with line.local.write() as session:
        journal.replace_verdicts(session, line.station_id, [record(1, Verdict.NONE, err=800)])
    line.step()
    assert in_plant(line) == {1: REJECTED}


def test_a_verdict_that_the_plant_has_deleted_does_not_come_back(line: Copier) -> None:
    line.put(1, 2)
    line.step()
    with line.central.write() as session:
        row = session.scalars(select(PlantInspection).where(PlantInspection.seq == 1)).one()
        session.delete(row)
    decide(line, {1: PASSED, 2: PASSED})
    line.step()
    assert in_plant(line) == {2: PASSED}


def test_stations_with_the_same_numbers_do_not_mix(plant: str, tmp_path: Path) -> None:
    left, right = (Copier(tmp_path, plant, name) for name in ("left", "right"))
    for one in (left, right):
        one.put(1)
        one.step()
    decide(left, {1: PASSED})
    left.step()
    query = select(PlantStation.name, PlantInspection.acc).join_from(PlantInspection, PlantStation)
    with left.central.read() as session:
        assert sorted(tuple(row) for row in session.execute(query)) == [("left", 1), ("right", None)]
    left.close()
    right.close()


def test_clean_up_waits_for_it(line: Copier) -> None:
    line.put(1, 2)
    line.step()
    decide(line, {1: PASSED})

    def copied() -> list[int]:
        query = select(InspectionRow.seq).where(copying.is_copied(line.station_id)).order_by(InspectionRow.seq)
        with line.local.read() as session:
            return list(session.scalars(query))

    assert copied() == [2]
    line.step()
    assert copied() == [1, 2]


def test_what_is_owed_is_found_by_its_index(line: Copier) -> None:
    line.put(1)
    asked: list[str] = []
    event.listen(line.local._reader, "before_cursor_execute", lambda _c, _u, sql, *_: asked.append(sql))
    line.read()
    (query,) = [sql for sql in asked if "inspections.disposition_no >" in sql]
    with line.local.read() as session:
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (1, 0, 100, 0)).all()
    (step,) = [row[-1] for row in plan]
    assert step.startswith("SEARCH inspections USING INDEX ix_inspections_dispositions"), step


def test_without_a_copy_nothing_is_numbered(store: Store) -> None:
    with store.write() as session:
        station_id = stations.ensure_station(session, "line").id
        journal.commit_verdicts(session, station_id, [record(1)])
        journal.set_dispositions(session, station_id, [PlcDecision(1, 1, *PASSED)])
        assert session.scalars(select(InspectionRow.disposition_no)).all() == [None]


def test_what_was_said_before_the_upgrade_is_copied_after_it(url: str) -> None:
    at_revision(url, STATION, "0008")
    row = {"boot": 1, "trg": 1, "camera": "top", "frame_id": 1, "part": "p", "verdict": 2, "err": 0, "flg": 0, "roi": 0}
    row |= {"latency_ms": 9.0, "captured_at": NOW, "detail": {}}
    with create_engine(url).begin() as connection:
        for station in (1, 2):
            values = {"id": station, "name": f"s{station}"}
            connection.execute(
                text("insert into stations (id, name, boot, status) values (:id, :name, 1, '{}')"), values
            )
            for seq, said in ((1, 1), (2, None), (3, 0)):
                mine = {"id": 10 * station + seq, "station_id": station, "seq": seq, "acc": said, "rsn": said}
                connection.execute(insert(InspectionRow.__table__), row | mine)
        connection.exec_driver_sql("insert into central_copies values (1, 'a', 13, 0, 2)")
    engine.upgrade(url)
    store = Store(url)
    batch = next_batch(store, 1)
    assert sent(batch) == [1, 3]
    with store.write() as session:
        copying.advance(session, 1, batch)
        journal.set_dispositions(session, 1, [PlcDecision(1, 2, *PASSED)])
    assert sent(next_batch(store, 1)) == [2]
    with store.read() as session:
        others = session.scalars(select(InspectionRow.disposition_no).where(InspectionRow.station_id == 2))
        assert others.all() == [None] * 3, "the other station copies nothing"
    store.close()


def test_a_plant_that_is_upgraded_keeps_its_verdicts_and_gets_what_the_plc_says(url: str, tmp_path: Path) -> None:
    at_revision(url, PLANT, "0001")
    copier = Copier(tmp_path, url)
    copier.put(1)
    batch = copier.read()
    with create_engine(url).begin() as connection:
        connection.execute(
            text(
                "insert into plant_stations values (1, 'line', :installation, :verdict_id, 0, '2026-01-01 00:00:00+00:00')"
            ),
            {"installation": batch.start.installation, "verdict_id": batch.end.verdict_id},
        )
        known = {key: value for key, value in batch.verdicts[0].items() if key not in ("acc", "rsn")}
        connection.execute(insert(PlantInspection.__table__), known | {"station_id": 1, "part": "old"})
    with copier.local.write() as session:
        copying.advance(session, copier.station_id, batch)
    assert engine.upgrade(url, PLANT) == ("0001", engine.head_revision(PLANT))
    decide(copier, {1: REJECTED})
    assert sent(copier.step()) == [1]
    assert in_plant(copier) == {1: REJECTED}
    with copier.central.read() as session:
        assert session.scalars(select(PlantInspection.part)).all() == ["old"]
    copier.close()


def at_revision(url: str, lineage: Lineage, revision: str) -> None:
    """A database as an earlier version of the program made it."""
    config = engine._alembic(lineage)
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
