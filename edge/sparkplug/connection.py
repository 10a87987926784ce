"""The Sparkplug connection: a thread of its own with one MQTT session after the other.

May import the contract, the configuration and `reporter`. Whatever happens here (no broker, a broker that hangs, a dead
thread) no verdict is late or lost: the verdict path only puts a small record into a bounded backlog. MQTT 3.1.1 is
spoken always: the specification asks nothing more of MQTT 5 than other ways to say the same.
"""

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion

from edge.sparkplug.readings import NODE_TYPES, StationReadings
from edge.sparkplug.reporter import Backlog, Reporter
from edge.verdicts import Statement
from inspector.config import SparkplugConfig
from inspector.contract.link import backoff_s
from inspector.contract.messages import U16_MAX, saturate
from inspector.contract.session import (
    Acknowledged,
    Event,
    Identity,
    Received,
    Session,
    Token,
    UnreachableError,
    Will,
)
from inspector.contract.sparkplug.node import PERIOD, EdgeNode, Heard, Names, Outgoing
from inspector.errors import BrokerError

log = logging.getLogger(__name__)

EVENT_QUEUE_SIZE = 10_000
TICK_S = 0.2
FLUSH_S = 1.0
GOODBYE_S = 1.0
STOP_S = 4.0
STEADY_S = 5.0


