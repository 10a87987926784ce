"""Who listens beside the station, and who disturbs it: clients of their own on the same broker.

May import the configuration and the contract. The observer lives on while the played station is killed, so that no
receipt of that time is missed; the third party leaves retained messages where they do not belong, and takes them away.
"""

import queue
import threading
import time
from types import TracebackType
from typing import Self

from inspector.config import MqttConfig
from inspector.contract.link import BrokerLink
from inspector.contract.messages import State, Trigger, read_command
from inspector.contract.reports import Disposition
from inspector.contract.session import Event, Identity, Received
from inspector.contract.topics import Topics
from inspector.errors import BrokerError, ContractError
from inspector.fat.ledger import Ledger
from inspector.fat.station import CLIENT_ID, CONNECT_S

SEEN_S = 3.0
PROBE = b"{}"
"""A heartbeat that is none, for every reader."""


class NotPossibleError(BrokerError):
    """A fault cannot be played here; the text says why. It is reported as not run, never as passed."""


class Observer:
    """Writes triggers and receipts into the ledger, from a connection of its own."""

    def __init__(self, config: MqttConfig, ledger: Ledger) -> None:
        self.topics = Topics(config.prefix)
        self.state: State | None = None
        """What was last said on `state`, by whomever."""
        self.heartbeats = 0
        self.echoed = threading.Event()
        """Whether a probe of `hears` has come back."""
        self.malformed = 0
        """Receipts that are none."""
        self._ledger = ledger
        kinds = ("disp", "state", "hb")
        subscriptions = ((self.topics.cmd("trigger"), 1), *((self.topics.of(kind), 1) for kind in kinds))
        self._link = BrokerLink(config, Identity(f"{CLIENT_ID}-observer", subscriptions=subscriptions))
        self._events: queue.Queue[Event] = self._link.listen(Received)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="fat-observer", daemon=True)

    def start(self) -> None:
        """Connect and listen.

        Raises:
            BrokerError: the broker does not take the connection.
        """
        self._link.start()
        self._thread.start()
        try:
            self.wait_connected()
        except BrokerError:
            self.stop()
            raise

    def wait_connected(self) -> None:
        """Wait for the broker.

        Raises:
            BrokerError: it does not take the connection in time.
        """
        deadline = time.monotonic() + CONNECT_S
        while not self._link.is_connected:
            if time.monotonic() > deadline:
                raise BrokerError(f"the acceptance test found no broker: {self._link.problem}")
            time.sleep(0.01)

    @property
    def is_connected(self) -> bool:
        return self._link.is_connected

    def hears(self) -> bool:
        """Whether this login may say and hear what a station says: a silent one would take a running station for none."""
        self._link.publish(self.topics.hb, PROBE, qos=1)
        return self.echoed.wait(SEEN_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish something that did not come from the station's own connection."""
        self._link.publish(topic, payload, qos=1, retain=retain)

    def stop(self) -> None:
        """Disconnect."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._link.stop()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                event = self._events.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(event, Received):
                self._take(event)

    def _take(self, event: Received) -> None:
        kind = self.topics.kind(event.topic)
        if kind == "cmd/trigger" and not event.retained:
            command = read_command("trigger", event.payload, retained=False)
            if isinstance(command, Trigger):
                self._ledger.triggered(command.trg)
        elif kind == "hb" and event.payload == PROBE:
            self.echoed.set()
        elif kind == "hb" and not event.retained:
            self.heartbeats += 1
        elif kind in ("disp", "state"):
            try:
                if kind == "state":
                    self.state = State.from_json(event.payload)
                elif not event.retained:
                    self._ledger.told(Disposition.from_json(event.payload))
            except ContractError:
                self.malformed += kind == "disp"


class ThirdParty:
    """Somebody else on the broker who leaves retained messages; at the end of the `with` block they are taken away."""

    def __init__(self, config: MqttConfig, *topics: str) -> None:
        identity = Identity(f"{CLIENT_ID}-third-party", subscriptions=tuple((topic, 1) for topic in topics))
        self._link = BrokerLink(config, identity)
        self._events: queue.Queue[Event] = self._link.listen(Received)
        self._left: set[str] = set()

    def leave(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, and see that the broker passes it on.

        Raises:
            NotPossibleError: it does not; its rights protect the PLC before the gate does.
        """
        self._left.add(topic)
        self._link.publish(topic, payload, qos=1, retain=True)
        deadline = time.monotonic() + SEEN_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left_s)
            except queue.Empty:
                break
            if isinstance(event, Received) and (event.topic, event.payload) == (topic, payload):
                return
        raise NotPossibleError(f"the broker does not pass on what a third party publishes on {topic}")

    def __enter__(self) -> Self:
        self._link.start()
        deadline = time.monotonic() + CONNECT_S
        while not self._link.is_connected:
            if time.monotonic() > deadline:
                self._link.stop()
                raise NotPossibleError(f"the broker takes no third party: {self._link.problem}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for topic in self._left:
            self._link.publish(topic, b"", qos=1, retain=True)
        self._link.stop()
