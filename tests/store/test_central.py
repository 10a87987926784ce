"""What comes into the plant's central database: every row once, in order, whatever happens to either database."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, delete, func, inspect, select, update

from inspector.errors import ConfigError, SchemaError, StoreError
from inspector.store import central, copying, engine, journal, products, stations
from inspector.store.backup import back_up
from inspector.store.copying import Batch
from inspector.store.engine import PLANT, Store
from inspector.store.plant import PlantBase, PlantInspection, PlantLabel, PlantRecipe, PlantRegion, PlantStation
from inspector.store.redo import RedoLog
from inspector.store.replay import replay
from inspector.store.schema import InspectionRow, Label, UtcDateTime
from inspector.types import Verdict
from tests import stored
from tests.store.test_store import NOW, PICTURE, record

LATER = NOW + timedelta(days=1)


class Copier:
    """A station with a database of its own, which is copied a batch at a time."""

    def __init__(self, folder: Path, central_url: str, name: str = "line") -> None:
        self.path, self.url, self.name = folder / f"{name}.db", central_url, name
        engine.upgrade(f"sqlite:///{self.path}")
        self.local = Store(f"sqlite:///{self.path}")
        self.central = Store(central_url)
        with self.local.write() as session:
            self.station_id = stations.ensure_station(session, name).id
            copying.begin(session, self.station_id)

    def put(self, *seqs: int, **changes: object) -> list[int]:
        """Verdicts with one region each."""
        with self.local.write() as session:
            made = journal.commit_verdicts(session, self.station_id, [record(seq, **changes) for seq in seqs])
        return [one.inspection_id for one in made]

    def read(self, limit: int = 100) -> Batch:
        with self.local.read() as session:
            place = copying.place_of(session, self.station_id)
            assert place is not None
            return copying.next_batch(session, self.station_id, place, limit, LATER)

    def send(self, batch: Batch) -> bool:
        """Into the central database; False if it wants older rows first."""
        place = central.put(self.central, self.url, self.name, batch)
        if place is not None:
            with self.local.write() as session:
                copying.go_back(session, self.station_id, **place.cursors)
        return place is None

    def step(self, limit: int = 100) -> Batch:
        """One batch, all the way."""
        batch = self.read(limit)
        if self.send(batch):
            with self.local.write() as session:
                copying.advance(session, self.station_id, batch)
        return batch

    def copied(self) -> list[int]:
        """`seq` of the station's rows in the central database."""
        query = select(PlantInspection.seq).join(PlantStation).where(PlantStation.name == self.name)
        with self.central.read() as session:
            return list(session.scalars(query.order_by(PlantInspection.captured_at)))

    def count(self, table: type[PlantBase]) -> int:
        with self.central.read() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def silence(self) -> None:
        """Nobody has fed the station's name for a while."""
        with self.central.write() as session:
            session.execute(update(PlantStation).values(seen_at=NOW - timedelta(days=1)))

    def close(self) -> None:
        self.local.close()
        self.central.close()


@pytest.fixture
def plant(url: str) -> str:
    engine.upgrade(url, PLANT)
    return url


@pytest.fixture
def line(plant: str, tmp_path: Path) -> Iterator[Copier]:
    made = Copier(tmp_path, plant)
    yield made
    made.close()


def recipe(copier: Copier, folder: Path, product: str, sha256: str) -> int:
    """A ready recipe."""
    with copier.local.write() as session:
        pictures = [("a.png", PICTURE)]
        made = stored.request_recipe(
            session, folder, product, pictures, station_id=copier.station_id, who="me", now=NOW
        )
        made.status, made.bank_sha256, made.threshold = "ready", sha256, 0.75
        return made.id


def label(copier: Copier, inspection_id: int | None, at: datetime, said: str = "defect") -> None:
    with copier.local.write() as session:
        if not (product := session.scalar(select(products.Product.id).limit(1))):
            made = products.Product(rcp=1, name="p", created_at=NOW)
            session.add(made)
            session.flush()
            product = made.id
        row = Label(product_id=product, inspection_id=inspection_id, sha256="0", path="p", label=said, source="review")
        row.at, row.who, row.region = at, "anna", [0.1, 0.2, 0.3, 0.4]
        session.add(row)


