"""The life of a Sparkplug edge node with one device: births, data, deaths, sequence numbers, rebirth, primary host.

May import `payload` and errors. No socket, no thread, no clock: what happens is told to it with its time, and what it
gives back is to be sent at once and in this order. A message that cannot be sent ends the session; the next one begins
with `open` again, so that no gap in the sequence numbers is ever seen.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from inspector.contract.sparkplug.payload import (
    DataType,
    HostState,
    Metric,
    Value,
    Write,
    encode,
    read_command,
    read_state,
)
from inspector.errors import ContractError

log = logging.getLogger(__name__)

NAMESPACE = "spBv1.0"
BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
PERIOD = 256
"""`seq` and `bdSeq` go 0 … 255, 0 …"""


@dataclass(frozen=True)
class Names:
    """Who the node is. `primary_host_id` None: the node waits for nobody."""

    group_id: str
    edge_node_id: str
    device_id: str
    primary_host_id: str | None = None

    def node_topic(self, verb: str) -> str:
        return f"{NAMESPACE}/{self.group_id}/{verb}/{self.edge_node_id}"

    def device_topic(self, verb: str) -> str:
        return f"{NAMESPACE}/{self.group_id}/{verb}/{self.edge_node_id}/{self.device_id}"

    @property
    def state_topic(self) -> str | None:
        """Where the primary host says whether it is online."""
        return None if self.primary_host_id is None else f"{NAMESPACE}/STATE/{self.primary_host_id}"


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent, never retained."""

    topic: str
    payload: bytes
    qos: int = 0


class Phase(Enum):
    """Where the node is in its session."""

    CLOSED = auto()
    WAITING = auto()
    """Connected; the primary host is not known to be online."""
    DUE = auto()
    """The births are to be sent, before anything else."""
    ALIVE = auto()


class Heard(Enum):
    """What a message from the broker means for whoever holds the connection."""

    NOTHING = auto()
    REFUSED = auto()
    REBIRTH = auto()
    HOST_ONLINE = auto()
    HOST_OFFLINE = auto()
    """Say `death`, leave the broker, and begin a new session."""


class _Group:
    """Metrics of the node or of its device: types, aliases, and what was last said of each."""

    def __init__(self, types: Mapping[str, DataType], first_alias: int) -> None:
        self.types = dict(types)
        self._aliases = {name: first_alias + place for place, name in enumerate(self.types)}
        self._said: dict[str, Value] = {}

    def birth(self, readings: Mapping[str, Value], times_ms: Mapping[str, int], now_ms: int) -> list[Metric]:
        """Every metric by name, in the order of time; what has no reading is null."""
        unknown = readings.keys() - self.types.keys()
        if unknown:
            raise ContractError(f"no such Sparkplug metrics: {sorted(unknown)}")
        self._said = {name: readings.get(name) for name in self.types}
        metrics = [
            Metric(self.types[name], value, times_ms.get(name, now_ms), name=name, alias=self._aliases[name])
            for name, value in self._said.items()
        ]
        return sorted(metrics, key=lambda metric: metric.timestamp_ms)

    def data(self, readings: Mapping[str, Value], at_ms: int, *, historical: bool = False) -> list[Metric]:
        """These metrics by their aliases; an old value says nothing of the present one."""
        if not historical:
            self._said.update(readings)
        return [
            Metric(self.types[name], value, at_ms, alias=self._aliases[name], is_historical=historical)
            for name, value in readings.items()
        ]

    def changed(self, readings: Mapping[str, Value]) -> dict[str, Value]:
        return {name: value for name, value in readings.items() if self._said[name] != value}


