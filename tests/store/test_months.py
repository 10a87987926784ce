"""The plant's verdicts lie in months on PostgreSQL: made as they come, by whoever may feed, and gone as a whole."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, insert, text
from typer.testing import CliRunner

from inspector.cli import app
from inspector.errors import StoreError
from inspector.store import copying, engine, months
from inspector.store.engine import PLANT, Store
from inspector.store.months import Month
from inspector.store.plant import PlantInspection, PlantLabel, PlantRegion, PlantStation
from tests.postgres import FEEDER_RIGHTS, TestPostgres, let_feed
from tests.store.test_central import Copier, label

AUTUMN = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)
WINTER = datetime(2026, 11, 1, tzinfo=UTC)
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
names = iter(range(10_000))


@pytest.fixture
def url(postgres: TestPostgres) -> str:
    """An empty database in another time zone than the station's."""
    name = f"months{next(names)}"
    made = postgres.create(name)
    postgres.execute(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")
    return made


@pytest.fixture
def line(url: str, tmp_path: Path) -> Iterator[Copier]:
    engine.upgrade(url, PLANT)
    with closing(Copier(tmp_path, url)) as made:
        yield made


def to(url: str, revision: str) -> None:
    """Bring the central database to a revision, up or down."""
    config = engine._alembic(PLANT)
    with closing(Store(url)), create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        go = command.downgrade if engine._revision(connection, PLANT) == "0003" else command.upgrade
        go(config, revision)


def do(url: str, *statements: str) -> None:
    with create_engine(url).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def feeder(url: str) -> str:
    """An account that had the rights of the README before there were months; gives its address."""
    name = f"feeder{next(names)}"
    do(url, f"CREATE ROLE {name} LOGIN")
    let_feed(url, name, FEEDER_RIGHTS[:-1])
    return url.replace("postgres@", f"{name}@")


def listed(copier: Copier) -> list[Month]:
    with copier.central.read() as session:
        return months.listed(session)


def rows_in(url: str, table: str) -> int:
    with create_engine(url).connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 - names of this file


def test_a_verdict_and_its_regions_lie_in_the_month_of_the_exposure_in_utc(line: Copier) -> None:
    line.put(1, captured_at=AUTUMN)
    line.put(2, 3, captured_at=WINTER)
    line.step()
    assert line.copied() == [1, 2, 3]
    assert rows_in(line.url, "plant_inspections_2026_10") == rows_in(line.url, "plant_regions_2026_10") == 1
    assert rows_in(line.url, "plant_inspections_2026_11") == rows_in(line.url, "plant_regions_2026_11") == 2
    assert [one.month for one in listed(line)] == [OCTOBER, NOVEMBER]
    assert all(one.bytes > 0 for one in listed(line))


def test_a_clock_that_is_years_off_costs_a_month_and_no_row(line: Copier) -> None:
    moments = [WINTER + timedelta(days=days) for days in (-20_000, -3650, 0, 3650)]
    for seq, moment in enumerate(moments, start=1):
        line.put(seq, captured_at=moment)
    line.step()
    assert line.copied() == [1, 2, 3, 4]
    assert [one.month for one in listed(line)] == [months.month_of(moment) for moment in moments]


def test_stations_that_come_to_a_new_month_together_do_not_stand_in_each_others_way(url: str, tmp_path: Path) -> None:
    engine.upgrade(url, PLANT)
    stations = [Copier(tmp_path, url, f"line{n}") for n in range(6)]
    for station in stations:
        for month in range(5):
            station.put(month + 1, captured_at=WINTER + timedelta(days=31 * month))
    start, failed = threading.Barrier(len(stations)), []

    def copy(station: Copier) -> None:
        start.wait()
        try:
            while station.step(limit=1).full:
                pass
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=copy, args=(station,)) for station in stations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    for station in stations:
        assert station.copied() == [1, 2, 3, 4, 5]
        station.close()


def test_a_long_report_does_not_keep_a_station_from_its_new_month(line: Copier) -> None:
    line.put(1, captured_at=AUTUMN)
    line.step()
    with create_engine(line.url).begin() as report:
        assert (
            report.execute(text("SELECT count(*) FROM plant_inspections JOIN plant_regions USING (seq)")).scalar() == 1
        )
        line.put(2, captured_at=WINTER)
        line.step()
    assert line.copied() == [1, 2]