def test_the_migrated_central_database_is_the_one_that_the_models_describe(url: str) -> None:
    assert engine.upgrade(url, PLANT) == (None, "0003")
    engine.check(url, PLANT)

    def same_type(_c: object, _i: object, _m: object, inspected: object, described: object) -> bool | None:
        return False if isinstance(described, UtcDateTime) else None

    options: dict[str, Any] = {"compare_type": same_type, "version_table": PLANT.version_table}
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, PlantBase.metadata) == []
    config = engine._alembic(PLANT)
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(create_engine(url)).get_table_names()) <= {"plant_version"}
    with pytest.raises(SchemaError, match="inspector db upgrade --central"):
        central.open_central(url)


def test_a_station_and_the_plant_may_share_one_database(url: str) -> None:
    engine.upgrade(url)
    engine.upgrade(url, PLANT)
    engine.check(url)
    engine.check(url, PLANT)


def test_the_rows_come_in_their_order_with_regions_and_what_makes_them_readable(line: Copier, tmp_path: Path) -> None:
    recipe_id = recipe(line, tmp_path, "flange", "ab" * 32)
    line.put(1, 2, 3, recipe_id=recipe_id, detail={"branches": ["visual"]})
    assert not line.step(limit=2).is_empty
    assert line.copied() == [1, 2]
    batch = line.step(limit=2)
    assert (line.copied(), batch.full) == ([1, 2, 3], False)
    assert line.step().is_empty
    with line.central.read() as session:
        row = session.scalars(select(PlantInspection).where(PlantInspection.seq == 3)).one()
        kept = session.get(PlantRecipe, row.recipe_id)
        region = session.scalars(select(PlantRegion).where(PlantRegion.seq == 3)).one()
    assert (row.boot, row.captured_at, row.part) == (1, NOW + timedelta(seconds=3), "part-3")
    assert (row.verdict, row.score, row.detail) == (int(Verdict.OK), 0.5, {"branches": ["visual"]})
    assert kept is not None
    assert (kept.product, kept.rcp, kept.rev, kept.bank_sha256, kept.threshold) == ("flange", 1, 1, "ab" * 32, 0.75)
    assert (region.position, region.x_px, region.peak) == (0, 1, 1.5)


def test_a_batch_that_comes_again_after_a_crash_changes_nothing(line: Copier) -> None:
    line.put(1, 2, 3)
    line.send(line.read())  # the worker dies before it has noted that
    line.step()
    assert (line.copied(), line.count(PlantRegion), line.count(PlantRecipe)) == ([1, 2, 3], 3, 0)


def test_two_stations_may_give_the_same_numbers_to_different_products(plant: str, tmp_path: Path) -> None:
    lines = [Copier(tmp_path, plant, name) for name in ("left", "right")]
    for one, product in zip(lines, ("flange", "gear"), strict=True):
        one.put(1, 2, recipe_id=recipe(one, tmp_path / one.name, product, product[0] * 64))
        one.step()
    query = select(PlantStation.name, PlantRecipe.product, PlantInspection.seq).join_from(PlantInspection, PlantStation)
    with lines[0].central.read() as session:
        found = session.execute(query.join(PlantRecipe, PlantInspection.recipe_id == PlantRecipe.id)).all()
    assert sorted(tuple(row) for row in found) == [
        ("left", "flange", 1), ("left", "flange", 2), ("right", "gear", 1), ("right", "gear", 2),
    ]  # fmt: skip
    for one in lines:
        one.close()


@pytest.mark.parametrize("moment", ["before it is copied", "while it is copied", "after it was copied"])
def test_a_verdict_that_is_replaced_at_its_station_is_replaced_in_the_plant(line: Copier, moment: str) -> None:
    line.put(1)
    line.step()
    line.put(2, verdict=Verdict.OK)
    batch = line.read()
    if moment == "after it was copied":
        line.step()
    with line.local.write() as session:
        replaced = [record(2, Verdict.NONE, err=800, regions=()), record(3)]
        journal.replace_verdicts(session, line.station_id, replaced)
    if moment == "while it is copied":
        line.send(batch)
        with line.local.write() as session:
            copying.advance(session, line.station_id, batch)
    line.step()
    with line.central.read() as session:
        rows = session.execute(select(PlantInspection.seq, PlantInspection.verdict, PlantInspection.err)).all()
    assert sorted(tuple(row) for row in rows) == [(1, 1, 0), (2, 0, 800), (3, 1, 0)]
    assert line.count(PlantRegion) == 2