class SparkplugNode:
    """The edge node of one station. Nothing that is called from other threads blocks or raises."""

    def __init__(self, config: SparkplugConfig, station: str, readings: StationReadings, data_path: Path) -> None:
        self._config = config
        self._client_id = f"{station}-sparkplug"
        self._number = BirthNumber(data_path / f"{station}.bdseq")
        names = Names(config.group_id, config.edge_node_id or station, config.device_id, config.primary_host_id)
        self._node = EdgeNode(names, NODE_TYPES, readings.device_types, self._number.read())
        self._backlog = Backlog(config.backlog)
        self._reporter = Reporter(self._node, readings, self._backlog)
        self._events: queue.Queue[Event] = queue.Queue(EVENT_QUEUE_SIZE)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sparkplug", daemon=True)
        self._sessions = 0
        self._lost_offers = 0
        self._problem = "not started"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what can still be sent within a second, say the NDEATH, and leave; never waits long."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_S)

    def offer(self, statement: Statement) -> None:
        """Take a published verdict in, without its picture; never blocks, never raises."""
        try:
            age_s = time.monotonic() - statement.answer.part.captured_monotonic_s
            self._backlog.offer(statement.result, saturate(age_s * 1000, U16_MAX))
            self._wake.set()
        except Exception:  # SCADA must never end the inspection, whatever is wrong here
            self._lost_offers += 1
            log.exception("a verdict could not be kept for Sparkplug")

    def status(self) -> dict[str, Any]:
        """For the station's status row."""
        return {
            "phase": self._node.phase.name.lower(),
            "problem": self._problem if self._thread.is_alive() else "the thread has ended",
            "bd_seq": self._node.bd_seq,
            "births": self._node.births,
            "backlog": len(self._backlog),
            "dropped": self._backlog.dropped + self._lost_offers,
            "refused_writes": self._node.refused_writes,
        }

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began_monotonic_s = time.monotonic()
            try:
                problem = self._live_through_one_session()
            except BrokerError as error:
                problem = str(error)
            except Exception as error:  # whatever fails here, SCADA is told again with the next session
                log.exception("the Sparkplug session failed")
                problem = f"internal: {error}"
            self._reporter.lost()
            if self._stopping.is_set():
                break
            self._tell_problem(problem)
            attempt = 0 if time.monotonic() - began_monotonic_s > STEADY_S else attempt + 1
            self._stopping.wait(backoff_s(attempt, random.random()))  # noqa: S311 - it only spreads reconnects
        self._problem = "stopped"

    def _live_through_one_session(self) -> str:
        """Gives why it ended. Raises BrokerError where it never began."""
        self._events = queue.Queue(EVENT_QUEUE_SIZE)  # nothing of an old session is heard in a new one
        session = self._new_session()
        try:
            self._open(session)
            self._node.connected()
            self._tell_problem("")
            return self._serve(session)
        except Exception:
            session.abort("given up")  # no DISCONNECT, so that the broker says the NDEATH
            raise
        finally:
            self._node.lost()
            session.close()

    def _new_session(self) -> Session:
        will = self._node.open(_now_ms())
        self._number.write(self._node.bd_seq)
        identity = Identity(self._client_id, Will(will.topic, will.payload, retain=False), self._node.subscriptions)
        self._sessions += 1
        return Session(
            self._config, identity, MQTTProtocolVersion.MQTTv311, number=self._sessions, tell=self._put(self._events)
        )

    def _open(self, session: Session) -> None:
        try:
            session.open()
        except UnreachableError:
            raise
        except BrokerError:
            self._node.connect_sent()
            raise
        self._node.connect_sent()

    def _serve(self, session: Session) -> str:
        """Hear and tell, until the broker, the primary host or the station ends it."""

        def send(message: Outgoing) -> Hashable:
            return _send(session, message)

        stop_at = None
        while not session.ended.is_set():
            if self._hear() is Heard.HOST_OFFLINE:
                self._say_goodbye(session)
                return "the primary host is offline"
            self._reporter.turn(_now_ms(), send)
            if self._stopping.is_set():
                stop_at = time.monotonic() + FLUSH_S if stop_at is None else stop_at
                if self._reporter.is_idle or time.monotonic() > stop_at:
                    self._say_goodbye(session)
                    return "stopped"
            self._wake.wait(TICK_S if stop_at is None else 0.01)
            self._wake.clear()
        return session.problem or "connection lost"

    def _hear(self) -> Heard:
        """Take in what has come; a primary host that went offline ends it at once."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Acknowledged):
                    self._reporter.written(event.token)
                elif isinstance(event, Received):
                    heard = self._node.receive(event.topic, event.payload, retained=event.retained)
                    if heard is Heard.HOST_OFFLINE:
                        return heard
                    if heard in (Heard.REBIRTH, Heard.HOST_ONLINE):
                        log.info("Sparkplug births are due: %s", heard.name)
        return Heard.NOTHING

    def _say_goodbye(self, session: Session) -> None:
        """The NDEATH before the DISCONNECT, which keeps the broker from sending it for us."""
        death = self._node.death(_now_ms())
        said = session.publish(death.topic, death.payload, qos=death.qos, retain=False, expiry_s=None)
        if said is not None:
            with contextlib.suppress(RuntimeError, ValueError):  # not sent: the broker sends the will itself
                said.wait_for_publish(GOODBYE_S)

    def _put(self, events: "queue.Queue[Event]") -> Any:
        """What the network thread may do: put the event on the queue of its session, and wake this thread."""

        def put(event: Event) -> None:
            with contextlib.suppress(queue.Full):
                events.put_nowait(event)
            self._wake.set()

        return put

    def _tell_problem(self, problem: str) -> None:
        """Into the log once, not with every attempt."""
        if problem != self._problem:
            where = f"{self._config.host}:{self._config.port}"
            if problem:
                log.warning("Sparkplug broker %s: %s", where, problem)
            else:
                log.info("connected to the Sparkplug broker %s", where)
            self._problem = problem


class BirthNumber:
    """The bdSeq of the last CONNECT, kept in a file, so that an old will never fits a new birth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: int | None = None

    def read(self) -> int | None:
        """The number of the last run; None, with a warning where a file is there, if there is none."""
        try:
            text = self._path.read_text(encoding="ascii")
            if not (text.isdecimal() and int(text) < PERIOD):
                raise ValueError(f"expected 0 to {PERIOD - 1}, but it holds {text[:20]!r}")
            self._stored = int(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s: the last bdSeq cannot be read, counting begins with 0 again: %s", self._path, error)
        return self._stored

    def write(self, number: int) -> None:
        """Keep the number of the CONNECT that is about to be sent."""
        if number == self._stored:
            return
        partial = self._path.with_suffix(".bdseq.partial")
        try:
            partial.write_text(str(number), encoding="ascii")
            partial.replace(self._path)
            self._stored = number
        except OSError as error:
            log.warning("%s: bdSeq %d cannot be kept for the next start: %s", self._path, number, error)


def _send(session: Session, message: Outgoing) -> Token:
    """Hand a message to the socket. A session that does not take it is over: its numbers would have a gap."""
    info = session.publish(message.topic, message.payload, qos=message.qos, retain=False, expiry_s=None)
    if info is None:
        raise BrokerError(session.problem or "the connection takes no message")
    return Token(session.number, info.mid)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
