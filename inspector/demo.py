"""The demo: a simulated line with everything real around it, and its books kept from three sides.

Starts a broker, a database, the worker, the dashboard and a virtual PLC on this machine, has the worker learn the simulated
kinds of parts, and lets parts come by. What came out is counted by the PLC, by an independent MQTT subscriber and by SQL.
The programs are started as processes, never imported.
"""

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from inspector import simulation
from inspector.config import DATA_DIR_VARIABLE, Config, load_config
from inspector.contract.broker import BrokerProcess, free_port, start_broker
from inspector.contract.gate import Decision
from inspector.contract.link import BrokerLink
from inspector.contract.messages import Result
from inspector.contract.session import Identity, Received
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import InspectorError, StationError
from inspector.images import encode_png
from inspector.store import engine, products, queries, stations
from inspector.store.pictures import staged
from inspector.types import Verdict

DEFECT_RATE = 0.15
REFERENCES = 8
ENDLESS_PARTS_PER_PRODUCT = 40
READY_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 30.0
PLC_TIMER_S = 2.0
MARKER = ".inspector-demo"
STATION = "demo"

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoPlan:
    """What to show: `parts` None goes on until stopped; `rate_hz` is parts per second."""

    parts: int | None
    seed: int
    rate_hz: float
    dashboard: bool
    mqtt_port: int = 0

    @property
    def taught(self) -> tuple[str, ...]:
        """Kinds that the demo teaches itself; an endless demo leaves the last one to the person who watches."""
        return simulation.KINDS if self.parts is not None else simulation.KINDS[:-1]

    @property
    def parts_per_product(self) -> int:
        return ENDLESS_PARTS_PER_PRODUCT if self.parts is None else -(-self.parts // len(self.taught))


@dataclass(frozen=True)
class DemoSummary:
    """The books of a finished demo; `parts` are the PLC's triggers."""

    parts: int
    ok: int
    ng: int
    undecided: int
    none: int
    published: int
    stored: int
    plc_accepted: int
    plc_rejected: int
    escapes: int
    false_rejects: int
    swaps: int
    latency_ms: dict[str, float]
    broker: str
    database: str
    encoder: str

    @property
    def faults(self) -> list[str]:
        """Where the books do not agree; empty if each part has exactly one verdict everywhere."""
        sums = {
            "published": self.published,
            "stored": self.stored,
            "ok + ng + undecided + none": self.ok + self.ng + self.undecided + self.none,
            "accepted + rejected by the PLC": self.plc_accepted + self.plc_rejected,
        }
        return [f"{name}: {value}, but {self.parts} parts" for name, value in sums.items() if value != self.parts]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass
class Books:
    """What the PLC decided, and what really lay on the belt."""

    seed: int
    parts: int = 0
    accepted: int = 0
    rejected: int = 0
    missing: int = 0
    escapes: int = 0
    false_rejects: int = 0
    swaps: int = 0
    product: str = ""
    latencies_s: list[float] = field(default_factory=list)

    def enter(self, decision: Decision) -> None:
        """One decision of the PLC, compared with the truth of the simulation."""
        bad = simulation.truth(self.seed, decision.trg, DEFECT_RATE) is not None
        self.accepted += decision.accepted
        self.rejected += not decision.accepted
        self.missing += decision.result is None
        self.escapes += decision.accepted and bad
        self.false_rejects += not decision.accepted and not bad
        if decision.result is not None:
            self.latencies_s.append(decision.latency_s)

    @property
    def latency_ms(self) -> dict[str, float]:
        """Trigger to decision, at the PLC."""
        values = self.latencies_s or [float("nan")]
        return {name: round(float(np.percentile(values, q)) * 1000, 1) for name, q in (("p50", 50), ("p99", 99))}


class ResultTally:
    """An independent subscriber: counts the different verdicts on `result`, and on `late` those that missed it."""

    def __init__(self, config: Config) -> None:
        topics = Topics(config.mqtt.prefix)
        self._link = BrokerLink(
            config.mqtt, Identity("demo-tally", subscriptions=((topics.result, 1), (topics.late, 1)))
        )
        self._events = self._link.listen(Received)

    def start(self) -> None:
        self._link.start()

    def finish(self) -> int:
        """Leave, and say how many different verdicts (boot, seq) came."""
        self._link.stop()
        seen = set()
        with contextlib.suppress(queue.Empty):
            while True:
                result = Result.from_json(self._events.get_nowait().payload)
                seen.add((result.boot, result.seq))
        return len(seen)


class DemoLine:
    """Everything that the demo starts; `close` ends all of it, whatever happened."""

    def __init__(self, plan: DemoPlan, say: Say) -> None:
        self.plan = plan
        self._say = say
        self.folder = Config().data_path / "demo"
        self.books = Books(plan.seed)
        self._processes: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []
        self._prepare_folder()
        self._broker: BrokerProcess = start_broker(_port(plan.mqtt_port, Config().mqtt.port), self.folder / "broker")
        try:
            self.config_path = self._write_config()
            self.config = load_config(self.config_path)
            self._kinds = self._teach()
            self._tally = ResultTally(self.config)
            settings = PlcSettings(client_id="demo-plc", timeout_s=PLC_TIMER_S, allow_simulated=True)
            self._plc = VirtualPlc(self.config.mqtt, settings, on_decision=self.books.enter)
        except BaseException:  # Ctrl-C, too: nobody else would end the broker
            self._broker.stop()
            raise

    @property
    def broker(self) -> str:
        return f"{self._broker.kind} at {self._broker.host}:{self._broker.port}"

    def start(self) -> None:
        """Start worker, subscriber, PLC and dashboard; returns when the first product is being inspected."""
        self._say(f"broker: {self.broker}, topics below {self.config.mqtt.prefix}/vis1/")
        self._tally.start()
        self._plc.start()
        self._spawn("worker", "edge")
        if self.plan.dashboard:
            self._spawn("dashboard", "dashboard")
        self._wait_for_recipes()
        self._select(self.plan.taught[0])
        if self.plan.dashboard:
            self._say(f"dashboard: http://{self.config.dashboard.host}:{self.config.dashboard.port}")

    def run(self, show: Callable[[Books], None], should_stop: Callable[[], bool]) -> None:
        """Let parts come by, one each 1/rate seconds, changing the product now and then."""
        kind, since_change, by_hand = self.plan.taught[0], 0, False
        next_s = time.monotonic()
        while not should_stop() and (self.plan.parts is None or self.books.parts < self.plan.parts):
            chosen = self._chosen_by_hand()
            if chosen is not None:
                kind, by_hand = chosen, True
            elif not by_hand and since_change == self.plan.parts_per_product:
                self._plc.wait_decided()
                kind = self.plan.taught[(self.plan.taught.index(kind) + 1) % len(self.plan.taught)]
                self._select(kind)
                self.books.swaps += 1
                since_change, next_s = 0, time.monotonic()
            self._plc.trigger(f"{kind}:{self.books.parts + 1:06d}")
            self.books.parts += 1
            since_change += 1
            show(self.books)
            self._check_processes()
            next_s += 1.0 / self.plan.rate_hz
            time.sleep(max(0.0, next_s - time.monotonic()))
        self._plc.wait_decided()
        show(self.books)

    def finish(self) -> DemoSummary:
        """Stop the worker in good order and add everything up."""
        self._stop_processes()
        self._plc.stop()
        published = self._tally.finish()
        self._broker.stop()
        store = engine.open_store(self.config.database_url)
        try:
            with store.read() as session:
                counts = queries.counters(session, self._station_id)
                encoder = str(stations.get_station(session, self._station_id).status.get("encoder", ""))
        finally:
            store.close()
        return DemoSummary(
            parts=self.books.parts,
            ok=counts[Verdict.OK],
            ng=counts[Verdict.NG],
            undecided=counts[Verdict.UNDECIDED],
            none=counts[Verdict.NONE],
            published=published,
            stored=sum(counts.values()),
            plc_accepted=self.books.accepted,
            plc_rejected=self.books.rejected,
            escapes=self.books.escapes,
            false_rejects=self.books.false_rejects,
            swaps=self.books.swaps,
            latency_ms=self.books.latency_ms,
            broker=self.broker,
            database=self.config.database_url,
            encoder=encoder,
        )

    def close(self) -> None:
        """End every process that was started; harmless when they have ended."""
        self._stop_processes()
        with contextlib.suppress(InspectorError, RuntimeError):  # it may never have been started
            self._plc.stop()
        self._broker.stop()

    def _prepare_folder(self) -> None:
        """A folder of the demo's own, empty at each start; a folder that is not ours is never emptied."""
        if self.folder.exists():
            if not (self.folder / MARKER).exists() and any(self.folder.iterdir()):
                raise StationError(
                    f"{self.folder} is not a folder of the demo; set {DATA_DIR_VARIABLE} to another place"
                )
            _refuse_running(self.folder)
            shutil.rmtree(self.folder)
        try:
            (self.folder / "broker").mkdir(parents=True)
            (self.folder / MARKER).touch()
        except OSError as error:
            raise StationError(f"{self.folder}: cannot be made: {error.strerror}") from error

    def _write_config(self) -> Path:
        values = {
            "data_dir": str(self.folder),
            "station": {"name": STATION},
            "cameras": [
                {
                    "name": "line",
                    "kind": "simulated",
                    "trigger": "mqtt",
                    "seed": self.plan.seed,
                    "defect_rate": DEFECT_RATE,
                }
            ],
            "database": {"url": f"sqlite:///{(self.folder / 'inspector.db').as_posix()}"},
            "batching": {"deadline_ms": PLC_TIMER_S * 1000},
            "mqtt": {"host": self._broker.host, "port": self._broker.port, "prefix": "demo/line1"},
            "dashboard": {"port": _port(0, Config().dashboard.port)},
        }
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    def _teach(self) -> dict[str, int]:
        """Ask for a recipe of each kind, as the dashboard does; the worker builds them. Gives rcp by kind."""
        engine.upgrade(self.config.database_url)
        store = engine.open_store(self.config.database_url)
        kinds = {}
        try:
            for kind in self.plan.taught:
                images = simulation.draw_references(kind, REFERENCES, self.plan.seed)
                drawn = [(f"{kind}-{number}.png", image) for number, image in enumerate(images, start=1)]
                with staged(self.folder, drawn) as pictures, store.write() as session:
                    self._station_id = stations.ensure_station(session, STATION).id
                    recipe = products.request_recipe(
                        session, kind, pictures, station_id=self._station_id, who="demo", now=datetime.now(UTC)
                    )
                    kinds[kind] = recipe.product.rcp
        finally:
            store.close()
        self._offer_pictures()
        return kinds

    def _offer_pictures(self) -> None:
        """Pictures of the kind that is left to teach, for the upload in the dashboard."""
        for kind in simulation.KINDS[len(self.plan.taught) :]:
            folder = self.folder / "teach-me" / kind
            folder.mkdir(parents=True)
            for number, image in enumerate(simulation.draw_references(kind, REFERENCES, self.plan.seed), start=1):
                (folder / f"{kind}-{number}.png").write_bytes(encode_png(image))
            self._say(f"teach the line yourself: upload the pictures in {folder}")

    def _wait_for_recipes(self) -> None:
        self._say("the worker learns " + ", ".join(self.plan.taught))
        store = engine.open_store(self.config.database_url)
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        try:
            while time.monotonic() < deadline_s:
                self._check_processes()
                with store.read() as session:
                    recipes = [recipe for product in products.list_products(session) for recipe in product.recipes]
                failed = next((recipe for recipe in recipes if recipe.status == "failed"), None)
                if failed is not None:
                    raise StationError(f"the worker could not learn {failed.product.name}: {failed.message}")
                if all(recipe.status == "ready" for recipe in recipes):
                    return
                time.sleep(0.2)
        finally:
            store.close()
        raise StationError(
            f"the worker did not learn its products within {READY_TIMEOUT_S:.0f} s; see {self.folder}/worker.log"
        )

    def _select(self, kind: str) -> None:
        self._plc.select_recipe(self._kinds[kind], timeout_s=READY_TIMEOUT_S)
        self._plc.wait_ready(READY_TIMEOUT_S)
        self.books.product = kind

    def _chosen_by_hand(self) -> str | None:
        """If an operator changed the product in the dashboard, the PLC follows; gives what then lies on the belt."""
        state = self._plc.state
        if state is None or not state.rcp or state.rcp == self._kinds.get(self.books.product):
            return None
        store = engine.open_store(self.config.database_url)
        try:
            with store.read() as session:
                names = {product.rcp: product.name for product in products.list_products(session)}
        finally:
            store.close()
        name = names.get(state.rcp, "")
        self._kinds[name] = state.rcp
        self.books.product = name
        self._plc.want_recipe(state.rcp)
        kind = next((kind for kind in simulation.KINDS if kind in name.lower()), simulation.KINDS[-1])
        self._say(f"the operator chose {name}; {kind} parts come by from now on")
        return kind

    def _spawn(self, name: str, package: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        environment = os.environ | {DATA_DIR_VARIABLE: str(self.folder)}
        command = [sys.executable, "-m", package, "--config", str(self.config_path)]
        own_group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, **own_group)
        self._processes.append((name, process, log))

    def _check_processes(self) -> None:
        for name, process, _ in self._processes:
            if process.poll() is not None:
                path = self.folder / f"{name}.log"
                last = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["nothing"]
                raise StationError(f"the {name} has ended; its last words ({path}): {last[0]}")

    def _stop_processes(self) -> None:
        for _, process, _ in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process, log in self._processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._processes.clear()


def _refuse_running(folder: Path) -> None:
    from filelock import FileLock, Timeout

    try:
        with FileLock(stations.station_lock_path(folder, STATION)).acquire(blocking=False):
            return
    except Timeout as error:
        raise StationError("a demo is running already; end it first (Ctrl-C in its terminal)") from error


def _port(wanted: int, usual: int) -> int:
    """The wanted port; without one the usual port if it is free, else any free one."""
    if wanted:
        return wanted
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return free_port()
    return usual
