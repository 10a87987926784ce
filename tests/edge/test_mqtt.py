"""The station's link on real brokers: life, death, and what it refuses to believe."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client

from edge.mqtt import Acknowledged, Connected, Lost, MqttLink, Received
from inspector.config import Config
from inspector.contract.broker import find_mosquitto, free_port
from inspector.contract.link import backoff_s
from inspector.contract.messages import State
from inspector.errors import BrokerError
from tests.brokers import KINDS, TestBroker, Witness, wait_until

STATE = State(on=1, st=7, mode=0, boot=9, rcp=1, rev=1, err=0, win=2000, hbp=1000, ts=5)


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    running = TestBroker(request.param, tmp_path)
    yield running
    running.close()


def config_of(broker: TestBroker, **mqtt: Any) -> Config:
    return Config.model_validate({"mqtt": {"port": broker.port, **mqtt}})


@pytest.fixture
def link_to() -> Iterator[Callable[..., MqttLink]]:
    made: list[MqttLink] = []

    def make(broker: TestBroker, **mqtt: Any) -> MqttLink:
        made.append(MqttLink(config_of(broker, **mqtt), STATE))
        return made[-1]

    yield make
    for link in made:
        link.stop()


def test_the_back_off_grows_to_five_seconds_and_is_half_chance() -> None:
    assert [backoff_s(n, 1.0) for n in (0, 1, 2, 20)] == [0.2, 0.4, 0.8, 5.0]
    assert backoff_s(20, 0.0) == 2.5


def test_the_link_gets_commands_and_hears_of_each_acknowledgement(
    broker: TestBroker, link_to: Callable[..., MqttLink]
) -> None:
    link = link_to(broker)
    events = link.listen(Connected, Acknowledged, Received)
    link.start()
    assert isinstance(events.get(timeout=10), Connected)

    token = link.publish(link.topics.cmd("ping"), b'{"v":1,"cid":1}', qos=1, expiry_s=2.0)

    first, second = events.get(timeout=5), events.get(timeout=5)
    heard = {type(event): event for event in (first, second)}
    assert heard[Acknowledged] == Acknowledged(token, True)
    assert heard[Received].topic == link.topics.cmd("ping")
    assert not heard[Received].retained


def test_mqtt_5_is_used_where_the_broker_has_it_and_3_1_1_where_not(
    broker: TestBroker, link_to: Callable[..., MqttLink]
) -> None:
    link = link_to(broker)
    link.start()
    wait_until(lambda: link.is_connected)

    assert link.has_expiry == (broker.kind == "mosquitto")


@pytest.mark.any_payload
def test_nothing_is_queued_while_there_is_no_connection(broker: TestBroker, link_to: Callable[..., MqttLink]) -> None:
    witness = Witness(broker.port)
    link = link_to(broker)
    assert link.publish(link.topics.result, b"before the start", qos=1) is None
    link.start()
    wait_until(lambda: link.is_connected)
    broker.kill()
    wait_until(lambda: not link.is_connected)
    assert link.publish(link.topics.result, b"while it was away", qos=1) is None

    broker.restart()
    wait_until(lambda: link.connections == 2 and witness.subscriptions == 2)
    assert link.publish(link.topics.result, b"fresh", qos=1) is not None

    wait_until(lambda: b"fresh" in witness.of(link.topics.result))
    assert witness.of(link.topics.result) == [b"fresh"]
    witness.close()


@pytest.mark.any_payload
def test_a_message_in_flight_when_the_broker_dies_is_not_sent_again_by_the_library(
    broker: TestBroker, link_to: Callable[..., MqttLink]
) -> None:
    link = link_to(broker)
    events = link.listen(Acknowledged, Lost)
    link.start()
    wait_until(lambda: link.is_connected)
    broker.freeze()
    token = link.publish(link.topics.result, b"old", qos=1)
    assert token is not None
    broker.kill()
    assert isinstance(events.get(timeout=15), Lost)

    broker.restart()
    witness = Witness(broker.port)
    wait_until(lambda: link.connections == 2)
    link.publish(link.topics.result, b"fresh", qos=1)
    wait_until(lambda: b"fresh" in witness.of(link.topics.result))

    assert witness.of(link.topics.result) == [b"fresh"]
    witness.close()


def test_a_clean_stop_says_offline_before_it_leaves(broker: TestBroker, link_to: Callable[..., MqttLink]) -> None:
    link = link_to(broker)
    link.start()
    wait_until(lambda: link.is_connected)
    link.stop()

    late_witness = Witness(broker.port)
    wait_until(lambda: late_witness.of(link.topics.state))
    assert [State.from_json(payload) for payload in late_witness.of(link.topics.state)] == [STATE.as_offline()]
    late_witness.close()


STATION = """
import sys, time
from edge.mqtt import MqttLink
from inspector.config import Config
from inspector.contract.messages import State
link = MqttLink(Config.model_validate({"mqtt": {"port": int(sys.argv[1])}}), State.from_json(sys.argv[2].encode()))
link.start()
while link.publish(link.topics.state, sys.argv[2].encode(), qos=1, retain=True) is None:
    time.sleep(0.02)
