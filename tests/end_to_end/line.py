"""A real line for the tests: broker, database, taught products, the worker as a process, and a virtual PLC."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from inspector import recipes, simulation
from inspector.config import Config, load_config
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.detection.encoder import load_encoder
from inspector.store import engine, products, stations
from inspector.store.engine import Store
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from tests.brokers import KINDS, TestBroker, wait_until

STATION = "test-line"
DEFECT_RATE = 0.3


class Line:
    """Everything of one station; `close` ends what was started."""

    def __init__(self, folder: Path, *, camera: dict[str, Any] | None = None, **sections: Any) -> None:
        self.folder = folder
        self.broker = TestBroker(KINDS[0], folder / "broker")
        camera = camera or {"kind": "simulated", "trigger": "mqtt", "seed": 5, "defect_rate": DEFECT_RATE}
        values = {
            "data_dir": str(folder / "data"),
            "station": {"name": STATION},
            "cameras": [camera],
            "mqtt": {"port": self.broker.port, "prefix": "test/line"},
            "batching": {"deadline_ms": 20_000},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}  # type: ignore[dict-item]
        self.path = folder / "line.yaml"
        self.path.write_text(yaml.safe_dump(values))
        self.config: Config = load_config(self.path)
        engine.upgrade(self.config.database_url)
        self.store: Store = engine.open_store(self.config.database_url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def teach(self, *kinds: str, activate: str | None = None) -> dict[str, int]:
        """Teach kinds of simulated parts; gives rcp by kind."""
        encoder = load_encoder(self.config.encoder)
        writer = StoreWriter(self.store)
        writer.start()
        found = {}
        for kind in kinds:
            pictures = [(f"{i}.png", image) for i, image in enumerate(simulation.draw_references(kind, 4))]
            recipe = writer.call(
                lambda session, kind=kind, pictures=pictures: products.request_recipe(
                    session,
                    self.config.data_path,
                    kind,
                    pictures,
                    station_id=None,
                    who="test",
                    now=datetime.now(UTC),
                )
            )
            assert recipes.build_recipe(writer, self.config.data_path, recipe.id, encoder)
            found[kind] = recipe.product.rcp
            if kind == activate:
                writer.call(lambda session, recipe_id=recipe.id: self._activate(session, recipe_id))
        writer.stop()
        return found

    def _activate(self, session: Any, recipe_id: int) -> None:
        station = stations.ensure_station(session, STATION)
        stations.set_active_recipe(session, station.id, recipe_id, "test", datetime.now(UTC))

    def start_worker(self) -> subprocess.Popen[bytes]:
        """The worker as a process of its own; its log is `worker.log`."""
        with (self.folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "edge", "--config", str(self.path)]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=Path(__file__).parents[2], env=_environment()
            )
        self.processes.append(process)
        return process

    def plc(self, **settings: Any) -> VirtualPlc:
        """A PLC that accepts simulated parts."""
        wanted = PlcSettings(**{"timeout_s": 20.0, "allow_simulated": True} | settings)
        return VirtualPlc(self.config.mqtt, wanted)

    def rows(self) -> list[InspectionRow]:
        """All verdict rows, oldest first."""
        with self.store.read() as session:
            return list(session.scalars(select(InspectionRow).order_by(InspectionRow.id)))

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.store.close()
        self.broker.close()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}


__all__ = ["DEFECT_RATE", "STATION", "Line", "wait_until"]
