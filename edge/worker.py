"""The worker of one station: makes its threads, starts and stops them in order, and watches them.

May import everything of `edge` and the core. The order of the start is that of dependence (store, broker, encoder,
verdict path, cameras); the order of the stop is that of a part's way, so that whatever is in flight is still answered.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from edge import inflight
from edge.absences import Absences
from edge.announcer import Announcer, Pulse
from edge.batching import Batcher
from edge.buffers import Inbox
from edge.builder import Builder
from edge.capture import CaptureThread, Intake
from edge.central import CentralCopy
from edge.clock_steps import ClockSteps
from edge.commands import CommandDesk, CommandTargets
from edge.deadlines import Deadlines
from edge.drift import DriftWatch
from edge.inference import Inference, VerdictPath
from edge.inflight import InFlight
from edge.keeping import Keeping
from edge.ledger import Ledger
from edge.mqtt import MqttLink
from edge.outbox import StationOutbox
from edge.preparation import prepare_recipe
from edge.progress import ProgressPipe
from edge.publisher import Publisher
from edge.receipts import Receipts
from edge.recorder import Recorder
from edge.recovery import answer_left_overs
from edge.shifts import ShiftCounts
from edge.sparkplug.connection import SparkplugNode
from edge.sparkplug.readings import StationReadings
from edge.state import ActiveRecipe, Station
from edge.telemetry import Telemetry
from edge.verdicts import Statement
from edge.verification import Bench, Verification
from inspector import __version__
from inspector.config import Config
from inspector.contract.binary import PART_BYTES
from inspector.contract.codes import ErrorCode, StationMode
from inspector.contract.messages import PART_LENGTH
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import InspectorError, StationError, StoreError
from inspector.recipes import try_newer_defects
from inspector.store import journal, queries, redo, stations
from inspector.store.backup import database_file
from inspector.store.engine import Store
from inspector.store.redo import SEGMENT_BYTES, RedoLog, redo_folder
from inspector.store.replay import replay
from inspector.store.writer import StoreWriter
from inspector.types import Verdict

log = logging.getLogger(__name__)

WATCH_S = 0.2
VERIFY_S = 1.0
HUNG_S = 60.0
"""An inspection loop that has not come by for so long hangs; only a new process helps."""
DRAIN_WITHOUT_BROKER_S = 10.0
BEAT_FRESH_S = 1.0
OPEN_PATIENCE_S = 15.0


class Worker:
    """Everything of one run; `run` returns when the work is done, or `stopping` is set."""

    def __init__(self, config: Config, store: Store, stopping: threading.Event) -> None:
        self._config, self._store, self._stopping = config, store, stopping
        # Made before the start, in which a computer that was just switched on gets its time.
        self._clock_steps = ClockSteps()
        self._writer = StoreWriter(store)
        self._writer.start()
        name = config.station.name
        self._station_id: int = self._writer.call(lambda session: stations.ensure_station(session, name).id)
        self._redo = _redo_log(config)
        redo_path = redo_folder(config.data_path, name)
        replay(store, self._station_id, redo_path, config.data_path)
        self._simulated = frozenset(camera.name for camera in config.cameras if camera.kind == "simulated")
        kept_path = config.data_path / f"{name}.inflight"
        self._station = self._make_station(max(inflight.last_boot(kept_path), redo.last_boot(redo_path)))
        self._link = MqttLink(config, self._station.state_message(int(time.time())))
        self._announcer = Announcer(self._link, self._station, self._write_status)
        self._publisher = Publisher(config.mqtt, self._link, StationOutbox(self._writer, self._station_id))
        self._recorder = Recorder(config.images, config.data_path, self._writer)
        self._pulse = Pulse(self._link, self._station, config.mqtt.heartbeat_ms / 1000)
        answered = answer_left_overs(kept_path, self._writer, self._station_id, self._station.boot, self._redo)
        self._deadlines = Deadlines(_in_flight(kept_path, self._station.boot))
        self._inbox = Inbox(config.batching.queue_size)
        self._part_length = PART_BYTES if config.mqtt.resultb else PART_LENGTH
        self._intake = Intake(
            self._station,
            self._deadlines,
            self._inbox,
            self._pulse,
            config.batching.deadline_ms / 1000,
            part_length=self._part_length,
        )
        self._verification = self._make_verification()
        self._drift = DriftWatch(self._writer, self._station, self._station_id)
        self._cameras = [
            CaptureThread(camera, self._intake, self._station, last_trigger=self._last_trigger(camera.name))
            for camera in config.cameras
        ]
        self._telemetry = Telemetry(config.telemetry, self._all_status)
        self._shifts = self._begin_shift()
        self._receipts = Receipts(self._link, self._station, self._station_id, self._writer, config.mqtt.receipt_s)
        self._sparkplug = self._make_sparkplug()
        self._inference = self._make_inference(answered)
        jobs = [(self._verification.tick, VERIFY_S)]
        self._keeping = Keeping(config, self._writer, self._station, self._station_id, self._redo, jobs)
        self._recorder.has_room = lambda: not self._keeping.disk.full
        self._central = self._make_central()
        self._desk = CommandDesk(self._link, self._announcer, self._command_targets())
        self._progress = ProgressPipe(stopping)
        self._builder: Builder | None = None
        self._encoder: Encoder | None = None
        self._last_error = ""

    def run(self) -> None:
        """Inspect until stopped, or until all sources have ended and everything is delivered.

        Raises:
            InspectorError: the encoder cannot be loaded, or the inspection had to end.
        """
        try:
            with ExitStack() as stack:
                self._start(stack)
                self._watch()
        finally:
            if self._inference.failure is None:
                log.info("stopped after %s", self._summary())
        if self._inference.failure is not None:
            reason = self._inference.failure
            raise StationError(f"the inspection had to end: {reason}") from reason

    def _start(self, stack: ExitStack) -> None:
        """Each step says how it is undone; the stack undoes them from the last to the first."""
        stack.callback(self._writer.stop)
        stack.callback(self._write_status, offline=True)
        self._receipts.start()
        stack.callback(self._receipts.stop)
        self._link.start()
        stack.callback(self._link.stop)
        self._announcer.start()
        stack.callback(self._announcer.stop)
        self._desk.start()  # from here on each command is answered
        stack.callback(self._desk.stop)
        encoder = self._encoder = load_encoder(self._config.encoder)
        self._publisher.start()
        stack.callback(self._publisher.stop)
        self._recorder.start()
        stack.callback(self._recorder.stop)
        self._drift.start()
        stack.callback(self._drift.stop)
        self._keeping.start()
        stack.callback(self._keeping.stop)
        if self._central is not None:
            self._central.start()
            stack.callback(self._central.stop)
        self._telemetry.start()
        stack.callback(self._telemetry.stop)
        self._builder = Builder(self._writer, self._station_id, self._config.data_path, encoder)
        self._builder.start()
        stack.callback(self._builder.stop)
        if self._sparkplug is not None:
            self._sparkplug.start()
            stack.callback(self._sparkplug.stop)
        self._inference.start()
        stack.callback(self._inference.stop)
        for camera in self._cameras:
            camera.start()
        stack.callback(self._stop_cameras)
        stack.callback(self._verification.stop)
        self._become_ready()
        stack.callback(self._desk.stop)  # no command any more before the cameras stop
        self._progress.say("ready")
        log.info("station %s runs (boot %d, encoder %s)", self._config.station.name, self._station.boot, encoder.name)

    def _make_station(self, known_boot: int) -> Station:
        """`known_boot` is what the files beside the database say, should it know less."""
        mqtt = self._config.mqtt
        boot = self._writer.call(lambda session: stations.next_boot(session, self._station_id, known_boot))
        with self._store.read() as session:
            stopped = stations.get_station(session, self._station_id).stopped
        if stopped:
            log.warning("the station was %s before this start, and stays so until it is told otherwise", stopped)
        return Station(
            boot=boot,
            mode=StationMode.SIMULATION if self._simulated else StationMode.PRODUCTION,
            window_ms=mqtt.window_ms,
            heartbeat_ms=mqtt.heartbeat_ms,
            stopped=stopped,
        )

    def _make_verification(self) -> Verification:
        bench = Bench(
            station=self._station,
            station_id=self._station_id,
            writer=self._writer,
            intake=self._intake,
            data_path=self._config.data_path,
            cameras=[camera.name for camera in self._config.cameras],
            publish=lambda payload: self._link.publish(self._link.topics.suspect, payload, qos=1) is not None,
        )
        return Verification(self._config.challenge, bench)

    def _make_inference(self, answered: int) -> Inference:
        """`answered` is the number of the last verdict, given for a part that the worker before left."""
        batching = self._config.batching
        path = VerdictPath(
            station=self._station,
            deadlines=self._deadlines,
            inbox=self._inbox,
            batcher=Batcher(batching.max_batch, batching.max_age_ms / 1000),
            ledger=Ledger(self._writer, self._station_id, self._station, self._redo),
            absences=Absences(self._writer, self._station_id, self._redo, self._inbox.wake),
            publisher=self._publisher,
            recorder=self._recorder,
            pulse=self._pulse,
            simulated_cameras=self._simulated,
            most_part_s=batching.deadline_ms / 1000 / 2,
            observers=self._observers(),
            live_observers=[self._receipts.seen],
            timed=self._telemetry.timed,
            on_the_way=lambda: any(camera.waiting for camera in self._cameras),
        )
        return Inference(path, answered)

    def _command_targets(self) -> CommandTargets:
        return CommandTargets(
            station=self._station,
            station_id=self._station_id,
            cameras=self._cameras,
            writer=self._writer,
            prepare=self._prepare,
            approve=self._approve,
            verification=self._verification,
            part_length=self._part_length,
            wake=self._inbox.wake,
            repeat_last=self._publisher.repeat_last,
        )

    def _make_central(self) -> CentralCopy | None:
        config, alarms = self._config, self._station.alarms
        if config.central.url is None:
            return None
        return CentralCopy(config.central, self._writer, alarms, self._station_id, config.station.name)

    def _begin_shift(self) -> ShiftCounts:
        """The counters of the shift that runs, with what earlier runs of the worker have stored of it."""
        shifts = ShiftCounts(self._config.station.shifts, self._station.boot, lambda: datetime.now(UTC))
        with self._store.read() as session:
            shifts.begin(queries.counters(session, self._station_id, shifts.since))
        stats = self._link.topics.of("stats")
        self._announcer.also = lambda: self._link.publish(stats, shifts.message().to_json(), retain=True)
        return shifts

    def _observers(self) -> list[Callable[[Statement], None]]:
        """Who hears of each verdict, in this order."""
        found: list[Callable[[Statement], None]] = [self._verification.seen, self._drift.seen]
        found += [self._telemetry.seen, self._count]
        return found if self._sparkplug is None else [*found, self._sparkplug.offer]

    def _count(self, statement: Statement) -> None:
        self._shifts.seen(statement, time.monotonic() - statement.answer.part.captured_monotonic_s)

    def _make_sparkplug(self) -> SparkplugNode | None:
        config = self._config
        if not config.sparkplug.enabled:
            return None
        readings = StationReadings(self._station, self._pulse, self._cameras, config.mqtt.heartbeat_ms / 1000)
        return SparkplugNode(config.sparkplug, config.station.name, readings, config.data_path)

    def _prepare(self, recipe_id: int) -> ActiveRecipe:
        if self._encoder is None:
            raise StationError("the encoder is not loaded yet")
        max_batch = self._config.batching.max_batch
        return prepare_recipe(self._store, self._config.data_path, recipe_id, self._encoder, max_batch)

    def _approve(self, active: ActiveRecipe) -> int:
        return try_newer_defects(self._writer, self._config.data_path, active.recipe_id, active.detector)

    def _become_ready(self) -> None:
        """Only with cameras that are open (or known not to be) and a tested recipe does the station say so."""
        active, reason = self._stored_recipe()
        deadline = time.monotonic() + OPEN_PATIENCE_S
        for camera in self._cameras:
            camera.tried.wait(max(0.0, deadline - time.monotonic()))
            camera.watch(math.inf)  # one that is still being opened is told before the station says that it is ready
        self._verification.take_over(active, lambda: self._station.set_up(active, reason))
        for camera in self._cameras:
            camera.go()

    def _stored_recipe(self) -> tuple[ActiveRecipe | None, ErrorCode]:
        """The recipe that was active, ready to go on; one that cannot be used leaves the station without any."""
        with self._store.read() as session:
            recipe = stations.active_recipe(session, self._station_id)
            recipe_id = None if recipe is None else recipe.id
        if recipe_id is None:
            log.warning("no product is active; parts get NONE (%d) until one is selected", ErrorCode.NO_RECIPE)
            return None, ErrorCode.NO_RECIPE
        try:
            return self._prepare(recipe_id), ErrorCode.NONE
        except InspectorError as error:
            log.error("the active recipe cannot be used: %s", error)
            self._last_error = str(error)
            return None, ErrorCode.FINGERPRINT_MISMATCH

    def _stop_cameras(self) -> None:
        for camera in self._cameras:
            camera.stop()
        for camera in self._cameras:
            camera.join()
        self._station.run(False)  # what is still in flight is answered NONE (503)

    def _watch(self) -> None:
        """The main thread's work: end when asked, when the line is at its end, or when the inspection hangs."""
        quiet_since: float | None = None
        while not self._stopping.wait(WATCH_S) and self._inference.failure is None:
            now = time.monotonic()
            self._clock_steps.look()
            if now - self._pulse.beat_monotonic_s < BEAT_FRESH_S:
                self._progress.say("beat")
            for camera in self._cameras:
                camera.watch(now)
            self._keeping.watch(now)
            if self._central is not None:
                self._central.watch(now)
            if now - self._pulse.beat_monotonic_s > HUNG_S:
                log.critical("the inspection hangs since %d s; the process ends, so that it is started again", HUNG_S)
                os._exit(StationError.exit_code)  # a thread that hangs in a driver cannot be ended in a better way
            if not all(camera.ended.is_set() for camera in self._cameras) or self._deadlines.in_flight:
                quiet_since = None
                continue
            quiet_since = now if quiet_since is None else quiet_since
            patience_s = DRAIN_WITHOUT_BROKER_S if not self._link.is_connected else float("inf")
            if self._outbox_is_empty() or now - quiet_since > patience_s:
                log.info("all sources have come to their end")
                return

    def _outbox_is_empty(self) -> bool:
        try:
            with self._store.read() as session:
                return queries.outbox_size(session, self._station_id) == 0
        except StoreError as error:
            log.warning("the outbox cannot be read: %s", error)
            return False

    def _last_trigger(self, camera: str) -> int:
        with self._store.read() as session:
            return journal.last_trigger(session, self._station_id, camera)

    def _summary(self) -> str:
        counts = ", ".join(f"{self._inference.counts[verdict]} {verdict.name}" for verdict in Verdict)
        return f"{self._inference.seq} verdicts ({counts})"

    def _write_status(self, *, offline: bool = False) -> None:
        """The station's row for the dashboard: the last `state`, and what the PLC need not know."""
        status = self._all_status(offline=offline)
        now = datetime.now(UTC)

        def write(session: Session) -> None:
            stations.set_status(session, self._station_id, status, now)

        self._writer.post(write)

    def _all_status(self, *, offline: bool = False) -> dict[str, Any]:
        state = self._station.state_message(int(time.time()))
        said = (state.as_offline() if offline else state).model_dump()
        central = {} if self._central is None else self._central.status()
        numbers = self._keeping.status() | self._telemetry.status() | self._publisher.status() | central
        return said | self._status() | numbers | self._receipts.status()

    def _status(self) -> dict[str, Any]:
        builder, recipe = self._builder, self._station.recipe_message()
        errors = [self._last_error, self._desk.last_error, builder.last_error if builder else ""]
        return {
            "product": None if recipe is None else recipe.name,
            "alarms": self._station.alarms.message(self._station.boot).model_dump()["alarms"],
            "halted": self._station.snapshot.halted,
            "held": int(self._station.snapshot.hold),
            "challenge": self._verification.running,
            "seq": self._inference.seq,
            "queue": len(self._inbox),
            "in_flight": self._deadlines.in_flight,
            "frame_age_s": round(self._pulse.frame_age_s, 3),
            "heartbeat_age_s": round(time.monotonic() - self._pulse.beat_monotonic_s, 3),
            "drift_p_mean": self._drift.p_mean,
            "counts": {verdict.name: self._inference.counts[verdict] for verdict in Verdict},
            "evicted": self._inbox.evicted,
            "pictures_dropped": self._recorder.dropped + self._recorder.failed,
            "store_failures": self._writer.failures,
            "cameras": {camera.name: camera.status() for camera in self._cameras},
            "broker_connected": self._link.is_connected,
            "broker_problem": self._link.problem,
            "sparkplug": None if self._sparkplug is None else self._sparkplug.status(),
            "encoder": "" if self._encoder is None else self._encoder.name,
            "building": None if builder is None else builder.building,
            "last_error": next((error for error in errors if error), ""),
            "deadline_ms": self._config.batching.deadline_ms,
            "version": __version__,
            "pid": os.getpid(),
        }


def _redo_log(config: Config) -> RedoLog:
    """As many segments as the backups need; without backups (PostgreSQL makes its own), two of a limited size."""
    folder = redo_folder(config.data_path, config.station.name)
    if database_file(config.database_url) is None or not config.database.backup_every_h:
        return RedoLog(folder, 1, limit_bytes=2 * SEGMENT_BYTES)
    return RedoLog(folder, config.database.backups_kept + 1)


def _in_flight(path: Path, boot: int) -> InFlight:
    try:
        return InFlight(path, boot)
    except OSError as error:
        raise StationError(f"{path}: the list of parts in flight cannot be written: {error.strerror}") from error