def test_an_older_database_comes_into_months_and_back_with_all_rows_and_rights(url: str, tmp_path: Path) -> None:
    engine.upgrade(url, PLANT)
    to(url, "0002")
    account = feeder(url)
    with closing(Copier(tmp_path, url)) as line:
        line.put(1, captured_at=AUTUMN)
        line.put(2, 3, captured_at=WINTER)
        batch = line.read()
        with line.central.write() as session:
            station = PlantStation(id=1, name="line", installation=batch.start.installation, seen_at=WINTER)
            session.add(station)
            for key, copied in batch.end.cursors.items():
                setattr(station, key, copied)
            session.flush()
            session.execute(insert(PlantInspection), [row | {"station_id": 1} for row in batch.verdicts])
            session.execute(insert(PlantRegion), [row | {"station_id": 1} for row in batch.regions])
        with line.local.write() as session:
            copying.advance(session, line.station_id, batch)
        to(url, "0003")
        assert (line.copied(), line.count(PlantRegion)) == ([1, 2, 3], 3)
        assert [one.month for one in listed(line)] == [OCTOBER, NOVEMBER]

    with closing(Copier(tmp_path, account)) as line:  # the same station, by the stations' own account
        line.put(4, captured_at=WINTER + timedelta(days=40))
        line.step()
        assert line.copied() == [1, 2, 3, 4]
        assert [one.month for one in listed(line)][2:] == [date(2026, 12, 1)]
        with pytest.raises(StoreError, match="must be owner"), line.central.write() as session:
            months.drop(session, OCTOBER)

        to(url, "0002")
        assert (line.copied(), line.count(PlantRegion)) == ([1, 2, 3, 4], 4)
        to(url, "0003")
        line.put(5, captured_at=WINTER + timedelta(days=80))
        line.step()
        assert line.copied() == [1, 2, 3, 4, 5]


def test_an_account_that_may_not_make_months_is_told_so_and_no_row_is_lost(url: str, tmp_path: Path) -> None:
    engine.upgrade(url, PLANT)
    account = feeder(url)
    with closing(Copier(tmp_path, account)) as line:
        line.put(1, captured_at=WINTER)
        with pytest.raises(StoreError, match="permission denied for function plant_month"):
            line.step()
        do(url, f"GRANT EXECUTE ON FUNCTION plant_month TO {account.split('//')[1].split('@')[0]}")
        line.step()
        assert line.copied() == [1]


def test_the_rights_with_which_all_this_is_tried_are_those_of_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [right for right in FEEDER_RIGHTS if f"'GRANT {right} TO feeder'" not in readme] == []


def test_a_month_goes_as_a_whole_and_does_not_come_again_by_itself(line: Copier) -> None:
    [old] = line.put(1, captured_at=AUTUMN)
    line.put(2, captured_at=WINTER)
    label(line, old, WINTER)
    line.step()
    assert line.count(PlantLabel) == 1
    with line.central.write() as session:
        months.drop(session, OCTOBER)
    assert (line.copied(), line.count(PlantRegion), line.count(PlantLabel)) == ([2], 1, 1)
    line.step()
    assert line.copied() == [2]
    with pytest.raises(StoreError, match="no verdicts of 2026-10"), line.central.write() as session:
        months.drop(session, OCTOBER)
    line.put(3, captured_at=AUTUMN - timedelta(hours=1))  # a station that was away for long
    line.step()
    assert [one.month for one in listed(line)] == [OCTOBER, NOVEMBER]
    assert line.count(PlantInspection) == 2


def test_a_month_that_somebody_reads_is_left_alone(line: Copier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(months, "LOCK_TIMEOUT", "200ms")
    line.put(1, captured_at=AUTUMN)
    line.step()
    with create_engine(line.url).begin() as report:
        report.execute(text("SELECT count(*) FROM plant_inspections"))
        with pytest.raises(StoreError, match="lock timeout"), line.central.write() as session:
            months.drop(session, OCTOBER)
    assert (line.copied(), line.count(PlantRegion)) == ([1], 1)


def test_the_command_lists_the_months_and_deletes_old_ones_after_asking(line: Copier, tmp_path: Path) -> None:
    line.put(1, captured_at=AUTUMN)
    line.put(2, 3, captured_at=WINTER)
    line.step()
    do(line.url, "ANALYZE")
    path = tmp_path / "admin.yaml"
    path.write_text(f"central: {{url: '{line.url}'}}\n")

    def run(*arguments: str, said: str = "") -> tuple[int, str]:
        words = ["db", "months", "--config", str(path), *arguments]
        done = CliRunner().invoke(app, words, input=said, catch_exceptions=False)
        return done.exit_code, done.output

    code, shown = run()
    assert (code, "2026-10" in shown, "2026-11" in shown) == (0, True, True)
    told = json.loads(run("--json")[1])["months"]
    assert [one["month"] for one in told] == ["2026-10", "2026-11"]
    assert run("--drop-before", "2026-11", said="n\n")[0] == 1
    assert line.copied() == [1, 2, 3]
    assert run("--drop-before", "2026-11", said="y\n")[0] == 0
    assert line.copied() == [2, 3]
    assert run("--drop-before", "2026-11", "--yes") == (0, "There is nothing before 2026-11.\n")
    assert json.loads(run("--drop-before", "2026-11", "--yes", "--json")[1]) == {"dropped": []}
    for wrong, why in (("november", "no month such as"), ("2999-01", "never deleted")):
        code, shown = run("--drop-before", wrong)
        assert (code, why in shown) == (2, True)
    path.write_text(f"central: {{url: 'sqlite:///{tmp_path / 'plant.db'}'}}\n")
    engine.upgrade(f"sqlite:///{tmp_path / 'plant.db'}", PLANT)
    with pytest.raises(StoreError, match="only a central database on PostgreSQL"):
        run()
