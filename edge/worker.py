"""The worker of one station: builds its threads, starts them in order, watches them, and stops them in order.

camera → capture → inbox → inference → journal → publisher → PLC
                               └→ recorder (pictures)        commands ← PLC, dashboard
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from edge.buffers import Inbox
from edge.builder import Builder
from edge.cameras import TriggerQueue, make_camera
from edge.capture import Capture, Intake
from edge.commands import CommandLoop, TriggeredCamera
from edge.deadlines import Deadlines
from edge.gaps import TriggerGaps
from edge.housekeeping import Housekeeping
from edge.inference import Inference
from edge.mqtt import MqttLink
from edge.publisher import OutboxMessage, Publisher
from edge.recorder import Recorder
from edge.state import StationControl
from edge.swap import RecipeSwap
from inspector.config import CameraConfig, Config
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import StationError
from inspector.store import journal, queries, stations
from inspector.store.engine import Store
from inspector.store.writer import StoreWriter

TICK_S = 0.1
STATUS_PERIOD_S = 1.0
DRAIN_LIMIT_S = 10.0
CAMERA_LIMIT_S = 30.0

log = logging.getLogger(__name__)


class StoreOutbox:
    """The outbox of one station, as the publisher sees it."""

    def __init__(self, store: Store, writer: StoreWriter, station_id: int) -> None:
        self._store = store
        self._writer = writer
        self._station_id = station_id

    def pending(self, limit: int) -> Sequence[OutboxMessage]:
        with self._store.read() as session:
            rows = journal.pending_outbox(session, self._station_id, limit)
        return [OutboxMessage(row.id, row.topic, row.payload) for row in rows]

    def clear(self, ids: Sequence[int]) -> None:
        self._writer.call(lambda session: journal.clear_outbox(session, ids))


class Worker:
    """Everything that runs on the line PC for one station; the caller holds the station's lock."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._writer = StoreWriter(store)
        self._writer.start()
        self._station_id, boot = self._writer.call(self._register)
        self._control = StationControl(config, boot)
        self._link = MqttLink(config, self._control.message())
        outbox = StoreOutbox(store, self._writer, self._station_id)
        self._publisher = Publisher(config.mqtt, self._link, outbox)
        self._recorder = Recorder(config.images, config.data_path, self._writer)
        self._encoder: Encoder = load_encoder(config.encoder)
        self._swap = RecipeSwap(
            self._writer, config.data_path, self._station_id, self._encoder, self._control, config.batching.max_batch
        )
        self._builder = Builder(self._writer, config.data_path, self._station_id, self._encoder)
        self._housekeeping = Housekeeping(config.images, config.data_path, self._station_id, self._writer)
        self._deadlines = Deadlines()
        self._inbox = Inbox(config.batching.queue_size)
        intake = Intake(self._deadlines, self._inbox, self._control, config.batching.deadline_ms / 1000)
        self._triggered: list[TriggeredCamera] = []
        self._captures = [self._capture(camera, intake) for camera in config.cameras]
        self._inference = Inference(
            config,
            self._station_id,
            self._control,
            (self._inbox, self._deadlines),
            (self._writer, self._link, self._publisher, self._recorder),
            self._frame_age_s,
        )
        self._commands = CommandLoop(
            self._station_id, self._control, self._link, self._writer, self._swap, self._triggered
        )
        self._started_s = time.monotonic()
        self._next_status_s = 0.0

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Inspect until asked to stop, or until every source has ended and every verdict is out.

        Raises:
            StationError: a thread on the way of a verdict has died; the process should end and be started again.
        """
        self._start()
        drained_since: float | None = None
        try:
            while not should_stop():
                self._check_threads()
                self._write_status()
                if all(capture.ended for capture in self._captures) and not self._deadlines.in_flight:
                    drained_since = drained_since or time.monotonic()
                    if self._is_drained(drained_since):
                        break
                time.sleep(TICK_S)
        finally:
            self._stop()

    def _start(self) -> None:
        self._publisher.start()
        self._recorder.start()
        self._link.start()
        self._inference.start()
        for capture in self._captures:
            capture.start()
        for capture in self._captures:  # ready means that a trigger finds an open camera
            capture.tried.wait(CAMERA_LIMIT_S)
        self._swap.restore()
        self._commands.start()
        self._builder.start()
        self._housekeeping.start()
        for capture in self._captures:
            capture.go()
        active = self._control.snapshot().active
        product = f"product {active.name} rev {active.rev}" if active else "no product yet: teach and activate one"
        log.info("station %s runs (boot %d, %s)", self._config.station.name, self._control.boot, product)

    def _stop(self) -> None:
        """Cameras first, verdicts out, then what carried them; the offline state is said before the disconnect."""
        for capture in self._captures:
            capture.stop()
        self._inference.stop()
        self._commands.stop()
        self._builder.stop()
        self._housekeeping.stop()
        self._publisher.stop()
        self._recorder.stop()
        self._link.stop()
        self._write_status(stopped=True)
        self._writer.stop()
        counts = ", ".join(f"{count} {verdict.name}" for verdict, count in self._inference.counts.items())
        log.info(
            "station %s has stopped after %d verdicts (%s)", self._config.station.name, self._inference.seq, counts
        )

    def _register(self, session: Any) -> tuple[int, int]:
        station = stations.ensure_station(session, self._config.station.name)
        return station.id, stations.next_boot(session, station.id)

    def _capture(self, config: CameraConfig, intake: Intake) -> Capture:
        with self._store.read() as session:
            last = journal.last_trigger(session, self._station_id, config.name)
        triggers = TriggerQueue()
        capture = Capture(config, make_camera(config, triggers, last_trigger=last), TriggerGaps(last), intake)
        if config.trigger == "mqtt":
            self._triggered.append(TriggeredCamera(triggers, capture))
        return capture

    def _frame_age_s(self) -> float:
        seen = [capture.last_frame_monotonic_s for capture in self._captures]
        return time.monotonic() - max((value for value in seen if value is not None), default=self._started_s)

    def _check_threads(self) -> None:
        if self._inference.failed is not None or not self._inference.is_alive:
            raise StationError(f"the inspection loop has ended: {self._inference.failed}; start the worker again")
        for capture in self._captures:
            if not capture.is_alive and not capture.ended:
                raise StationError("a capture thread has ended; start the worker again")

    def _is_drained(self, since_s: float) -> bool:
        with self._store.read() as session:
            left = queries.outbox_size(session, self._station_id)
        if left and time.monotonic() - since_s > DRAIN_LIMIT_S:
            log.warning("%d messages stay in the outbox for the next start: the broker does not take them", left)
            return True
        return left == 0

    def _write_status(self, *, stopped: bool = False) -> None:
        now = time.monotonic()
        if now < self._next_status_s and not stopped:
            return
        self._next_status_s = now + STATUS_PERIOD_S
        status = self._status() | ({"st": 0} if stopped else {})
        self._writer.post(lambda session: stations.set_status(session, self._station_id, status, datetime.now(UTC)))

    def _status(self) -> dict[str, Any]:
        """The worker in numbers, for the dashboard."""
        snapshot, state = self._control.snapshot(), self._control.message()
        return {
            "st": state.st,
            "mode": state.mode,
            "err": state.err,
            "rcp": state.rcp,
            "rev": state.rev,
            "boot": state.boot,
            "product": snapshot.active.name if snapshot.active else None,
            "seq": self._inference.seq,
            "queue": len(self._inbox),
            "in_flight": self._deadlines.in_flight,
            "evicted": self._inbox.evicted,
            "frame_age_s": round(self._frame_age_s(), 3),
            "counts": {verdict.name: count for verdict, count in self._inference.counts.items()},
            "encoder": self._encoder.name,
            "broker_connected": self._link.is_connected,
            "broker_problem": self._link.problem,
            "pictures_dropped": self._recorder.dropped,
            "store_failures": self._writer.failures,
            "building": self._builder.building,
        }