def test_a_backup_that_takes_over_the_station_loses_and_doubles_nothing(line: Copier, tmp_path: Path) -> None:
    line.put(1, 2, 3)
    line.step(limit=2)
    back_up(line.path, tmp_path / "backup.db")
    line.put(4, 5)
    line.step()
    line.local.close()
    back_up(tmp_path / "backup.db", line.path)  # 4 and 5 are known to the plant alone now
    for path in tmp_path.glob("line.db-*"):
        path.unlink()
    line.put(1, 2, boot=2, captured_at=NOW + timedelta(hours=1))  # they get the ids that 4 and 5 had
    line.step()
    with line.central.read() as session:
        rows = session.execute(select(PlantInspection.boot, PlantInspection.seq)).all()
    assert sorted(tuple(row) for row in rows) == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2)]


def test_rows_that_the_redo_log_put_back_do_not_make_the_plants_poorer(line: Copier, tmp_path: Path) -> None:
    redo = RedoLog(tmp_path / "redo", 2)
    detail = {"branches": ["residual"], "rcp": 1, "rev": 1}
    line.put(1, 2, 3, detail=detail)
    redo.append([record(seq, detail=detail) for seq in (1, 2, 3, 4)])
    line.step()
    with line.local.write() as session:  # a backup takes over
        session.execute(delete(InspectionRow).where(InspectionRow.seq > 1))
        copying.go_back(session, line.station_id, verdict_id=1)
    assert replay(line.local, line.station_id, tmp_path / "redo", tmp_path) == 3
    line.step()
    assert line.copied() == [1, 2, 3, 4]
    assert line.count(PlantRegion) == 3
    with line.central.read() as session:
        known = session.execute(select(PlantInspection.seq, PlantInspection.detail).order_by(PlantInspection.seq))
        assert [("branches" in detail, seq) for seq, detail in known] == [(True, 1), (True, 2), (True, 3), (False, 4)]


def test_a_central_database_that_was_restored_or_is_new_gets_what_it_lacks(line: Copier) -> None:
    line.put(1, 2, 3)
    first = line.put(4)[0]
    label(line, first, NOW)
    line.step()
    with line.central.write() as session:  # as it was after the second row
        session.query(PlantRegion).filter(PlantRegion.seq > 2).delete()
        session.query(PlantInspection).filter(PlantInspection.seq > 2).delete()
        session.query(PlantLabel).delete()
        session.execute(update(PlantStation).values(verdict_id=2, label_id=0))
    line.step()
    assert line.copied() == [1, 2], "it says what it lacks, and gets nothing out of order"
    line.step()
    assert (line.copied(), line.count(PlantLabel)) == ([1, 2, 3, 4], 1)
    with line.central.write() as session:
        for table in (PlantLabel, PlantRegion, PlantInspection, PlantStation):
            session.query(table).delete()
    line.step()
    line.step()
    assert (line.copied(), line.count(PlantLabel)) == ([1, 2, 3, 4], 1)


def test_a_station_that_begins_with_an_empty_database_keeps_its_history_in_the_plant(
    line: Copier, tmp_path: Path
) -> None:
    line.put(1, 2)
    line.step()
    line.close()
    line.path.unlink()
    again = Copier(tmp_path, line.url)
    again.put(1, 2, captured_at=NOW + timedelta(days=3))  # boot 1, seq 1 once more
    with pytest.raises(StoreError, match=r"station\.name of its own"):
        again.step()
    again.silence()
    again.step()
    assert again.copied() == [1, 2, 1, 2]
    again.close()


