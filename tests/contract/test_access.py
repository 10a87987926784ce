"""Who may do what on a broker with the shipped rights and certificates; a real mosquitto judges.

mosquitto acknowledges what it throws away, so a forbidden message is proven by a permitted one that came after it alone.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.config import MqttConfig
from inspector.contract.channels import CHANNELS, command_channels, example_bytes
from inspector.contract.link import BrokerLink
from inspector.contract.messages import COMMANDS
from inspector.contract.session import Identity
from inspector.contract.sparkplug.node import Names
from inspector.contract.topics import KINDS, Topics
from inspector.contract.virtual_plc import VirtualPlc
from tests.brokers import Witness, wait_until
from tests.secured import CLIENTS, OTHER_PREFIX, PREFIX, SHIPPED, SecuredBroker, certificates, needs_mosquitto

pytestmark = needs_mosquitto
OWN, OTHER = Topics(PREFIX), Topics(OTHER_PREFIX)
EXAMPLES = {channel.kind: example_bytes(channel) for channel in (*CHANNELS, *command_channels())}
WITHHELD = {"confirm"}
"""Commands that the shipped file gives to no PLC."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    running = SecuredBroker(tmp_path_factory.mktemp("secured"))
    yield running
    running.close()


@pytest.fixture
def witness(broker: SecuredBroker) -> Iterator[Witness]:
    """In the reader's role: sees every topic of both stations."""
    made = Witness(broker.port, "factory/#", login=broker.login("reader"))
    yield made
    made.close()


def topics(station: Topics, *kinds: str) -> dict[str, bytes]:
    return {f"{station.base}/{kind}": EXAMPLES[kind] for kind in kinds}


def tries(login: MqttConfig, forbidden: dict[str, bytes], permitted: dict[str, bytes], witness: Witness) -> None:
    """Publish what is forbidden, retained too, then what is permitted: nothing but the latter arrives."""
    client = Witness(login.port, "nothing", login=login)
    before = len(witness.messages)
    for topic, payload in forbidden.items():
        client.publish(topic, payload)
        client.publish(topic, payload, retain=True)
    for topic, payload in permitted.items():
        client.publish(topic, payload)
        wait_until(lambda topic=topic: topic in {seen[0] for seen in witness.messages[before:]}, 30)
    client.close()
    assert {seen[0] for seen in witness.messages[before:]} == set(permitted)


PLC_SAYS = tuple(f"cmd/{name}" for name in COMMANDS if name not in WITHHELD)
STATION_SAYS = tuple(kind for kind in KINDS if kind != "disp")


@pytest.mark.parametrize("way", ["certificate", "password"])
def test_a_plc_publishes_its_commands_and_receipts_and_neither_verdicts_nor_anything_of_another_station(
    broker: SecuredBroker, witness: Witness, way: str
) -> None:
    login = broker.login("station1-plc") if way == "certificate" else broker.by_password("station1-plc")
    forbidden = topics(OWN, *STATION_SAYS, *(f"cmd/{name}" for name in WITHHELD))
    forbidden |= topics(OTHER, *EXAMPLES) | {f"{OWN.base}/cmd/erase": b"{}", "factory/line1": b"x", "x": b"x"}
    tries(login, forbidden, topics(OWN, *PLC_SAYS, "disp"), witness)


def test_a_station_publishes_its_own_topics_and_no_command_and_nothing_of_another_station(
    broker: SecuredBroker, witness: Witness
) -> None:
    forbidden = topics(OWN, *PLC_SAYS, "disp") | topics(OTHER, *EXAMPLES)
    tries(broker.login("station1"), forbidden, topics(OWN, *STATION_SAYS), witness)
    tries(broker.login("station2"), topics(OWN, *EXAMPLES), topics(OTHER, *STATION_SAYS), witness)


@pytest.mark.parametrize("role", ["reader", "scada"])
def test_readers_publish_nothing_of_a_station(broker: SecuredBroker, role: str) -> None:
    witness = Witness(broker.port, "factory/#", login=broker.login("reader"), client_id="first")
    forbidden = topics(OWN, *EXAMPLES) | topics(OTHER, *EXAMPLES)
    client = witness if role == "reader" else Witness(broker.port, "x", login=broker.login(role))
    before = len(witness.messages)
    for topic, payload in forbidden.items():
        client.publish(topic, payload)
    station = Witness(broker.port, "x", login=broker.login("station1"))
    station.publish(OWN.late, EXAMPLES["late"])
    wait_until(lambda: len(witness.messages) > before, 30)
    assert [seen[0] for seen in witness.messages[before:]] == [OWN.late]
    for one in {client, witness, station}:
        one.close()


def test_a_plc_that_asks_for_everything_hears_what_its_gate_needs_and_no_more(
    broker: SecuredBroker, witness: Witness
) -> None:
    plc = Witness(broker.port, "#", login=broker.login("station1-plc"))
    before = len(plc.messages)
    station = Witness(broker.port, "nothing", login=broker.login("station1"))
    heard = ("result", "resultb", "state", "hb", "recipe", "alarm", "ack")
    for kind in (*(kind for kind in STATION_SAYS if kind not in heard), *heard):
        station.publish(OWN.of(kind), EXAMPLES[kind])
    wait_until(lambda: plc.of(OWN.ack), 30)
    assert {seen[0] for seen in plc.messages[before:]} == {OWN.of(kind) for kind in heard}
    for client in (plc, station):
        client.close()


