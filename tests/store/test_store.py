"""The store on SQLite and PostgreSQL: migrations, journal, products, commands, concurrent writers, crashes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from inspector.errors import NotFoundError, SchemaError, StoreError, UsageError
from inspector.store import commands, engine, journal, products, queries, retention, stations
from inspector.store.engine import Store
from inspector.store.schema import Base, InspectionRow, OutboxRow, RegionRow, Station, UtcDateTime
from inspector.store.writer import StoreWriter
from inspector.types import Calibration, PatchMatch, Region, Verdict
from tests import stored

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PICTURE = np.full((20, 30, 3), 7, np.uint8)
REPOSITORY = Path(__file__).parents[2]


def station_id(store: Store) -> int:
    with store.write() as session:
        return stations.ensure_station(session, "line").id


def record(seq: int, verdict: Verdict = Verdict.OK, **changes: object) -> journal.VerdictRecord:
    match = PatchMatch(3, (0.0, 0.5, 0.25, 0.25), 1, (0.25, 0.5, 0.25, 0.25), 0.75, 0.5)
    region = Region(1, 2, 3, 4, 12, 0.01, 2.5, 4.0, 1.5, 0.5, 2.0, 3.0, (match,))
    values: dict[str, object] = {
        "boot": 1,
        "seq": seq,
        "trg": seq,
        "camera": "top",
        "frame_id": seq,
        "part": f"part-{seq}",
        "verdict": int(verdict),
        "err": 0,
        "flg": 0,
        "recipe_id": None,
        "score": 0.5,
        "threshold": 1.0,
        "roi": 0,
        "latency_ms": 12.5,
        "captured_at": NOW + timedelta(seconds=seq),
        "regions": (region,),
        "messages": (("result", "{}"), ("detail", "{}")),
    }
    return journal.VerdictRecord(**(values | changes))  # type: ignore[arg-type]


def test_the_migrated_database_is_the_one_that_the_models_describe(url: str) -> None:
    assert engine.upgrade(url)[0] is None

    def same_type(_c: object, _i: object, _m: object, inspected: object, described: object) -> bool | None:
        return False if isinstance(described, UtcDateTime) else None

    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": same_type})
        assert compare_metadata(context, Base.metadata) == []


def test_a_downgrade_removes_all_tables_and_an_upgrade_makes_them_again(url: str) -> None:
    engine.upgrade(url)
    config = engine._alembic()
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(create_engine(url)).get_table_names()) <= {"alembic_version"}
    with pytest.raises(SchemaError, match="inspector db upgrade"):
        engine.open_store(url)
    assert engine.upgrade(url) == (None, engine.head_revision())
    engine.check(url)


def test_a_newer_database_is_refused_by_check_and_upgrade(url: str) -> None:
    engine.upgrade(url)
    with create_engine(url).begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    for call in (engine.check, engine.upgrade, engine.open_store):
        with pytest.raises(SchemaError, match="newer"):
            call(url)


def test_what_is_no_database_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, but long enough to be looked at " * 20)
    with pytest.raises(StoreError, match="does not answer as it should"):
        engine.open_store(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(StoreError, match="URL"):
        engine.open_store("nonsense")
    with pytest.raises(StoreError):
        engine.open_store("postgresql+psycopg://nobody@127.0.0.1:1/none")


def test_a_batch_is_stored_with_regions_and_outbox_in_one_transaction(store: Store) -> None:
    line = station_id(store)
    with store.write() as session:
        committed = journal.commit_verdicts(session, line, [record(1), record(2, Verdict.NG)])
    with store.read() as session:
        row = queries.inspection(session, committed[1].inspection_id)
        waiting = journal.pending_outbox(session, line, 10)

    assert (row.seq, row.verdict, row.captured_at) == (2, Verdict.NG, NOW + timedelta(seconds=2))
    assert row.regions[0].area_px == 12
    assert row.regions[0].matches[0]["reference_patch"] == [0.25, 0.5, 0.25, 0.25]
    assert [identity for _, identity in waiting] == [(1, 1), (1, 1), (1, 2), (1, 2)]
    assert [(message.id, message.topic) for message, _ in waiting] == [
        *zip(committed[0].outbox_ids, ("result", "detail"), strict=True),
        *zip(committed[1].outbox_ids, ("result", "detail"), strict=True),
    ]
    with store.write() as session:
        journal.clear_outbox(session, committed[0].outbox_ids)
    with store.read() as session:
        assert queries.outbox_size(session, line) == 2
        assert journal.last_trigger(session, line, "top") == 2


def test_a_verdict_of_the_same_identity_is_refused_with_its_whole_batch(store: Store) -> None:
    line = station_id(store)
    with store.write() as session:
        journal.commit_verdicts(session, line, [record(1)])
    with pytest.raises(StoreError), store.write() as session:
        journal.commit_verdicts(session, line, [record(2), record(1)])
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(InspectionRow)) == 1
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 2
        assert session.scalar(select(func.count()).select_from(RegionRow)) == 1


def test_concurrent_writers_lose_no_update(store: Store) -> None:
    line = station_id(store)

    def count_on() -> None:
        for _ in range(50):
            with store.write() as session:
                station = session.get(Station, line, with_for_update=True)
                assert station is not None
                station.status = {"count": station.status.get("count", 0) + 1}

    threads = [threading.Thread(target=count_on) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        assert stations.get_station(session, line).status == {"count": 300}


def test_a_reader_cannot_write(store: Store) -> None:
    line = station_id(store)
    with store.read() as session:
        session.add(Station(name="other", boot=0, status={}))
        with pytest.raises(SQLAlchemyError):
            session.flush()
    with store.read() as session:
        assert stations.get_station(session, line).name == "line"


def test_a_process_killed_while_it_writes_leaves_whole_batches_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'crash.db'}"
    engine.upgrade(url)
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.store.test_store import record, station_id\n"
        "from inspector.store import engine, journal\n"
        f"store = engine.open_store({url!r}); line = station_id(store)\n"
        "for batch in range(100000):\n"
        "    with store.write() as session:\n"
        "        journal.commit_verdicts(session, line, [record(batch * 4 + i + 1) for i in range(4)])\n"
        "    print(batch, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    with sqlite3.connect(tmp_path / "crash.db") as database:
        (rows,) = database.execute("select count(*) from inspections").fetchone()
        (messages,) = database.execute("select count(*) from outbox").fetchone()
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    assert rows % 4 == 0
    assert rows >= (int(said[-1]) + 1) * 4
    assert messages == rows * 2


def test_a_product_has_revisions_and_a_station_goes_back_to_the_one_before(store: Store, tmp_path: Path) -> None:
    line = station_id(store)
    calibration = Calibration("provisional", 2, 1.0, (0.5, 0.6))
    recipe_ids = []
    for _ in range(2):
        with store.write() as session:
            recipe = stored.request_recipe(
                session, tmp_path, "bracket", [("a.png", PICTURE)], station_id=line, who="me", now=NOW
            )
            recipe_ids.append(recipe.id)
            assert products.next_queued(session, line) is recipe
            products.mark_ready(
                session,
                recipe.id,
                bank_path="banks/1",
                bank_sha256="0" * 64,
                encoder=("tiny", "1" * 64),
                calibration=calibration,
                report={},
                now=NOW,
            )
            stations.set_active_recipe(session, line, recipe.id, "me", NOW)
    with store.read() as session:
        product = products.find_product(session, "bracket")
        assert [(recipe.rev, recipe.status, recipe.calibration_n) for recipe in product.recipes] == [
            (1, "ready", 2),
            (2, "ready", 2),
        ]
        newest = products.find_recipe(session, product.rcp)
        assert newest is not None
        assert newest.rev == 2
        assert products.find_recipe(session, product.rcp, 7) is None
        previous = stations.previous_recipe(session, line)
        assert previous is not None
        assert previous.id == recipe_ids[0]
        assert (tmp_path / newest.references[0].path).exists()
        assert [entry.action for entry in queries.audit_tail(session)][:2] == ["activate", "teach"]


@pytest.mark.parametrize("name", ["", "  ", "../x", "a/b", "x" * 65, "-x"])
def test_a_bad_product_name_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError), store.write() as session:
        stored.request_recipe(session, tmp_path, name, [("a", PICTURE)], station_id=None, who="", now=NOW)


def test_a_recipe_that_is_not_ready_cannot_become_active(store: Store, tmp_path: Path) -> None:
    line = station_id(store)
    with store.write() as session:
        recipe = stored.request_recipe(session, tmp_path, "x", [("a", PICTURE)], station_id=line, who="", now=NOW)
    with pytest.raises(NotFoundError), store.write() as session:
        stations.set_active_recipe(session, line, recipe.id, "me", NOW)
    with store.read() as session, pytest.raises(NotFoundError, match="there are: x"):
        products.find_product(session, "y")


def test_a_command_with_the_same_number_is_one_command(store: Store) -> None:
    line = station_id(store)
    rows = []
    for _ in range(2):
        with store.write() as session:
            row = commands.submit(session, line, source="dashboard", cid=7, name="stop", payload={}, who="me", now=NOW)
            rows.append(row.id)
    assert rows[0] == rows[1]
    with store.write() as session:
        assert len(commands.pending(session, line)) == 1
        commands.finish(session, rows[0], 0, NOW)
    with store.read() as session:
        assert commands.pending(session, line) == []
        assert commands.get_command(session, rows[0]).code == 0


def test_the_history_is_filtered_counted_and_paged(store: Store) -> None:
    line = station_id(store)
    with store.write() as session:
        verdicts = [Verdict.OK, Verdict.NG, Verdict.NONE, Verdict.OK]
        journal.commit_verdicts(session, line, [record(i + 1, verdict) for i, verdict in enumerate(verdicts)])
    with store.read() as session:
        page, total = queries.search_inspections(session, queries.InspectionFilter(verdicts=(Verdict.OK,)), limit=1)
        assert (len(page), page[0].seq, total) == (1, 4, 2)
        assert queries.search_inspections(session, queries.InspectionFilter(part="PART-2"))[1] == 1
        assert queries.search_inspections(session, queries.InspectionFilter(part="%"))[1] == 0
        since = queries.InspectionFilter(since=NOW + timedelta(seconds=3))
        assert queries.search_inspections(session, since)[1] == 2
        assert queries.counters(session, line)[Verdict.OK] == 2
        assert [row.seq for row in queries.latest_inspections(session, line, 2)] == [4, 3]


def test_the_boot_counter_wraps_to_one(store: Store) -> None:
    line = station_id(store)
    with store.write() as session:
        stations.get_station(session, line).boot = 65_535
        assert stations.next_boot(session, line) == 1


def test_the_writer_serves_urgent_calls_first_and_survives_faults(store: Store) -> None:
    line = station_id(store)
    writer = StoreWriter(store)
    order: list[str] = []
    writer.post(lambda session: (time.sleep(0.2), order.append("first")))
    writer.start()
    time.sleep(0.05)
    writer.post(lambda session: order.append("later"))
    writer.call(lambda session: order.append("urgent"), urgent=True)
    with pytest.raises(ZeroDivisionError):
        writer.call(lambda session: 1 / 0)
    assert writer.call(lambda session: stations.get_station(session, line).name) == "line"
    writer.stop()

    assert order == ["first", "urgent", "later"]
    assert writer.failures == 1


REVISIONS = [script.revision for script in ScriptDirectory.from_config(engine._alembic()).walk_revisions()][::-1]


def at_revision(url: str, revision: str, *statements: str) -> None:
    """A database of an older program, with a station and a verdict in it."""
    config = engine._alembic()
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql("insert into stations (id, name, boot, status) values (1, 'line', 1, '{}')")
        connection.exec_driver_sql(
            "insert into inspections (id, station_id, boot, seq, trg, camera, frame_id, part, verdict, err, flg, roi,"
            " latency_ms, captured_at, detail) values"
            " (7, 1, 1, 1, 1, 'top', 1, 'p', 2, 0, 0, 0, 9.0, '2026-01-01 00:00:00+00:00', '{}')"
        )
        for statement in statements:
            connection.exec_driver_sql(statement)


REGION = (
    "insert into regions (id, inspection_id, position, x_px, y_px, width_px, height_px, area_px, area_fraction,"
    " centroid_x_px, centroid_y_px, peak, mean_excess) values (1, 7, 0, 1, 2, 3, 4, 12, 0.1, 2.5, 4, 1.5, 0.5)"
)
MESSAGE = (
    "insert into outbox (id, station_id, inspection_id, topic, payload, created_at) values"
    " (40, 1, 7, 'result', 'kept', '2026-01-01 00:00:00+00:00')"
)


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_upgrade_from_each_schema_keeps_its_verdicts_and_what_is_not_delivered(url: str, revision: str) -> None:
    at_revision(url, revision, REGION, MESSAGE)
    assert engine.upgrade(url) == (revision, engine.head_revision())

    with closing(engine.open_store(url)) as store, store.read() as session:
        verdict = queries.inspection(session, 7)
        (region,) = verdict.regions
        ((message, _),) = journal.pending_outbox(session, 1, 10)
        assert (verdict.seq, verdict.verdict, verdict.acc) == (1, Verdict.NG, None)
        assert (region.peak, region.matches) == (1.5, [])
        assert (message.id, message.payload) == (40, "kept")
        assert stations.get_station(session, 1).stopped == ""


def test_the_id_of_a_delivered_message_is_never_given_to_another_also_in_an_older_database(url: str) -> None:
    at_revision(url, "0010", MESSAGE)
    if url.startswith("postgresql"):  # what was written by hand did not count
        with create_engine(url).begin() as connection:
            for table, last in (("inspections", 7), ("outbox", 40)):
                connection.exec_driver_sql(f"select setval('{table}_id_seq', {last})")
    engine.upgrade(url)

    store = engine.open_store(url)
    used = {40}
    for seq in range(2, 6):
        with store.write() as session:
            journal.clear_outbox(session, used)
        with store.write() as session:
            [committed] = journal.commit_verdicts(session, 1, [record(seq)])
        assert used.isdisjoint(committed.outbox_ids)
        used.update(committed.outbox_ids)
    with store.write() as session:
        session.execute(delete(InspectionRow))
    with store.read() as session:
        assert queries.outbox_size(session, 1) == 0, "they go with their verdicts, as before"
    store.close()


def test_what_may_go_is_the_same_on_each_database(store: Store) -> None:
    line = station_id(store)
    verdicts = [Verdict.NG, Verdict.OK, Verdict.OK, Verdict.NONE]
    with store.write() as session:
        records = [record(seq, verdict, messages=()) for seq, verdict in enumerate(verdicts, start=1)]
        ids = [one.inspection_id for one in journal.commit_verdicts(session, line, records)]
        for inspection_id in ids:
            journal.set_image_paths(session, inspection_id, f"images/{inspection_id}.jpg", None)
    late = NOW + timedelta(days=1)
    with store.read() as session:
        order = [picture.inspection_id for picture in retention.expendable(session, line, 10)]
        outdated = retention.outdated(session, line, ok_before=late, evidence_before=NOW, limit=10)
        sampled = retention.beyond_sample(session, line, before=late, every=2, limit=10)
        rows = retention.old_rows(session, line, late, 10)
        known = retention.known_pictures(session)
        newest = retention.newest_at(session, line)
    assert order == [ids[1], ids[2], ids[0], ids[3]]
    assert [picture.inspection_id for picture in outdated] == ids[1:3]
    assert [picture.inspection_id for picture in sampled] == [ids[2]]
    assert [picture.inspection_id for picture in rows] == ids[:3]
    assert known == {f"images/{inspection_id}.jpg" for inspection_id in ids}
    assert newest == NOW + timedelta(seconds=4)
    with store.write() as session:
        retention.forget_pictures(session, ids)
        retention.remove_rows(session, ids[:3])
    with store.read() as session:
        assert session.scalars(select(InspectionRow.id)).all() == ids[3:]
        assert session.scalar(select(func.count()).select_from(RegionRow)) == 1
