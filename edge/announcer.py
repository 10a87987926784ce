"""Says what the station is: `state`, `recipe`, `alarm`, `ack` and heartbeat over MQTT, and its row for the dashboard.

May import the contract, the link and `state`. Nothing here is on the path of a verdict: a message that cannot be sent
now is sent when the broker is back.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable

from edge.mqtt import Connected, MqttLink
from edge.state import Station
from inspector.contract.codes import AckCode
from inspector.contract.messages import U16_MAX, U32_MAX, Ack, Heartbeat, saturate

log = logging.getLogger(__name__)

REPEAT_STATE_S = 10.0
STATUS_S = 1.0
TICK_S = 0.1


class Announcer:
    """A thread that keeps the retained topics true: a new state is said at once, an alarm at the next tick.

    `write_status` is called once a second, for the status row.
    """

    def __init__(self, link: MqttLink, station: Station, write_status: Callable[[], None]) -> None:
        self._link = link
        self._topics = link.topics
        self._station = station
        self._write_status = write_status
        self.also: Callable[[], object] = lambda: None
        """Told whenever all of it is said; publishes what else is retained, and must not block."""
        self._connections = link.listen(Connected)
        self._owed = True
        self._sending = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        station.announce = self.say
        station.alarms.announce = self.owe

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)

    def owe(self) -> None:
        """Something has changed: all of it is said at the next tick. For any thread, never blocks."""
        self._owed = True

    def say(self) -> None:
        """Publish state, recipe and alarms now; what cannot be sent is owed."""
        with self._sending:
            self._owed = False  # before it is read: what changes from here on is owed again
            state = self._station.state_message(int(time.time()))
            sent = self._link.publish(self._topics.state, state.to_json(), qos=1, retain=True)
            recipe = self._station.recipe_message()
            if recipe is not None and sent is not None:
                sent = self._link.publish(self._topics.recipe, recipe.to_json(), qos=1, retain=True)
            if sent is not None:
                alarms = self._station.alarms.message(self._station.boot)
                sent = self._link.publish(self._topics.alarm, alarms.to_json(), qos=1, retain=True)
            self._owed = self._owed or sent is None
        try:
            self.also()
        except Exception:  # counters for displays must never keep the station from changing its state
            log.exception("what else is retained could not be told")

    def answer(self, cid: int, command: str, code: AckCode, since_monotonic_s: float) -> None:
        """Answer a command; without a connection the answer is lost, and the PLC asks again."""
        st, err = self._station.shown
        age_ms = saturate((time.monotonic() - since_monotonic_s) * 1000, U32_MAX)
        name = "".join(sign for sign in command[:32] if sign.isascii() and (sign.isalnum() or sign == "_"))
        ack = Ack(cid=cid, cmd=name, code=int(code), st=int(st), err=int(err), lat=age_ms)
        if self._link.publish(self._topics.ack, ack.to_json(), qos=1) is None:
            log.warning("the answer %d to command %s (cid %d) could not be sent", code, name, cid)

    def _run(self) -> None:
        repeat_at = status_at = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            try:
                if self._is_connected_anew() or (self._owed and self._link.is_connected) or now >= repeat_at:
                    self.say()
                    repeat_at = now + REPEAT_STATE_S
                if now >= status_at:
                    self._write_status()
                    status_at = now + STATUS_S
            except Exception:  # whatever fails here must not end the thread that says how the station is
                log.exception("the station's state could not be told; it is tried again")
            self._stopping.wait(TICK_S)

    def _is_connected_anew(self) -> bool:
        anew = False
        try:
            while True:
                self._connections.get_nowait()
                anew = True
        except queue.Empty:
            return anew


class Pulse:
    """The heartbeat, beaten by the progress of the inspection loop and by nothing else."""

    def __init__(self, link: MqttLink, station: Station, period_s: float) -> None:
        self._link = link
        self._station = station
        self._period_s = period_s
        self._next_at = 0.0
        self._count = 0
        self._frame_monotonic_s = time.monotonic()
        self.beat_monotonic_s = self._frame_monotonic_s
        """When the loop last came by; the worker's watchdog reads it."""

    def new_frame(self, captured_monotonic_s: float) -> None:
        """A camera has given a new frame."""
        self._frame_monotonic_s = max(self._frame_monotonic_s, captured_monotonic_s)

    @property
    def frame_age_s(self) -> float:
        """How long ago the last new frame came; before the first one, since the start."""
        return time.monotonic() - self._frame_monotonic_s

    def beat(self, now_monotonic_s: float, *, waiting: int, seq: int) -> None:
        """Called at each turn of the inspection loop; publishes once per period."""
        self.beat_monotonic_s = now_monotonic_s
        if now_monotonic_s < self._next_at:
            return
        self._next_at = now_monotonic_s + self._period_s
        self._count = self._count % U32_MAX + 1
        heartbeat = Heartbeat(
            boot=self._station.boot,
            n=self._count,
            st=int(self._station.shown[0]),
            age=saturate((now_monotonic_s - self._frame_monotonic_s) * 1000, U32_MAX),
            q=saturate(waiting, U16_MAX),
            seq=seq,
        )
        self._link.publish(self._link.topics.hb, heartbeat.to_json(), qos=0)