time.sleep(60)
"""


def test_when_the_worker_is_killed_the_broker_says_offline_with_its_boot(broker: TestBroker) -> None:
    witness = Witness(broker.port)
    station = subprocess.Popen(
        [sys.executable, "-c", STATION, str(broker.port), STATE.to_json().decode()], cwd=Path(__file__).parents[2]
    )
    topic = "factory/line1/vis1/state"
    wait_until(lambda: witness.of(topic))
    station.kill()
    station.wait()

    wait_until(lambda: len(witness.of(topic)) == 2, timeout_s=3.0)
    assert [State.from_json(payload) for payload in witness.of(topic)] == [STATE, STATE.as_offline()]
    witness.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="only mosquitto has logins here")
def test_a_refused_login_is_not_a_connection_and_the_right_one_is(
    tmp_path: Path, link_to: Callable[..., MqttLink]
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "station1", "right"], check=True)
    password_file = tmp_path / "password"
    password_file.write_text("wrong\n")
    broker = TestBroker("mosquitto", tmp_path, passwords)
    link = link_to(broker, username="station1", password_file=password_file)
    link.start()

    wait_until(lambda: link.failures >= 2)
    assert not link.is_connected
    assert link.connections == 0
    assert "refused: Not authorized" in link.problem
    assert link.publish(link.topics.result, b"x", qos=1) is None

    password_file.write_text("right\n")
    wait_until(lambda: link.is_connected)
    assert link.problem == ""
    broker.close()


def test_a_missing_password_file_is_said_at_once(tmp_path: Path) -> None:
    config = Config.model_validate({"mqtt": {"username": "a", "password_file": tmp_path / "missing"}})
    with pytest.raises(BrokerError, match=r"mqtt\.password_file .*missing cannot be read"):
        MqttLink(config, STATE)


def test_a_missing_certificate_is_said_at_once(tmp_path: Path) -> None:
    config = Config.model_validate({"mqtt": {"tls": True, "ca_file": tmp_path / "missing.pem"}})
    with pytest.raises(BrokerError, match=r"TLS cannot be set up.*mqtt\.ca_file"):
        MqttLink(config, STATE)


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
@pytest.mark.any_payload
def test_a_dead_network_thread_is_noticed_and_replaced(
    broker: TestBroker, link_to: Callable[..., MqttLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_to(broker)
    events = link.listen(Lost)
    link.start()
    wait_until(lambda: link.is_connected)

    def die(_client: Client) -> None:
        raise KeyError("a fault in the library")

    with monkeypatch.context() as patch:
        patch.setattr(Client, "_handle_publish", die)
        link.publish(link.topics.cmd("ping"), b"{}", qos=1)
        lost = events.get(timeout=5)

    assert "network thread died" in lost.reason
    wait_until(lambda: link.connections == 2 and link.is_connected)


def test_without_a_broker_the_link_goes_on_trying_and_stops_when_told() -> None:
    link = MqttLink(Config.model_validate({"mqtt": {"port": free_port()}}), STATE)
    link.start()
    wait_until(lambda: link.failures >= 2)
    assert "cannot connect" in link.problem

    link.stop()
    assert not link.is_connected


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
@pytest.mark.any_payload
def test_a_full_queue_of_events_drops_and_counts_instead_of_blocking(
    broker: TestBroker, link_to: Callable[..., MqttLink]
) -> None:
    link = link_to(broker)
    small: queue.Queue[object] = queue.Queue(1)
    link.listen(Received, into=small)
    link.start()
    wait_until(lambda: link.is_connected)
    for n in range(5):
        link.publish(link.topics.cmd("ping"), str(n).encode(), qos=1)

    wait_until(lambda: link.dropped_events == 4)
    assert link.is_connected


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
@pytest.mark.any_payload
def test_publishing_from_many_threads_never_exceeds_what_the_broker_allows(
    broker: TestBroker, link_to: Callable[..., MqttLink]
) -> None:
    link = link_to(broker)
    events = link.listen(Acknowledged)
    link.start()
    wait_until(lambda: link.is_connected)
    broker.freeze()
    taken: list[object] = []

    def publish() -> None:
        taken.extend(link.publish(link.topics.detail, b"x", qos=1) for _ in range(60))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broker.thaw()

    sent = [token for token in taken if token is not None]
    assert len(sent) == len(set(sent)) == link.capacity
    assert {events.get(timeout=5).token for _ in sent} == set(sent)
