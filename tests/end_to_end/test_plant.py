"""Ten real workers feed one broker and one PostgreSQL, which are killed under them, as is one of the workers."""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from inspector.contract.topics import Topics
from inspector.store import engine
from inspector.store.engine import PLANT, Store
from inspector.store.plant import PlantInspection, PlantRecipe, PlantStation
from inspector.store.schema import InspectionRow
from tests.brokers import KINDS, TestBroker, Witness, wait_until
from tests.end_to_end.plant import Line, results, small_encoder
from tests.postgres import TestPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORKERS = 10
PERIOD_S = 1.0
PATIENCE_S = 300.0
Identity = tuple[int, int]


class Plant:
    """Ten stations with a data folder each, one broker, one server of the central database."""

    def __init__(self, folder: Path, taught_line: tuple[Path, dict[str, int]]) -> None:
        template, taught = taught_line
        self.postgres = TestPostgres()
        self.url = self.postgres.create("plant")
        engine.upgrade(self.url, PLANT)
        self.broker = TestBroker(KINDS[0], folder / "broker")
        self.witness = Witness(self.broker.port)
        self.lines = {
            f"s{number}": self._line(number, folder / f"s{number}", template, taught) for number in range(WORKERS)
        }

    def _line(self, number: int, folder: Path, template: Path, taught: dict[str, int]) -> Line:
        shutil.copytree(template, folder / "data")
        with closing(sqlite3.connect(folder / "data" / "inspector.db")) as database, database:
            database.execute("update stations set name = ?", [folder.name])
        values: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "station": {"name": folder.name},
            "encoder": small_encoder(folder),
            "cameras": [{"name": "line", "kind": "simulated", "period_s": PERIOD_S, "seed": number}],
            "batching": {"deadline_ms": 20_000, "queue_size": 64},
            "mqtt": {"port": self.broker.port, "prefix": f"plant/{folder.name}", "window_ms": 20_000},
            "central": {"url": self.url, "batch": 20},
            "disk": {"ballast_mb": 1},
            "images": {"save": "none"},
        }
        return Line(folder, self.broker, taught, values, self.witness)

    def central(self) -> dict[str, dict[Identity, tuple[Any, ...]]]:
        """What the central database has of each station, by identity; every row is counted."""
        columns = (PlantInspection.captured_at, PlantInspection.trg, PlantInspection.verdict, PlantInspection.err)
        query = select(PlantStation.name, PlantInspection.boot, PlantInspection.seq, *columns, PlantRecipe.product)
        query = query.select_from(PlantInspection).join(PlantStation, PlantInspection.station_id == PlantStation.id)
        query = query.outerjoin(PlantRecipe, PlantInspection.recipe_id == PlantRecipe.id)
        store = Store(self.url)
        with store.read() as session:
            rows = session.execute(query).all()
        store.close()
        found: dict[str, dict[Identity, tuple[Any, ...]]] = {name: {} for name in self.lines}
        for name, boot, seq, *values in rows:
            assert (boot, seq) not in found[name], "a row is there twice"
            found[name][boot, seq] = tuple(values)
        return found

    def wait_for_more(self, count: int) -> None:
        """Until so many more parts of each station are in the central database."""
        before = {name: len(rows) for name, rows in self.central().items()}
        wait_until(lambda: all(len(rows) >= before[name] + count for name, rows in self.central().items()), PATIENCE_S)

    def published(self, name: str) -> set[Identity]:
        topics = Topics(f"plant/{name}")
        return {(one.boot, one.seq) for topic in (topics.result, topics.late) for one in results(self.witness, topic)}

    def close(self) -> None:
        for line in self.lines.values():
            for worker in line.workers:
                if worker.poll() is None:
                    worker.kill()
                worker.wait()
        self.witness.close()
        self.broker.close()
        self.postgres.close()


@pytest.fixture
def plant(taught_line: tuple[Path, dict[str, int]], tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path, taught_line)
    yield made
    made.close()


def stored(line: Line) -> dict[Identity, tuple[Any, ...]]:
    """The rows of a station as the central database should have them."""
    return {(row.boot, row.seq): (row.captured_at, row.trg, row.verdict, row.err, product(row)) for row in line.rows()}


def product(row: InspectionRow) -> str | None:
    return None if row.recipe_id is None else "flange"


def test_ten_workers_feed_one_database_and_one_broker_and_every_row_is_there_once(plant: Plant) -> None:
    workers = {name: line.start() for name, line in plant.lines.items()}
    wait_until(lambda: all(len(rows) >= 3 for rows in plant.central().values()), PATIENCE_S)

    plant.postgres.kill()
    reached = {name: len(line.rows()) for name, line in plant.lines.items()}
    wait_until(lambda: all(len(line.rows()) >= reached[name] + 3 for name, line in plant.lines.items()), PATIENCE_S)
    workers["s3"].kill()
    workers["s3"].wait()
    workers["s3"] = plant.lines["s3"].start()
    plant.postgres.start()
    wait_until(lambda: len([boot for boot, _ in plant.central()["s3"] if boot == 2]) >= 3, PATIENCE_S)
    plant.wait_for_more(3)

    for worker in workers.values():
        worker.send_signal(signal.SIGTERM)
    codes = {name: worker.wait(PATIENCE_S) for name, worker in workers.items()}
    assert set(codes.values()) == {0}, codes
    central = plant.central()
    for name, line in plant.lines.items():
        assert central[name] == stored(line), name
        wait_until(lambda name=name: plant.published(name) == set(central[name]))  # type: ignore[misc]
    faults = plant.witness.faults()
    assert not faults, "\n".join(faults)
