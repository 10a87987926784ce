"""A whole line for the tests: a real broker, a real database, the worker as a process, parts that are drawn.

The encoder is the embedded tower on a coarse patch grid, so that a part costs milliseconds; everything else is what
runs in a plant.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import inspector.detection.encoder
from inspector import simulation
from inspector.config import Config, load_config
from inspector.contract.messages import Result
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.detection.encoder import load_encoder
from inspector.errors import InspectorError
from inspector.recipes import build_recipe
from inspector.store import engine, stations
from inspector.store.engine import Store
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from tests import stored
from tests.brokers import KINDS, TestBroker, Witness, wait_until
from tests.secured import SecuredBroker

STATION = "station1"
START_S = 60.0
COMES_S = 0.4
REFERENCES = 4
PREFIX = "test/line1"


def small_encoder(folder: Path) -> dict[str, Any]:
    """Configuration of the embedded tower on 8×8 patches."""
    weights = Path(inspector.detection.encoder.__file__).with_name("weights")
    shutil.copy(weights / "embedded.json", folder / "small.json")
    settings = json.loads((weights / "embedded.inspector.json").read_text())
    (folder / "small.inspector.json").write_text(json.dumps(settings | {"grid_side": 8, "image_size": 96}))
    return {"name": str(folder / "small.json"), "pretrained": str(weights / "embedded.safetensors"), "threads": 1}


def teach(
    config: Config,
    kinds: tuple[str, ...],
    *,
    active: str | None,
    draw: Callable[[str, int], list[np.ndarray]] = simulation.draw_references,
) -> dict[str, int]:
    """Make the database, build a recipe of each kind from its pictures, make one active; gives rcp by kind."""
    from datetime import UTC, datetime

    engine.upgrade(config.database_url)
    store = engine.open_store(config.database_url)
    writer = StoreWriter(store)
    writer.start()
    encoder = load_encoder(config.encoder)
    taught: dict[str, int] = {}
    try:
        station_id: int = writer.call(lambda session: stations.ensure_station(session, STATION).id)
        for kind in kinds:
            pictures = [(f"{n}.png", image) for n, image in enumerate(draw(kind, REFERENCES))]

            def ask(session: Any, kind: str = kind, pictures: Any = pictures) -> tuple[int, int]:
                recipe = stored.request_recipe(
                    session,
                    config.data_path,
                    kind,
                    pictures,
                    station_id=station_id,
                    who="test",
                    now=datetime.now(UTC),
                )
                return recipe.id, recipe.product.rcp

            recipe_id, taught[kind] = writer.call(ask)
            assert build_recipe(writer, config.data_path, recipe_id, encoder)
            if kind == active:
                writer.call(
                    lambda session, recipe_id=recipe_id: stations.set_active_recipe(
                        session, station_id, recipe_id, "test", datetime.now(UTC)
                    )
                )
    finally:
        writer.stop()
        store.close()
    return taught


@dataclass
class Line:
    """One station with its broker and database; each `start` is a new worker process.

    The recorder hears every message of the workers and PLCs; `close` judges them by the AsyncAPI document.
    """

    folder: Path
    broker: TestBroker | SecuredBroker
    taught: dict[str, int]
    values: dict[str, Any]
    recorder: Witness
    environment: dict[str, str] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    prefix: str = PREFIX

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    @property
    def config_path(self) -> Path:
        path, text = self.folder / "line.yaml", yaml.safe_dump(self.values)
        if not path.exists() or path.read_text() != text:  # a supervisor may be reading it
            path.write_text(text)
        return path

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker; its log is appended to `worker.log`."""
        worker = self._run("edge")
        self.workers.append(worker)
        return worker

    def supervise(self) -> subprocess.Popen[bytes]:
        """Start worker and supervisor as a person does, with `inspector run`; the caller ends it."""
        return self._run("inspector", "run")

    def _run(self, *program: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *program, "--config", str(self.config_path)]
        environment = {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment | self.environment)

    def stop(self, worker: subprocess.Popen[bytes], timeout_s: float = 30.0) -> int:
        """End a worker in good order; gives its exit code."""
        worker.send_signal(signal.SIGTERM)
        return worker.wait(timeout_s)

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = engine.open_store(self.config.database_url)
        try:
            yield store
        finally:
            store.close()

    def rows(self) -> list[InspectionRow]:
        """All verdicts, oldest first."""
        from sqlalchemy import select

        with self.store() as store, store.read() as session:
            return list(session.scalars(select(InspectionRow).order_by(InspectionRow.id)))

    def status(self) -> dict[str, Any]:
        """What the worker last said of itself."""
        with self.store() as store, store.read() as session:
            return stations.get_station(session, 1).status

    @property
    def worker_pid(self) -> int:
        """Process of the worker, as its station's row tells it."""
        return int(self.status().get("pid", 0))

    def boot(self) -> int:
        """How often the worker has been started."""
        with self.store() as store, store.read() as session:
            return stations.get_station(session, 1).boot

    def outbox_size(self) -> int:
        from inspector.store import queries

        with self.store() as store, store.read() as session:
            return queries.outbox_size(session, 1)

    @contextmanager
    def plc(self, kind: str | None = None, **settings: Any) -> Iterator[VirtualPlc]:
        """A PLC that wants parts of this kind."""
        wanted = None if kind is None else self.taught[kind]
        plc_settings = PlcSettings(allow_simulated=True, **{"timeout_s": 5.0, **settings})
        with VirtualPlc(self.config.mqtt, plc_settings, wanted_rcp=wanted) as plc:
            yield plc

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self.recorder.close()
        self.broker.close()
        faults = self.recorder.faults()
        assert not faults, "messages that are not in docs/asyncapi.yaml:\n" + "\n".join(faults)