def test_the_sparkplug_node_and_its_host_have_their_own_topics_and_no_others(broker: SecuredBroker) -> None:
    names = Names("inspection", "station1", "vision", "scada")
    said = [names.node_topic(verb) for verb in ("NBIRTH", "NDATA", "NDEATH")]
    said += [names.device_topic(verb) for verb in ("DBIRTH", "DDATA", "DDEATH")]
    asked = [names.node_topic("NCMD"), names.state_topic or ""]
    node = Witness(broker.port, "#", login=broker.login("station1-sparkplug"))
    host = Witness(broker.port, "#", login=broker.login("scada"))
    for topic in (*topics(OWN, *EXAMPLES), *asked, "spBv1.0/inspection/NBIRTH/station2", *said):
        node.publish(topic, b"node")
    wait_until(lambda: host.of(said[-1]), 30)
    assert [seen[0] for seen in host.messages] == said
    for topic in (*topics(OWN, *EXAMPLES), *said, *asked):
        host.publish(topic, b"host")
    wait_until(lambda: node.of(asked[-1]), 30)
    assert [seen[0] for seen in node.messages] == asked
    for client in (node, host):
        client.close()


def test_a_client_cannot_take_the_stations_connection_away_by_its_client_id(broker: SecuredBroker) -> None:
    station = BrokerLink(broker.login("station1"), Identity("station1"))
    station.start()
    wait_until(lambda: station.is_connected, 30)
    plc = BrokerLink(broker.login("station1-plc"), Identity("station1"))
    plc.start()
    wait_until(lambda: plc.is_connected, 30)
    reader = Witness(broker.port, OWN.late, login=broker.login("reader"))
    assert station.publish(OWN.late, EXAMPLES["late"], qos=1) is not None
    wait_until(lambda: reader.of(OWN.late), 30)
    assert (station.is_connected, station.connections) == (True, 1)
    reader.close()
    for link in (plc, station):
        link.stop()


def test_the_virtual_plc_hears_a_station_over_tls(broker: SecuredBroker) -> None:
    station = Witness(broker.port, OWN.cmd_filter, login=broker.login("station1"))
    station.publish(OWN.state, EXAMPLES["state"], retain=True)
    with VirtualPlc(broker.login("station1-plc")) as plc:
        wait_until(lambda: plc.state is not None, 30)
        trg = plc.trigger("part")
        wait_until(lambda: station.of(OWN.cmd("trigger")), 30)
        assert f'"trg":{trg}'.encode() in station.of(OWN.cmd("trigger"))[0]
    station.publish(OWN.state, b"", retain=True)
    station.close()


def refusal(login: MqttConfig) -> str:
    """What a link says that is not let in, after two attempts."""
    link = BrokerLink(login, Identity("station1"))
    link.start()
    wait_until(lambda: link.failures >= 2, 60)
    said, connections = link.problem, link.connections
    link.stop()
    assert connections == 0
    return said


def test_without_a_certificate_nobody_gets_in(broker: SecuredBroker) -> None:
    assert "mqtt.cert_file" in refusal(broker.login(None))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves its socket to the collector
def test_a_certificate_of_a_foreign_authority_is_refused_and_so_is_a_foreign_broker(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    certificates(tmp_path, "ca")
    certificates(tmp_path, "client", "station1")
    assert "mqtt.cert_file" in refusal(broker.login("station1", keys=tmp_path))
    foreign = broker.login("station1").model_copy(update={"ca_file": tmp_path / "ca.crt"})
    assert "certificate verify failed" in refusal(foreign)


def test_an_expired_certificate_is_refused(broker: SecuredBroker, tmp_path: Path) -> None:
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_bytes((broker.keys / name).read_bytes())
    certificates(tmp_path, "client", "station1", days=-1)
    assert "mqtt.cert_file" in refusal(broker.login("station1", keys=tmp_path))


def test_a_wrong_password_and_a_plain_connection_are_refused(broker: SecuredBroker) -> None:
    said = refusal(broker.by_password("station1", "another one"))
    assert "Not authorized; check mqtt.username, mqtt.password_file and the broker's rights" in said
    plain = broker.by_password("station1").model_copy(update={"tls": False, "ca_file": None})
    assert "no answer" in refusal(plain)


def test_keys_are_for_their_owner_only_and_nothing_is_overwritten(broker: SecuredBroker) -> None:
    keys = sorted(broker.keys.glob("*.key"))
    assert len(keys) == 2 + len(CLIENTS)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    with pytest.raises(Exception, match="certificates"):
        certificates(broker.keys, "client", "station1")


def test_each_topic_and_command_of_the_contract_stands_in_the_rights() -> None:
    station, plc = ((SHIPPED / "acl" / f"{role}.acl").read_text() for role in ("station", "plc"))
    for kind in STATION_SAYS:
        assert f"topic write {OWN.of(kind)}\n" in station
    for name in COMMANDS:
        right = f"topic write {OWN.cmd(name)}\n"
        assert right in plc
        assert (f"# {right}" in plc) == (name in WITHHELD)
