"""A station whose configuration is wrong: it says so to the PLC, refuses every command, and starts once the file is right.

May import the configuration and the contract. It loads no torch and opens no camera and no database: it cannot score.
Supervisor and worker both begin here. A trigger is refused like every command and gets no verdict from here, since nothing
could be recorded; the worker that starts next finds the gap in the PLC's counter and gives each such part its one verdict.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.alarms import TEXT_LENGTH, AlarmBoard
from edge.inflight import last_boot
from edge.logs import set_up_logging
from edge.station_lock import only_worker
from inspector.config import Config, LoggingConfig
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.link import BrokerLink
from inspector.contract.messages import U32_MAX, Ack, Heartbeat, RefusedCommand, State, read_command, saturate
from inspector.contract.session import Connected, Identity, Received, Will
from inspector.contract.topics import Topics
from inspector.errors import ConfigError
from inspector.salvage import Salvaged, load_sound, salvage
from inspector.yaml_file import Document, read_document

log = logging.getLogger(__name__)

LOOK_S = 1.0
REPEAT_STATE_S = 10.0
TICK_S = 0.05
WRITING_S, MOST_LOOKS = 0.2, 25


def sound_config(
    path: Path | None, stopping: threading.Event, *, log_suffix: str = "", alive: Callable[[], None] = lambda: None
) -> Config | None:
    """The configuration as soon as it is right, which is mostly at once; None if `stopping` is set before that.

    Logging is set up by it. Until then the station is in its safe state, and `alive` is called each second.

    Raises:
        ConfigError: it is wrong, and so are the broker's settings: nobody can be told.
        BrokerError: a certificate or the password cannot be used.
        StationError: a worker of the station runs.
    """
    while not stopping.is_set():
        document = None if path is None else _settled(path)
        try:
            return _begin(document, log_suffix)
        except ConfigError as error:
            salvaged = None if document is None else salvage(document)
            if document is None or salvaged is None:
                raise
            _log_somewhere(salvaged.config.logging, log_suffix)
            with only_worker(salvaged.config.data_path, salvaged.client_id):
                SafeState(document.path, salvaged, str(error), log_suffix).run(stopping, alive)
    return None


def _settled(path: Path) -> Document:
    """The file, once nobody has written it just now: half a file may be right, and an empty one means all defaults."""
    for _ in range(MOST_LOOKS):
        try:
            is_settled = not 0 <= time.time() - path.stat().st_mtime < WRITING_S
        except OSError:  # which the reading tells
            break
        if is_settled:
            break
        time.sleep(WRITING_S)
    return read_document(path)


def _begin(document: Document | None, log_suffix: str) -> Config:
    """The configuration, and its log file, which is a file that may be wrong like any other. Raises ConfigError."""
    config = load_sound(document)
    set_up_logging(config.logging, log_suffix)
    return config


def _log_somewhere(config: LoggingConfig, suffix: str) -> None:
    """Log to the file, or if that is what is wrong, to standard error alone."""
    try:
        set_up_logging(config, suffix)
    except ConfigError:  # which the safe state tells
        set_up_logging(config.model_copy(update={"file": None}))


class SafeState:
    """One connection's worth of safe state. `fault` is what is wrong with the file at `path`."""

    def __init__(self, path: Path, salvaged: Salvaged, fault: str, log_suffix: str = "") -> None:
        config = salvaged.config
        self._path = path
        self._salvaged = salvaged
        self._log_suffix = log_suffix
        self._fault = ""
        self._said: str | None = None
        # The boot of the worker before: nothing of it is answered here, and the next worker's is newer.
        self._boot = last_boot(config.data_path / f"{salvaged.client_id}.inflight")
        self._alarms = AlarmBoard(time.time)
        self._topics = Topics(config.mqtt.prefix)
        will = Will(self._topics.state, self._state().as_offline().to_json())
        self._link = BrokerLink(config.mqtt, Identity(salvaged.client_id, will, ((self._topics.cmd_filter, 1),)))
        self._events = self._link.listen(Connected, Received)
        self._since_monotonic_s = time.monotonic()
        self._beats = 0
        self._owed = True
        self._take_fault(fault)

    def run(self, stopping: threading.Event, alive: Callable[[], None]) -> None:
        """Say it until `stopping` is set, the file is right, or it names another broker, station or data folder."""
        beat_at = look_at = repeat_at = time.monotonic()
        self._link.start()
        try:
            while not stopping.is_set():
                self._take_event()
                now = time.monotonic()
                if self._owed or now >= repeat_at:
                    self._say()
                    repeat_at = now + REPEAT_STATE_S
                if now >= beat_at:
                    self._beat(now)
                    beat_at = now + self._salvaged.config.mqtt.heartbeat_ms / 1000
                if now >= look_at:
                    alive()
                    if self._is_over():
                        return
                    look_at = now + LOOK_S
        finally:
            self._link.stop()

    def _is_over(self) -> bool:
        """Look at the file. What it says counts once it stood twice: one that is being written may say anything."""
        document, right = None, True
        try:
            document = read_document(self._path)
            _begin(document, self._log_suffix)
        except ConfigError as error:
            right = False
            self._take_fault(str(error))
        if document is None or not (right or self._speaks_elsewhere(document)):
            self._said = None
            return False
        stood, self._said = document.text == self._said, document.text
        if stood and right:
            log.warning("%s: the configuration is right; the station starts", self._path)
        return stood

    def _speaks_elsewhere(self, document: Document) -> bool:
        """Whether a wrong file names another broker, station or data folder, so that its fault must be told there."""
        found = salvage(document)
        return found is not None and found.identity != self._salvaged.identity

    def _take_fault(self, fault: str) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        log.critical("the configuration is wrong, no part is inspected until the file is mended:\n%s", fault)
        self._alarms.up(ErrorCode.CONFIGURATION, alarm_text(fault, self._path))
        self._owed = True

    def _take_event(self) -> None:
        try:
            event = self._events.get(timeout=TICK_S)
        except queue.Empty:
            return
        if isinstance(event, Connected):
            self._owed = True
        elif (name := self._topics.command_name(event.topic)) is not None:
            message = read_command(name, event.payload, retained=event.retained)
            code = message.code if isinstance(message, RefusedCommand) else AckCode.WRONG_STATE
            self._answer(message.cid, name, code, event.received_monotonic_s)

    def _answer(self, cid: int, command: str, code: AckCode, came_monotonic_s: float) -> None:
        age_ms = saturate((time.monotonic() - came_monotonic_s) * 1000, U32_MAX)
        name = "".join(sign for sign in command[:32] if sign.isascii() and (sign.isalnum() or sign == "_"))
        st, err = int(StationState.ERROR), int(ErrorCode.CONFIGURATION)
        ack = Ack(cid=cid, cmd=name, code=int(code), st=st, err=err, lat=age_ms)
        self._link.publish(self._topics.ack, ack.to_json(), qos=1)

    def _state(self) -> State:
        mqtt = self._salvaged.config.mqtt
        return State(
            on=1,
            st=int(StationState.ERROR),
            mode=int(StationMode.PRODUCTION),
            boot=self._boot,
            rcp=0,
            rev=0,
            err=int(ErrorCode.CONFIGURATION),
            win=mqtt.window_ms,
            hbp=mqtt.heartbeat_ms,
            ts=int(time.time()),
        )

    def _say(self) -> None:
        """State and alarm, retained; what cannot be sent is owed."""
        alarms = self._alarms.message(self._boot)
        sent = self._link.publish(self._topics.state, self._state().to_json(), qos=1, retain=True)
        if sent is not None:
            sent = self._link.publish(self._topics.alarm, alarms.to_json(), qos=1, retain=True)
        self._owed = sent is None

    def _beat(self, now_monotonic_s: float) -> None:
        """A sign of life that says error: the PLC can tell a station that waits for a person from a dead one."""
        self._beats += 1
        age_ms = saturate((now_monotonic_s - self._since_monotonic_s) * 1000, U32_MAX)
        st = int(StationState.ERROR)
        beat = Heartbeat(boot=self._boot, n=self._beats % U32_MAX, st=st, age=age_ms, q=0, seq=0)
        self._link.publish(self._topics.hb, beat.to_json(), qos=0)


def alarm_text(fault: str, path: Path) -> str:
    """The first fault, with the file's name instead of its path, and how many more there are, in the length of an alarm."""
    first, *others = [line.strip() for line in fault.replace(str(path), path.name).splitlines()]
    more = sum(line.startswith(f"{path.name}:") for line in others)
    if more:
        rest = f" (+{more} more)"
        return first[: TEXT_LENGTH - len(rest)] + rest
    return " ".join([first, *others])[:TEXT_LENGTH]