class Belt:
    """Triggers parts of one kind from a thread, until it is stopped."""

    def __init__(self, plc: VirtualPlc, kind: str, period_s: float) -> None:
        self.kind = kind
        self.triggers: list[int] = []
        self._plc = plc
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Belt":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Until so many more parts have come by."""
        target = len(self.triggers) + count
        wait_until(lambda: len(self.triggers) >= target, 60)

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            number = len(self.triggers) + 1
            self.triggers.append(self._plc.trigger(f"{self.kind}:{number:05d}"))


@contextmanager
def parts_come_by(plc: VirtualPlc, kind: str) -> Iterator[None]:
    """A part each `COMES_S` until the block ends, whatever the operator does meanwhile."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(COMES_S):
            plc.trigger(f"{kind}:{plc.counts.triggers + 1:05d}")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="session")
def taught_line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A data folder with two products, taught once; each line gets a copy of it."""
    folder = tmp_path_factory.mktemp("taught")
    config = Config.model_validate({"data_dir": folder, "encoder": small_encoder(folder)})
    return folder, teach(config, ("flange", "gear"), active="flange")


@pytest.fixture
def line(taught_line: tuple[Path, dict[str, int]], tmp_path: Path) -> Iterator[Line]:
    """A line with the products flange (active) and gear, and a simulated camera that waits for the PLC."""
    with made_line(*taught_line, tmp_path) as made:
        yield made


@contextmanager
def made_line(template: Path, taught: dict[str, int], folder: Path) -> Iterator[Line]:
    """A line in `folder`, with a copy of what was taught in `template`."""
    shutil.copytree(template, folder / "data")
    broker = TestBroker(KINDS[0], folder / "broker")
    values: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "encoder": small_encoder(folder),
        "cameras": [{"name": "line", "kind": "simulated", "trigger": "mqtt", "defect_rate": 0.3}],
        "batching": {"deadline_ms": 4000, "queue_size": 64},
        "mqtt": {"port": broker.port, "prefix": PREFIX, "heartbeat_ms": 300},
        "images": {"save": "none"},
    }
    made = Line(folder, broker, dict(taught), values, Witness(broker.port, client_id="recorder"))
    try:
        yield made
    finally:
        made.close()


def results(witness: Witness, topic: str) -> list[Result]:
    """Everything that came on `result` or `late`, checked against the contract."""
    return [Result.from_json(payload) for payload in witness.of(topic)]


def started(line: Line, plc: VirtualPlc) -> subprocess.Popen[bytes]:
    """Start a worker and wait until a good part could pass."""
    worker = line.start()
    try:
        plc.wait_ready(START_S)
    except InspectorError as error:
        raise AssertionError(f"{error}\n{line.log}") from error
    return worker


def seconds(name: str, default_s: float) -> float:
    """A duration that a longer run of the tests may set by the environment."""
    return float(os.environ.get(name, default_s))


__all__ = ["START_S", "Belt", "Line", "line", "parts_come_by", "results", "seconds", "started", "taught_line", "time"]
