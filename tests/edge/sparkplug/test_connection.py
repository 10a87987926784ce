"""The Sparkplug connection on a real mosquitto, and on a socket that shows what stands in its CONNECT."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from pydantic import ValidationError

from edge.sparkplug.connection import STOP_S, BirthNumber, SparkplugNode
from inspector.config import SparkplugConfig
from inspector.contract.broker import find_mosquitto, free_port
from inspector.contract.sparkplug.node import REBIRTH
from tests.brokers import TestBroker, Witness, wait_until
from tests.contract.sparkplug.wire import Connect, WirePayload, command, read_connect, read_payload
from tests.edge.sparkplug.station import FakeReadings, statement

HOST = "scada"
STATE = f"spBv1.0/STATE/{HOST}"
SAID_BY_NODES = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH", "NDEATH")
NCMD = "spBv1.0/inspection/NCMD/station1"
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


class Host(Witness):
    """Hears everything in the name space, with its QoS."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, WirePayload, int, bool]] = []
        super().__init__(port, "spBv1.0/#")

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        verb = message.topic.split("/")[2]
        if verb in SAID_BY_NODES:
            self.heard.append((verb, read_payload(message.payload), message.qos, message.retain))
        super()._on_message(client, data, message)

    def all(self, verb: str) -> list[WirePayload]:
        return [payload for name, payload, _, _ in list(self.heard) if name == verb]

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _, _, _ in list(self.heard)]

    def say(self, online: bool, timestamp: int) -> None:
        self.publish(STATE, json.dumps({"online": online, "timestamp": timestamp}).encode(), retain=True)

    def device_values(self) -> dict[str, Any]:
        """The present value of each metric of the device."""
        names: dict[int, str] = {}
        values: dict[str, Any] = {}
        for verb, payload, _, _ in list(self.heard):
            if verb == "DBIRTH":
                names = {metric.alias: metric.name for metric in payload.metrics}
            if verb in ("DBIRTH", "DDATA"):
                values |= {names[metric.alias]: metric.value for metric in payload.metrics if not metric.is_historical}
        return values

    def verdicts(self) -> list[tuple[int, bool]]:
        """Sequence of the station and whether it came as history."""
        births = self.all("DBIRTH")
        alias = births[-1].named("Verdict/Sequence").alias if births else None
        return [
            (metric.value, bool(metric.is_historical))
            for payload in self.all("DDATA")
            for metric in payload.metrics
            if metric.alias == alias
        ]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TestBroker]:
    running = TestBroker("mosquitto", tmp_path / "broker")
    yield running
    running.close()


@pytest.fixture
def host(broker: TestBroker) -> Iterator[Host]:
    listening = Host(broker.port)
    yield listening
    listening.close()