class EdgeNode:
    """One edge node. `last_bd_seq` is that of the last CONNECT of an earlier run; None if there was none.

    Calls that the phase does not allow raise ContractError: a DDATA before its DBIRTH is a fault of ours.
    """

    def __init__(
        self,
        names: Names,
        node_types: Mapping[str, DataType],
        device_types: Mapping[str, DataType],
        last_bd_seq: int | None = None,
    ) -> None:
        self.names = names
        self.phase = Phase.CLOSED
        self.device_is_alive = False
        self.refused_writes = 0
        self.births = 0
        self.bd_seq = PERIOD - 1 if last_bd_seq is None else last_bd_seq
        self._node = _Group({BD_SEQ: DataType.INT64, **node_types}, 1)
        self._device = _Group(device_types, 2 + len(node_types))
        self._seq = 0
        self._host_timestamp_ms: int | None = None
        self._was_connecting = False
        self._was_born = False

    @property
    def subscriptions(self) -> tuple[tuple[str, int], ...]:
        """Filters with their QoS, to be subscribed before `connected`."""
        topics = [self.names.node_topic("NCMD"), self.names.device_topic("DCMD"), self.names.state_topic]
        return tuple((topic, 1) for topic in topics if topic is not None)

    def open(self, now_ms: int) -> Outgoing:
        """Begin a session: the NDEATH that the CONNECT is to carry as its will, with the next bdSeq."""
        self.phase = Phase.CLOSED
        self.device_is_alive = False
        if not self._was_connecting:
            self.bd_seq = (self.bd_seq + 1) % PERIOD
        self._was_connecting = True
        self._was_born = False
        return self._ndeath(now_ms)

    def connect_sent(self) -> None:
        """The CONNECT of this session has left; the next one counts bdSeq on. Nobody there: the number stays free."""
        self._was_connecting = False

    def connected(self) -> None:
        """The broker accepted the session and the subscriptions."""
        self.phase = Phase.DUE if self.names.state_topic is None else Phase.WAITING

    def receive(self, topic: str, payload: bytes, *, retained: bool) -> Heard:
        """Take a message from the broker in; the phase follows it."""
        to_node = topic == self.names.node_topic("NCMD")
        is_command = to_node or topic == self.names.device_topic("DCMD")
        try:
            if is_command:
                return self._obey(read_command(payload), retained=retained, to_node=to_node)
            if topic == self.names.state_topic:
                return self._hear_host(read_state(payload))
        except ContractError as error:
            log.warning("%s: %s", topic, error)
            return self._refuse(1) if is_command else Heard.NOTHING
        return Heard.NOTHING

    def birth(self, readings: Mapping[str, Value], now_ms: int) -> Outgoing:
        """NBIRTH; if the device is alive, `device_birth` must be the next call."""
        self._expect(Phase.DUE)
        self.phase = Phase.ALIVE
        self.device_is_alive = False
        self._was_born = True
        self.births += 1
        self._seq = 0
        metrics = self._node.birth({BD_SEQ: self.bd_seq, **readings}, {}, now_ms)
        metrics.append(Metric(DataType.BOOLEAN, False, now_ms, name=REBIRTH))  # without an alias, by the specification
        payload = encode(metrics, timestamp_ms=now_ms, seq=self._seq, with_types=True)
        return Outgoing(self.names.node_topic("NBIRTH"), payload)

    def device_birth(self, readings: Mapping[str, Value], times_ms: Mapping[str, int], now_ms: int) -> Outgoing:
        """DBIRTH; `times_ms` has the times of values that are older than this moment."""
        self._expect(Phase.ALIVE)
        self.device_is_alive = True
        return self._say("DBIRTH", self._device.birth(readings, times_ms, now_ms), now_ms, with_types=True)

    def node_changes(self, readings: Mapping[str, Value], now_ms: int) -> Outgoing | None:
        """NDATA of what has changed; None if nothing has."""
        self._expect(Phase.ALIVE)
        changed = self._node.changed(readings)
        return self._say("NDATA", self._node.data(changed, now_ms), now_ms) if changed else None

    def device_changes(self, readings: Mapping[str, Value], now_ms: int) -> Outgoing | None:
        """DDATA of what has changed; None if nothing has."""
        self._expect_device()
        changed = self._device.changed(readings)
        return self._say("DDATA", self._device.data(changed, now_ms), now_ms) if changed else None

    def device_data(self, readings: Mapping[str, Value], at_ms: int, now_ms: int, *, historical: bool) -> Outgoing:
        """DDATA of one event, with all its metrics and their common time."""
        self._expect_device()
        return self._say("DDATA", self._device.data(readings, at_ms, historical=historical), now_ms)

    def device_death(self, now_ms: int) -> Outgoing:
        """DDEATH: the device gives no data any more."""
        self._expect_device()
        self.device_is_alive = False
        return self._say("DDEATH", [], now_ms)

    def death(self, now_ms: int) -> Outgoing:
        """NDEATH, to be sent before a DISCONNECT; the session is over."""
        self.phase = Phase.CLOSED
        self._was_born = False
        self.device_is_alive = False
        return self._ndeath(now_ms)

    def lost(self) -> None:
        """The connection is gone, or never was; the broker says the NDEATH of a node that did not."""
        self.phase = Phase.CLOSED
        self.device_is_alive = False

    def _hear_host(self, state: HostState) -> Heard:
        """A STATE message that is older than the last one does not count."""
        if self._host_timestamp_ms is not None and state.timestamp < self._host_timestamp_ms:
            log.info("an old STATE message of the primary host is ignored: %d", state.timestamp)
            return Heard.NOTHING
        self._host_timestamp_ms = state.timestamp
        if state.online and self.phase is Phase.WAITING:
            self.phase = Phase.DUE
            return Heard.HOST_ONLINE
        if not state.online and self._was_born:
            return Heard.HOST_OFFLINE
        if not state.online and self.phase is Phase.DUE:
            self.phase = Phase.WAITING
        return Heard.NOTHING

    def _obey(self, writes: list[Write], *, retained: bool, to_node: bool) -> Heard:
        """The one command there is; every other write is refused and counted, and so is a retained command."""
        rebirths = [write for write in writes if to_node and write.name == REBIRTH and isinstance(write.value, bool)]
        if retained:
            return self._refuse(len(writes))
        heard = self._refuse(len(writes) - len(rebirths)) if len(rebirths) < len(writes) else Heard.NOTHING
        if any(write.value for write in rebirths) and self.phase in (Phase.ALIVE, Phase.DUE):
            self.phase = Phase.DUE
            return Heard.REBIRTH
        return heard

    def _refuse(self, count: int) -> Heard:
        self.refused_writes += count
        log.warning("a Sparkplug command was refused: the contract with the PLC is the only way to command the station")
        return Heard.REFUSED

    def _say(self, verb: str, metrics: list[Metric], now_ms: int, *, with_types: bool = False) -> Outgoing:
        self._seq = (self._seq + 1) % PERIOD
        topic = self.names.node_topic(verb) if verb.startswith("N") else self.names.device_topic(verb)
        return Outgoing(topic, encode(metrics, timestamp_ms=now_ms, seq=self._seq, with_types=with_types))

    def _ndeath(self, now_ms: int) -> Outgoing:
        metric = Metric(DataType.INT64, self.bd_seq, now_ms, name=BD_SEQ)
        payload = encode([metric], timestamp_ms=now_ms, seq=None, with_types=True)
        return Outgoing(self.names.node_topic("NDEATH"), payload, qos=1)

    def _expect(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise ContractError(f"the Sparkplug node must be {phase.name}, but is {self.phase.name}")

    def _expect_device(self) -> None:
        self._expect(Phase.ALIVE)
        if not self.device_is_alive:
            raise ContractError(
                f"the Sparkplug device {self.names.device_id} must be born before it says anything else"
            )
