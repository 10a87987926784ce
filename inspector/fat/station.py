"""A station that is played: it speaks the contract as a worker does, and misbehaves as a fault wants it to.

May import the configuration and the contract. Each `start` is a new worker: a connection with a last will of its own boot.
"""

import queue
import threading
import time
from typing import Any

from inspector.config import MqttConfig
from inspector.contract.codes import AckCode, StationState
from inspector.contract.link import BrokerLink
from inspector.contract.messages import (
    U16_MAX,
    U32_MAX,
    Ack,
    CommandMessage,
    Heartbeat,
    RefusedCommand,
    Result,
    SelectRecipe,
    State,
    Trigger,
    next_seq,
    read_command,
    saturate,
)
from inspector.contract.session import Connected, Event, Identity, Received, Will
from inspector.contract.topics import Topics
from inspector.errors import BrokerError
from inspector.fat.wire import Wire

CLIENT_ID = "inspector-fat"
HEARTBEAT_MS = 500
WINDOW_MS = 2000
CONNECT_S = 20.0
FIRST_REVISION = 1


class PlayedStation:
    """Makes product `rcp`; `boot` is the one it starts with. `seq` is the number of the last verdict it made."""

    def __init__(self, config: MqttConfig, *, rcp: int, boot: int, wire: Wire) -> None:
        self.wire = wire
        self.topics = Topics(config.prefix)
        self.seq = 0
        self.beats = True
        """Whether the heartbeat is sent each period."""
        self.last_beat_s = 0.0
        self.frozen_since_s: float | None = None
        """Since when the camera has given no new frame (monotonic); None: it gives one all the time."""
        self.says_state = True
        """Whether the state is told as soon as there is a connection."""
        self.keeps_product = False
        """Whether `select_recipe` is refused as busy."""
        self.refused: list[AckCode] = []
        """Why commands did not run."""
        self._config = config
        self._state = State(
            on=1, st=int(StationState.CONTINUOUS_EXECUTION), mode=0, boot=boot, rcp=rcp, rev=FIRST_REVISION, err=0,
            win=WINDOW_MS, hbp=HEARTBEAT_MS, ts=_utc_s(),
        )  # fmt: skip
        self._beat_count = 0
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._link: BrokerLink | None = None

    @property
    def state(self) -> State:
        """What the station says of itself."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """Whether the broker has this station."""
        return self._link is not None and self._link.is_connected

    def start(self) -> None:
        """Begin a worker's life: connect, say the state, beat.

        Raises:
            BrokerError: the broker does not take the connection.
        """
        will = Will(self.topics.state, self._state.as_offline().to_json())
        link = BrokerLink(self._config, Identity(CLIENT_ID, will, ((self.topics.cmd_filter, 1),)))
        events: queue.Queue[Event] = link.listen(Connected, Received)
        self._link, self._ended = link, threading.Event()
        ended = self._ended
        self._threads = [
            threading.Thread(target=self._listen, args=(events, ended), name="fat-station", daemon=True),
            threading.Thread(target=self._pulse, args=(ended,), name="fat-pulse", daemon=True),
        ]
        link.start()
        for thread in self._threads:
            thread.start()
        self.wait_connected()

    def wait_connected(self) -> None:
        """Wait for the broker.

        Raises:
            BrokerError: it does not take the connection in time.
        """
        deadline = time.monotonic() + CONNECT_S
        while not self.is_connected:
            if self._link is None or time.monotonic() > deadline:
                raise BrokerError(f"the played station found no broker: {self._link and self._link.problem}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End as a worker does that is asked to: say goodbye, then disconnect."""
        self._end_threads()
        if self._link is not None:
            self._link.stop()
            self._link = None

    def kill(self) -> None:
        """End as a worker does under kill -9: the socket dies, and the broker says the last will."""
        self._end_threads()
        link, self._link = self._link, None
        if link is None:
            return
        before = link.connections
        link.abort("killed")
        while link.is_connected and link.connections == before:  # else `stop` would still say goodbye
            time.sleep(0.005)
        link.stop()

    def restart(self, *, seq: int = 0) -> None:
        """Stop, and begin as the next boot."""
        self.stop()
        self.begin_anew(seq=seq)

    def begin_anew(self, *, seq: int = 0) -> None:
        """Start as the next boot; its first verdict follows `seq`."""
        self.seq = seq
        self._state = self._state.model_copy(update={"boot": self._state.boot % U16_MAX + 1})
        self.start()

    def say_state(self, **changes: Any) -> None:
        """Publish the state, with what has changed."""
        self._state = self._state.model_copy(update={**changes, "ts": _utc_s()})
        self.send(self.topics.state, self._state.to_json(), retain=True)

    def beat(self) -> None:
        """Send a heartbeat now."""
        self._beat_count = self._beat_count % U32_MAX + 1
        self.send(self.topics.hb, self.heartbeat().to_json(), qos=0)
        self.last_beat_s = time.monotonic()

    def heartbeat(self) -> Heartbeat:
        """The heartbeat as it would be sent now."""
        frozen_s = 0.0 if self.frozen_since_s is None else time.monotonic() - self.frozen_since_s
        return Heartbeat(
            boot=self._state.boot, n=self._beat_count, st=self._state.st, age=saturate(frozen_s * 1000, U32_MAX), q=0,
            seq=self.seq,
        )  # fmt: skip

    def verdict(self, trg: int, /, **changes: Any) -> Result:
        """An OK for a part, with what is different about it; takes the next `seq` unless one is given."""
        if "seq" not in changes:
            self.seq = next_seq(self.seq)
        values: dict[str, Any] = {
            "boot": self._state.boot, "seq": self.seq, "trg": trg, "res": 1, "err": 0, "flg": 0, "rcp": self._state.rcp,
            "rev": self._state.rev, "scr": 500, "roi": 0, "lat": 40, "ts": _utc_s(), "ms": 0, "part": f"FAT-{trg}",
        }  # fmt: skip
        return Result(**{**values, **changes})

    @property
    def verdicts(self) -> str:
        """The topic that the PLC reads verdicts on."""
        return self.topics.of(self.wire.kind)

    def send_result(self, result: Result, **fields: int) -> None:
        """Publish a verdict; `fields` are put in as they are, also what no station may send."""
        self.send_raw(self.wire.payload(result, **fields))

    def send_raw(self, payload: bytes) -> None:
        """Publish where verdicts are read, whatever it is."""
        self.send(self.verdicts, payload)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, if there is a connection; nothing is kept for later."""
        if self._link is not None:
            self._link.publish(topic, payload, qos=qos, retain=retain)

    def _end_threads(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _pulse(self, ended: threading.Event) -> None:
        while not ended.wait(
            max(0.0, self.last_beat_s + HEARTBEAT_MS / 1000 - time.monotonic()) if self.beats else 0.01
        ):
            if self.beats and self.is_connected:
                self.beat()
            elif self.beats:
                ended.wait(0.02)

    def _listen(self, events: "queue.Queue[Event]", ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                event = events.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(event, Connected):
                if self.says_state:
                    self.say_state()
                    self.beat()
            elif isinstance(event, Received):
                name = self.topics.command_name(event.topic) or ""
                self._obey(name, read_command(name, event.payload, retained=event.retained))

    def _obey(self, name: str, command: CommandMessage | RefusedCommand) -> None:
        """Answer a command; triggers are answered by verdicts, and those by the test."""
        if isinstance(command, RefusedCommand):
            self.refused.append(command.code)
            self._answer(name, command.cid, command.code)
        elif isinstance(command, SelectRecipe) and self.keeps_product:
            self._answer(name, command.cid, AckCode.BUSY)
        elif not isinstance(command, Trigger):
            self._answer(name, command.cid, AckCode.ACCEPTED)
            changes = {"rcp": command.rcp, "rev": command.rev or 1} if isinstance(command, SelectRecipe) else {}
            self.say_state(**changes)
            self._answer(name, command.cid, AckCode.DONE)

    def _answer(self, name: str, cid: int, code: AckCode) -> None:
        command = "".join(sign for sign in name[:32] if sign.isascii() and (sign.isalnum() or sign == "_"))
        ack = Ack(cid=cid, cmd=command, code=int(code), st=self._state.st, err=0, lat=1)
        self.send(self.topics.ack, ack.to_json())


def _utc_s() -> int:
    return int(time.time())
