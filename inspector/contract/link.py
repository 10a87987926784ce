"""A supervised MQTT link: one session after the other, with a pause that grows, until it is stopped.

May import the configuration, errors and `session`. The station and the virtual PLC both stand on it. Whoever
published something that a lost session had not delivered hears `Lost`, and decides anew what is still worth
sending.
"""

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion

from inspector.config import MqttConfig
from inspector.contract.session import (
    MAX_UNACKNOWLEDGED,
    Connected,
    Event,
    Identity,
    Lost,
    ProtocolRefusedError,
    Received,
    Session,
    Token,
)
from inspector.errors import BrokerError

log = logging.getLogger(__name__)

EVENT_QUEUE_SIZE = 10_000
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 5.0
STEADY_S = 5.0
"""A session that lived so long was a good one: the pauses start small again."""
GOODBYE_S = 2.0


def backoff_s(attempt: int, chance: float) -> float:
    """Pause before an attempt: doubled each time, at most 5 s, half of it by `chance` (0 … 1)."""
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * float(2 ** min(attempt, 16)))
    return longest * (0.5 + 0.5 * chance)


class BrokerLink:
    """Keeps one MQTT connection alive from a thread of its own.

    MQTT 5 is tried first (for the expiry of messages); a broker that refuses it, or does not answer it, gets
    MQTT 3.1.1. Subscriptions are made anew in each session; what was sent to us in between is not caught up.

    Raises:
        BrokerError: the password file or a certificate cannot be used.
    """

    def __init__(
        self,
        config: MqttConfig,
        identity: Identity,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._identity = identity
        self._chance = chance
        self._listeners: list[tuple[queue.Queue[Any], tuple[type[Event], ...]]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None  # an accepted one, or None
        self._telling = threading.Lock()
        self._early: list[Received] = []
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._sessions = 0
        self.connections = 0
        """How many times the broker accepted us."""
        self.failures = 0
        self.dropped_events = 0
        self.problem = "not started"
        """Why there is no connection; empty while there is one."""
        self._new_session()  # a missing password or certificate is said at once, not in a loop

    @property
    def is_connected(self) -> bool:
        session = self._session
        return session is not None and not session.ended.is_set()

    @property
    def capacity(self) -> int:
        """Messages that may be unacknowledged at once; a broker of MQTT 5 may allow fewer than we do."""
        session = self._session
        return session.capacity if session is not None else MAX_UNACKNOWLEDGED

    @property
    def has_expiry(self) -> bool:
        """Whether the broker drops messages by age (MQTT 5)."""
        session = self._session
        return session is not None and session.protocol == MQTTProtocolVersion.MQTTv5

    def listen(self, *kinds: type[Event], into: "queue.Queue[Any] | None" = None) -> "queue.Queue[Any]":
        """Give a queue (or use `into`) that gets every event of these kinds.

        Ask before `start()`, or some are missed. An event that finds the queue full is dropped and counted.
        """
        events: queue.Queue[Any] = queue.Queue(EVENT_QUEUE_SIZE) if into is None else into
        self._listeners.append((events, kinds))
        return events

    def start(self) -> None:
        self._thread = threading.Thread(target=self._supervise, name=f"mqtt-{self._identity.client_id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say the will in person, wait until the broker has it, and leave in good order."""
        session, will = self._session, self._identity.will
        if session is not None and will is not None:
            said = session.publish(will.topic, will.payload, qos=1, retain=will.retain, expiry_s=None)
            if said is not None:
                with contextlib.suppress(RuntimeError, ValueError):  # not sent: the broker sends the will itself
                    said.wait_for_publish(GOODBYE_S)
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry_s: float | None = None,
    ) -> Token | None:
        """Send a message now; None when there is no connection, or it is full. Never waits, never queues.

        `expiry_s` is rounded up to whole seconds, and used where the broker knows it (MQTT 5).
        """
        session = self._session
        if session is None:
            return None
        info = session.publish(topic, payload, qos=qos, retain=retain, expiry_s=expiry_s)
        return None if info is None else Token(session.number, info.mid)

    def subscribe(self, topic: str, qos: int = 1) -> bool:
        """Ask for one more topic until this session ends; False when there is none."""
        session = self._session
        return session is not None and session.subscribe(topic, qos)

    def abort(self, reason: str) -> None:
        """Cut a connection that makes no progress; a new one follows."""
        session = self._session
        if session is not None:
            session.abort(reason)

    def _supervise(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            started_monotonic_s = time.monotonic()
            try:
                self._live_through_one_session()
            except BrokerError as error:
                self.problem = str(error)
            except Exception as error:  # whatever fails here, the station must try again
                log.exception("the MQTT session failed")
                self.problem = f"internal: {error}"
            if self._stopping.is_set():
                break
            self.failures += 1
            attempt = 0 if time.monotonic() - started_monotonic_s > STEADY_S else attempt + 1
            log.warning("MQTT broker %s:%d: %s", self._config.host, self._config.port, self.problem)
            self._stopping.wait(backoff_s(attempt, self._chance()))
        self.problem = "stopped"

    def _live_through_one_session(self) -> None:
        session = self._new_session()
        try:
            try:
                session.open()
            except ProtocolRefusedError:
                v5 = session.protocol == MQTTProtocolVersion.MQTTv5
                self._protocol = MQTTProtocolVersion.MQTTv311 if v5 else MQTTProtocolVersion.MQTTv5
                raise
            self._accept(session)
            while not session.ended.wait(0.2) and not self._stopping.is_set():
                pass
        finally:
            with self._telling:
                was_accepted, self._session = self._session is session, None
            session.close()
            self._early.clear()
            if was_accepted:
                self.problem = session.problem or "connection lost"
                self._tell(Lost(session.number, self.problem))

    def _accept(self, session: Session) -> None:
        """From here on there is a connection; what came before the broker had confirmed all of it is told now."""
        self.connections += 1
        self.problem = ""
        log.info("connected to the MQTT broker %s:%d", self._config.host, self._config.port)
        with self._telling:
            self._session = session
            self._deliver(Connected(session.number))
            for event in self._early:
                self._deliver(event)
            self._early.clear()

    def _new_session(self) -> Session:
        self._sessions += 1
        return Session(self._config, self._identity, self._protocol, number=self._sessions, tell=self._tell)

    def _tell(self, event: Event) -> None:
        """Hand an event on; a message that outruns the confirmation waits for it, or its answer could not be sent."""
        with self._telling:
            if isinstance(event, Received) and self._session is None:
                self._early = [*self._early, event][-EVENT_QUEUE_SIZE:]
            else:
                self._deliver(event)

    def _deliver(self, event: Event) -> None:
        for events, kinds in self._listeners:
            if isinstance(event, kinds):
                try:
                    events.put_nowait(event)
                except queue.Full:
                    self.dropped_events += 1
