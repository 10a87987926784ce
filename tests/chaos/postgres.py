"""Lines with a real PostgreSQL: as the station's own database, and as the plant's that its verdicts are copied to."""

import signal
from contextlib import ExitStack

import pytest
from sqlalchemy import select

from inspector.store import engine
from inspector.store.engine import PLANT, Store
from inspector.store.plant import PlantInspection
from tests.brokers import wait_until
from tests.chaos.faults import Fault, UnavailableError
from tests.chaos.rig import KINDS, Plant
from tests.end_to_end.plant import START_S, Line, teach
from tests.postgres import TestPostgres


class PostgresLine:
    """One server, started when the line is prepared."""

    server: TestPostgres
    url: str

    def _start(self, after: ExitStack) -> None:
        try:
            self.server = TestPostgres()
        except pytest.skip.Exception as error:
            raise UnavailableError(str(error)) from None
        after.callback(self.server.close)

    def own(self, line: Line, after: ExitStack) -> None:
        """The station's database itself is PostgreSQL."""
        self._start(after)
        line.values["database"] = {"url": self.server.create("station")}
        line.taught |= teach(line.config, KINDS, active=KINDS[0])

    def central(self, line: Line, after: ExitStack) -> None:
        """The station keeps its SQLite, and copies to the plant."""
        self._start(after)
        self.url = self.server.create("plant")
        engine.upgrade(self.url, PLANT)
        line.values["central"] = {"url": self.url}

    def kill(self, _: Plant) -> None:
        self.server.kill()

    def start(self, _: Plant) -> None:
        self.server.start()

    def compare(self, plant: Plant) -> None:
        """The plant has each verdict once, at the latest after the next start of the line."""
        rows = sorted((row.boot, row.seq) for row in plant.line.rows())
        plant.process = plant.line.supervise()
        try:
            wait_until(lambda: len(self._copied()) >= len(rows), START_S)
            assert self._copied() == rows
        finally:
            plant.process.send_signal(signal.SIGTERM)
            plant.process.wait(60)

    def _copied(self) -> list[tuple[int, int]]:
        store = Store(self.url)
        with store.read() as session:
            copied = session.execute(select(PlantInspection.boot, PlantInspection.seq)).tuples().all()
        store.close()
        return sorted((boot, seq) for boot, seq in copied)


def postgres_faults() -> list[Fault]:
    """What a server that dies does to a line."""
    own, central = PostgresLine(), PostgresLine()
    return [
        Fault("database down (PostgreSQL)", "kill -9, back after 10 s", own.kill, own.start, hold_s=10.0, prepare=own.own),
        Fault("central database down", "kill -9, back after 20 s", central.kill, central.start, hold_s=20.0,
              stops=False, prepare=central.central, check=central.compare),
    ]  # fmt: skip