def test_two_workers_of_one_name_do_not_mix(line: Copier, tmp_path: Path) -> None:
    line.put(1)
    line.step()
    (tmp_path / "other").mkdir()
    other = Copier(tmp_path / "other", line.url)
    other.put(7)
    for _ in range(3):
        with pytest.raises(StoreError, match="another database"):
            other.step()
        line.step()
    assert line.copied() == [1]
    other.close()


def test_labels_of_verdicts_follow_and_those_of_imported_pictures_do_not(line: Copier) -> None:
    first, second = line.put(1, 2)
    label(line, first, NOW)
    label(line, None, NOW + timedelta(seconds=1))
    label(line, second, NOW + timedelta(seconds=2), "good")
    label(line, first, LATER - timedelta(seconds=1))  # given this moment: another may still be on its way
    line.step()
    line.step()
    with line.central.read() as session:
        found = session.execute(select(PlantLabel.seq, PlantLabel.label, PlantLabel.who, PlantLabel.region)).all()
    assert sorted(tuple(row) for row in found) == [
        (1, "defect", "anna", [0.1, 0.2, 0.3, 0.4]), (2, "good", "anna", [0.1, 0.2, 0.3, 0.4]),
    ]  # fmt: skip
    with line.local.write() as session:
        session.execute(update(Label).where(Label.at > NOW + timedelta(hours=1)).values(at=NOW + timedelta(minutes=1)))
    line.step()
    line.step()
    assert line.count(PlantLabel) == 3


def test_what_postgresql_cannot_store_holds_nothing_up(line: Copier) -> None:
    line.put(1, part="a\0b", detail={"x": [float("nan"), {"k\0": "v\0"}], "y": 1.5}, score=float("nan"))
    line.put(2)
    line.step()
    assert line.copied() == [1, 2]
    with line.central.read() as session:
        row = session.scalars(select(PlantInspection).where(PlantInspection.seq == 1)).one()
    assert (row.part, row.detail, row.score) == ("ab", {"x": [None, {"k": "v"}], "y": 1.5}, None)


def test_the_numbers_say_how_much_is_missing(line: Copier) -> None:
    line.put(1, 2, 3)
    line.step(limit=1)
    place = line.read().start
    with line.local.read() as session:
        assert copying.rows_behind(session, line.station_id, place) == (2, NOW + timedelta(seconds=2))
    line.step()
    place = line.read().start
    with line.local.read() as session:
        assert copying.rows_behind(session, line.station_id, place) == (0, None)


def test_a_central_database_that_is_upgraded_while_it_is_used_gets_nothing_more(line: Copier) -> None:
    line.put(1)
    line.step()
    line.put(2)
    with create_engine(line.url).begin() as connection:
        connection.exec_driver_sql("update plant_version set version_num = '9999'")
    with pytest.raises(SchemaError, match="newer"):
        line.step()
    assert line.copied() == [1]
    for call in (engine.check, engine.upgrade):
        with pytest.raises(SchemaError, match="newer"):
            call(line.url, PLANT)


def test_an_address_is_refused_without_showing_its_password(tmp_path: Path) -> None:
    for url in ("://anna:secret@host", "mysql+pymysql://anna:secret@host/plant"):
        with pytest.raises(ConfigError, match=r"central\.url") as refused:
            central.address(url, None)
        assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"central\.password_file"):
        central.address("postgresql+psycopg://anna@host/plant", tmp_path / "none")
    secret = "p@ss/word"  # noqa: S105
    (tmp_path / "password").write_text(f"{secret}\n")
    url = central.address("postgresql+psycopg://anna@host/plant", tmp_path / "password")
    assert engine.make_url(url).password == secret
    with pytest.raises(StoreError) as away:
        central.open_central(central.address("postgresql+psycopg://anna@127.0.0.1:1/x", tmp_path / "password"))
    assert secret not in str(away.value)


def test_the_place_is_in_the_database_and_goes_with_its_rows(line: Copier) -> None:
    line.put(1)
    line.step()
    with sqlite3.connect(line.path) as connection:
        found = connection.execute("select verdict_id, length(installation) from central_copies").fetchall()
        newest = connection.execute(str(select(func.max(InspectionRow.id)))).fetchone()
    assert found == [(*newest, 32)]