Make = Callable[..., SparkplugNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A started node; it is stopped in the end."""
    made: list[SparkplugNode] = []

    def start(port: int, readings: Any = None, **config: Any) -> SparkplugNode:
        settings = SparkplugConfig(port=port, enabled=True, **config)
        node = SparkplugNode(settings, "station1", readings or FakeReadings(), tmp_path)
        made.append(node)
        node.start()
        return node

    yield start
    for node in made:
        node.stop()


def offer(node: SparkplugNode, first: int, count: int = 1) -> None:
    for seq in range(first, first + count):
        node.offer(statement(seq))


@needs_mosquitto
@pytest.mark.tck(
    "tck-id-payloads-nbirth-qos",
    "tck-id-payloads-nbirth-retain",
    "tck-id-payloads-dbirth-qos",
    "tck-id-payloads-dbirth-retain",
    "tck-id-payloads-ndata-qos",
    "tck-id-payloads-ndata-retain",
    "tck-id-payloads-ddata-qos",
    "tck-id-payloads-ddata-retain",
    "tck-id-topics-nbirth-mqtt",
    "tck-id-topics-dbirth-mqtt",
    "tck-id-topics-ndata-mqtt",
    "tck-id-topics-ddata-mqtt",
    "tck-id-topics-ddeath-mqtt",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-qos",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-retained",
    "tck-id-message-flow-device-birth-publish-dbirth-qos",
    "tck-id-message-flow-device-birth-publish-dbirth-retained",
)
def test_everything_but_the_ndeath_is_published_with_qos_0_and_nothing_is_retained(
    broker: TestBroker, host: Host, make: Make
) -> None:
    readings = FakeReadings()
    node = make(broker.port, readings)
    offer(node, 1)
    wait_until(lambda: "DDATA" in host.verbs)
    host.publish(NCMD, command("Properties/Boot", number=1))
    wait_until(lambda: "NDATA" in host.verbs)
    readings.device_is_alive = False
    wait_until(lambda: "DDEATH" in host.verbs)
    node.stop()
    wait_until(lambda: "NDEATH" in host.verbs)

    assert host.verbs[:2] == ["NBIRTH", "DBIRTH"]
    assert {verb: qos for verb, _, qos, _ in host.heard} == {
        "NBIRTH": 0,
        "DBIRTH": 0,
        "NDATA": 0,
        "DDATA": 0,
        "DDEATH": 0,
        "NDEATH": 1,
    }
    assert not any(retained for _, _, _, retained in host.heard)
    late = Host(broker.port)
    assert late.heard == []
    late.close()


@needs_mosquitto
@pytest.mark.tck(
    "tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath",
    "tck-id-operational-behavior-edge-node-intentional-disconnect-packet",
    "tck-id-payloads-ndeath-will-message-publisher",
    "tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311",
)
def test_a_clean_stop_says_ndeath_once_and_the_broker_does_not_repeat_it(
    broker: TestBroker, host: Host, make: Make
) -> None:
    node = make(broker.port)
    wait_until(lambda: "DBIRTH" in host.verbs)
    offer(node, 1, 50)
    node.stop()
    host.publish("spBv1.0/STATE/end", b"")  # an unsent will would have been sent before this
    wait_until(lambda: host.of("spBv1.0/STATE/end"))
    assert host.verbs[-1] == "NDEATH"
    assert host.verbs.count("NDEATH") == 1
    assert host.verdicts() == [(seq, False) for seq in range(1, 51)]
    assert node.status()["problem"] == "the thread has ended"


STATION = """
import sys, time
from pathlib import Path
from edge.sparkplug.connection import SparkplugNode
from inspector.config import SparkplugConfig
from tests.edge.sparkplug.station import FakeReadings
SparkplugNode(SparkplugConfig(port=int(sys.argv[1])), "station1", FakeReadings(), Path(sys.argv[2])).start()
time.sleep(60)
"""


@needs_mosquitto
@pytest.mark.tck("tck-id-payloads-ndeath-will-message", "tck-id-message-flow-edge-node-birth-publish-will-message")
def test_when_the_worker_is_killed_the_broker_says_its_ndeath_and_the_next_run_counts_on(
    broker: TestBroker, host: Host, make: Make, tmp_path: Path
) -> None:
    BirthNumber(tmp_path / "station1.bdseq").write(254)
    station = subprocess.Popen([sys.executable, "-c", STATION, str(broker.port), str(tmp_path)])
    wait_until(lambda: host.all("DBIRTH"), 60)
    station.kill()
    station.wait()
    wait_until(lambda: host.all("NDEATH"))
    make(broker.port)
    wait_until(lambda: len(host.all("NBIRTH")) == 2)
    assert [birth.named("bdSeq").value for birth in host.all("NBIRTH")] == [255, 0]
    assert [death.named("bdSeq").value for death in host.all("NDEATH")] == [255]


@needs_mosquitto
@pytest.mark.tck(
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-verb",
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-name",
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-value",
)
def test_a_rebirth_request_among_verdicts_is_followed_by_complete_births(
    broker: TestBroker, host: Host, make: Make
) -> None:
    node = make(broker.port)
    wait_until(lambda: "DBIRTH" in host.verbs)
    offer(node, 1, 30)
    host.publish(NCMD, command(REBIRTH, flag=True))
    wait_until(lambda: host.verbs.count("DBIRTH") == 2)
    offer(node, 31, 30)
    wait_until(lambda: len(host.verdicts()) == 60)

    place = len(host.verbs) - 1 - host.verbs[::-1].index("NBIRTH")
    assert host.verbs[place + 1] == "DBIRTH"
    after = [payload.seq for _, payload, _, _ in host.heard[place:]]
    assert after == list(range(len(after)))
    assert {birth.named("bdSeq").value for birth in host.all("NBIRTH")} == {0}
    assert [seq for seq, _ in host.verdicts()] == list(range(1, 61))


@needs_mosquitto
@pytest.mark.tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-wait",
    "tck-id-message-flow-edge-node-birth-publish-phid-offline",
    "tck-id-operational-behavior-edge-node-termination-host-offline",
    "tck-id-operational-behavior-edge-node-termination-host-offline-reconnect",
    "tck-id-operational-behavior-edge-node-termination-host-offline-timestamp",
)
def test_the_primary_host_is_waited_for_and_its_absence_ends_the_session(
    broker: TestBroker, host: Host, make: Make
) -> None:
    node = make(broker.port, primary_host_id=HOST)
    wait_until(lambda: node.status()["phase"] == "waiting")
    offer(node, 1, 3)
    host.say(False, 10)
    host.publish("spBv1.0/STATE/other", b'{"online":true,"timestamp":99}')
    host.say(True, 9)  # older than what was said
    wait_until(lambda: len(host.of(STATE)) == 2)
    assert host.heard == []

    host.say(True, 11)
    wait_until(lambda: len(host.verdicts()) == 3)
    host.say(False, 10)  # an old death
    host.say(False, 12)
    wait_until(lambda: "NDEATH" in host.verbs)
    wait_until(lambda: node.status()["phase"] == "waiting")
    offer(node, 4, 5)
    assert host.verbs[-1] == "NDEATH"

    host.say(True, 13)
    wait_until(lambda: len(host.verdicts()) == 8)
    assert host.verdicts() == [(seq, True) for seq in range(1, 9)]
    assert [birth.named("bdSeq").value for birth in host.all("NBIRTH")] == [0, 1]
    assert [death.named("bdSeq").value for death in host.all("NDEATH")] == [0]
    assert node.status()["backlog"] == node.status()["dropped"] == 0


@needs_mosquitto
def test_a_broker_that_dies_and_comes_back_gets_new_births_and_what_waited(
    broker: TestBroker, host: Host, make: Make
) -> None:
    node = make(broker.port)
    wait_until(lambda: "DBIRTH" in host.verbs)
    broker.kill()
    wait_until(lambda: node.status()["problem"])
    offer(node, 1, 200)
    assert node.status()["backlog"] == 200

    broker.restart()
    wait_until(lambda: host.subscriptions == 2 and node.status()["births"] == 2)
    host.publish(NCMD, command(REBIRTH, flag=True))  # the first births may have come before the host was back
    wait_until(lambda: node.status()["births"] == 3 and host.all("DBIRTH")[-1].named("Count/OK").value == 200)
    offer(node, 201)
    wait_until(lambda: (201, False) in host.verdicts())
    assert host.all("NBIRTH")[-1].named("bdSeq").value == 1
    assert node.status()["backlog"] == node.status()["dropped"] == 0


@needs_mosquitto
@pytest.mark.tck("tck-id-payloads-timestamp-in-UTC", "tck-id-payloads-metric-timestamp-in-UTC")
def test_times_are_milliseconds_of_utc(broker: TestBroker, host: Host, make: Make) -> None:
    before_ms = int(datetime.now(UTC).timestamp() * 1000)
    make(broker.port)
    wait_until(lambda: "DBIRTH" in host.verbs)
    after_ms = int(datetime.now(UTC).timestamp() * 1000) + 1
    for payload in host.all("NBIRTH") + host.all("DBIRTH"):
        times = [payload.timestamp, *(metric.timestamp for metric in payload.metrics)]
        assert all(time_ms is not None and before_ms <= time_ms <= after_ms for time_ms in times)


@pytest.mark.tck(
    "tck-id-intro-group-id-string",
    "tck-id-intro-group-id-chars",
    "tck-id-intro-edge-node-id-string",
    "tck-id-intro-edge-node-id-chars",
    "tck-id-intro-device-id-string",
    "tck-id-intro-device-id-chars",
    "tck-id-topic-structure-namespace-valid-group-id",
    "tck-id-topic-structure-namespace-valid-edge-node-id",
    "tck-id-topic-structure-namespace-valid-device-id",
)
@pytest.mark.parametrize("key", ["group_id", "edge_node_id", "device_id", "primary_host_id"])
def test_an_identifier_that_would_break_a_topic_is_refused(key: str) -> None:
    for wrong in ("a+b", "a/b", "#", "", "a\0", "a\nb"):
        with pytest.raises(ValidationError, match=key):
            SparkplugConfig.model_validate({key: wrong})
    assert getattr(SparkplugConfig.model_validate({key: "Halle 3 – Süd"}), key) == "Halle 3 – Süd"


@needs_mosquitto
def test_a_broker_that_hangs_neither_delays_an_offer_nor_the_stop(broker: TestBroker, host: Host, make: Make) -> None:
    node = make(broker.port, backlog=500)
    wait_until(lambda: "DBIRTH" in host.verbs)
    broker.freeze()
    started = time.monotonic()
    offer(node, 1, 5000)
    assert time.monotonic() - started < 2.0
    started = time.monotonic()
    node.stop()
    assert time.monotonic() - started < STOP_S + 1.0
    broker.thaw()


@needs_mosquitto
def test_after_a_fault_of_ours_the_broker_says_the_ndeath_and_a_new_session_follows(
    broker: TestBroker, host: Host, make: Make
) -> None:
    readings = FakeReadings()
    node = make(broker.port, readings)
    wait_until(lambda: "DBIRTH" in host.verbs)
    readings.code = 999  # fits no UInt8
    wait_until(lambda: "NDEATH" in host.verbs)
    readings.code = 3
    wait_until(lambda: host.verbs[-1] == "DBIRTH" and host.all("NDEATH"))
    assert host.all("NDEATH")[0].named("bdSeq").value == 0
    assert host.all("NBIRTH")[-1].named("bdSeq").value >= 1
    offer(node, 1)
    wait_until(lambda: host.verdicts() == [(1, False)])


@needs_mosquitto
def test_a_refused_login_is_told_with_the_keys_to_look_at(tmp_path: Path, make: Make) -> None:
    password_file = tmp_path / "passwords"
    password_file.write_text("")
    closed = TestBroker("mosquitto", tmp_path / "closed", password_file)
    node = make(closed.port)
    wait_until(lambda: "sparkplug.username" in node.status()["problem"])
    closed.close()


def test_a_missing_password_file_is_a_problem_of_sparkplug_alone(tmp_path: Path, make: Make) -> None:
    node = make(free_port(), username="x", password_file=tmp_path / "nothing")
    wait_until(lambda: "sparkplug.password_file" in node.status()["problem"])
    offer(node, 1)
    assert node.status()["backlog"] == 1


def test_offers_never_raise_whatever_is_wrong(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make(free_port(), backlog=2)
    offer(node, 1, 5)
    assert (node.status()["backlog"], node.status()["dropped"]) == (2, 3)
    monkeypatch.setattr(node._backlog, "offer", None)
    offer(node, 6)
    assert node.status()["dropped"] == 4


def test_a_dead_thread_costs_nothing_but_the_view_of_scada(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    monkeypatch.setattr(SparkplugNode, "_live_through_one_session", lambda _self: sys.exit("dead"))
    node = make(free_port(), backlog=5)
    wait_until(lambda: node.status()["problem"] == "the thread has ended")
    offer(node, 1, 9)
    assert (node.status()["backlog"], node.status()["dropped"]) == (5, 4)
    started = time.monotonic()
    node.stop()
    assert time.monotonic() - started < 1.0


class Listener:
    """A TCP server that keeps each CONNECT and hangs up."""

    def __init__(self) -> None:
        self.connects: list[Connect] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection:
                    self.connects.append(read_connect(connection.recv(4096)))

    def close(self) -> None:
        self._server.close()


@pytest.mark.tck(
    "tck-id-message-flow-edge-node-birth-publish-will-message",
    "tck-id-message-flow-edge-node-birth-publish-will-message-topic",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
    "tck-id-message-flow-edge-node-birth-publish-will-message-qos",
    "tck-id-message-flow-edge-node-birth-publish-will-message-will-retained",
    "tck-id-payloads-ndeath-will-message",
    "tck-id-payloads-ndeath-will-message-qos",
    "tck-id-payloads-ndeath-will-message-retain",
    "tck-id-principles-persistence-clean-session-311",
    "tck-id-topics-nbirth-bdseq-increment",
)
def test_each_connect_has_a_clean_session_and_an_ndeath_with_the_next_bd_seq_as_its_will(make: Make) -> None:
    listener = Listener()
    make(listener.port, group_id="plant", edge_node_id="node7")
    wait_until(lambda: len(listener.connects) >= 3)
    listener.close()
    for number, connect in enumerate(listener.connects[:3]):
        assert (connect.level, connect.clean_session) == (4, True)
        assert (connect.will_qos, connect.will_retain) == (1, False)
        assert connect.will_topic == "spBv1.0/plant/NDEATH/node7"
        assert connect.client_id == "station1-sparkplug"
        will = read_payload(connect.will_payload)
        assert (will.names, will.seq, will.metrics[0].datatype, will.metrics[0].value) == (["bdSeq"], None, 4, number)


def test_attempts_at_a_broker_that_is_not_there_use_up_no_bd_seq(tmp_path: Path, make: Make) -> None:
    port = free_port()
    node = make(port)
    wait_until(lambda: "cannot connect" in node.status()["problem"])
    wait_until(lambda: node._sessions >= 3)
    assert node.status()["bd_seq"] == 0


def test_the_birth_number_survives_a_restart_and_doubtful_files_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "station1.bdseq"
    assert BirthNumber(path).read() is None
    assert caplog.records == []
    BirthNumber(path).write(255)
    assert BirthNumber(path).read() == 255
    for text in ("", "256", "-1", "x", "é"):
        path.write_text(text, encoding="utf-8")
        caplog.clear()
        assert BirthNumber(path).read() is None
        assert "cannot be read" in caplog.text
    caplog.clear()
    BirthNumber(tmp_path / "missing" / "x.bdseq").write(1)
    assert "cannot be kept" in caplog.text
