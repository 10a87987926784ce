"""The life of an edge node, assertion by assertion: births, deaths, numbers, rebirth, primary host."""

import json
from typing import Any

import pytest

from inspector.contract.sparkplug.node import REBIRTH, EdgeNode, Heard, Names, Outgoing, Phase
from inspector.contract.sparkplug.payload import DataType, Value
from inspector.errors import ContractError
from tests.contract.sparkplug.wire import WirePayload, command, read_payload

NODE_TYPES = {"Properties/Version": DataType.STRING, "Dropped": DataType.INT64}
DEVICE_TYPES = {"State": DataType.UINT8, "Part": DataType.STRING, "Score": DataType.INT32}
NODE: dict[str, Value] = {"Properties/Version": "1", "Dropped": 0}
DEVICE: dict[str, Value] = {"State": 7, "Part": None, "Score": -3}
NOW = 1_700_000_000_000
HOST = "scada"
STATE = f"spBv1.0/STATE/{HOST}"


def new_node(primary_host_id: str | None = None, last_bd_seq: int | None = None) -> EdgeNode:
    return EdgeNode(Names("plant", "station1", "vision", primary_host_id), NODE_TYPES, DEVICE_TYPES, last_bd_seq)


def connected(node: EdgeNode) -> WirePayload:
    """Open a session; gives the will."""
    will = node.open(NOW)
    node.connect_sent()
    node.connected()
    return read_payload(will.payload)


def born(node: EdgeNode | None = None) -> EdgeNode:
    node = new_node() if node is None else node
    connected(node)
    node.birth(NODE, NOW)
    node.device_birth(DEVICE, {}, NOW)
    return node


def state(online: bool, timestamp: int) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


def read(message: Outgoing | None) -> WirePayload:
    assert message is not None
    return read_payload(message.payload)


# --- topics ---------------------------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-topic-structure",
    "tck-id-topic-structure-namespace-a",
    "tck-id-topic-structure-namespace-device-id-associated-message-types",
    "tck-id-topic-structure-namespace-device-id-non-associated-message-types",
    "tck-id-topics-nbirth-topic",
    "tck-id-topics-ndata-topic",
    "tck-id-topics-ndeath-topic",
    "tck-id-topics-dbirth-topic",
    "tck-id-topics-ddata-topic",
    "tck-id-topics-ddeath-topic",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-topic",
    "tck-id-message-flow-device-birth-publish-dbirth-topic",
    "tck-id-message-flow-device-birth-publish-dbirth-match-edge-node-topic",
    "tck-id-message-flow-edge-node-birth-publish-will-message-topic",
)
def test_each_message_has_its_topic() -> None:
    node = new_node()
    messages: list[Outgoing | None] = [node.open(NOW)]
    node.connect_sent()
    node.connected()
    messages += [
        node.birth(NODE, NOW),
        node.device_birth(DEVICE, {}, NOW),
        node.node_changes({"Dropped": 1}, NOW),
        node.device_changes({"State": 3}, NOW),
        node.device_death(NOW),
        node.death(NOW),
    ]
    assert [message.topic for message in messages if message is not None] == [
        "spBv1.0/plant/NDEATH/station1",
        "spBv1.0/plant/NBIRTH/station1",
        "spBv1.0/plant/DBIRTH/station1/vision",
        "spBv1.0/plant/NDATA/station1",
        "spBv1.0/plant/DDATA/station1/vision",
        "spBv1.0/plant/DDEATH/station1/vision",
        "spBv1.0/plant/NDEATH/station1",
    ]


@pytest.mark.tck(
    "tck-id-message-flow-edge-node-ncmd-subscribe",
    "tck-id-message-flow-device-dcmd-subscribe",
    "tck-id-topics-ncmd-topic",
    "tck-id-topics-dcmd-topic",
    "tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs",
)
def test_commands_and_the_state_of_the_primary_host_are_subscribed_with_qos_1() -> None:
    assert new_node().subscriptions == (
        ("spBv1.0/plant/NCMD/station1", 1),
        ("spBv1.0/plant/DCMD/station1/vision", 1),
    )
    assert new_node(HOST).subscriptions[2:] == ((STATE, 1),)


# --- NBIRTH and DBIRTH ----------------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-payloads-nbirth-seq",
    "tck-id-payloads-nbirth-timestamp",
    "tck-id-payloads-sequence-num-req-nbirth",
    "tck-id-topics-nbirth-seq-num",
    "tck-id-topics-nbirth-timestamp",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq",
)
def test_an_nbirth_has_the_sequence_number_0_and_the_time_of_its_sending() -> None:
    node = new_node()
    connected(node)
    payload = read(node.birth(NODE, NOW + 5))
    assert (payload.seq, payload.timestamp) == (0, NOW + 5)


@pytest.mark.tck(
    "tck-id-topics-nbirth-metric-reqs",
    "tck-id-topics-nbirth-metrics",
    "tck-id-topics-dbirth-metric-reqs",
    "tck-id-topics-dbirth-metrics",
    "tck-id-payloads-metric-datatype-req",
    "tck-id-payloads-name-birth-data-requirement",
    "tck-id-operational-behavior-data-publish-nbirth",
    "tck-id-operational-behavior-data-publish-dbirth",
)
def test_births_have_every_metric_with_name_type_time_and_value_or_null() -> None:
    node = new_node()
    connected(node)
    nbirth, dbirth = read(node.birth(NODE, NOW)), read(node.device_birth(DEVICE, {}, NOW))

    assert set(nbirth.names) == {*NODE_TYPES, "bdSeq", REBIRTH}
    assert set(dbirth.names) == set(DEVICE_TYPES)
    for metric in nbirth.metrics + dbirth.metrics:
        assert metric.datatype is not None
        assert metric.timestamp == NOW
        assert bool(metric.is_null) != bool(metric.values)
    assert dbirth.named("Part").is_null
    assert dbirth.named("Score").signed(3) == -3


def test_a_metric_without_a_reading_is_null_in_the_birth() -> None:
    node = new_node()
    connected(node)
    node.birth(NODE, NOW)
    assert read(node.device_birth({"State": 7}, {}, NOW)).named("Score").is_null


def test_a_reading_that_no_metric_was_declared_for_is_refused() -> None:
    node = new_node()
    connected(node)
    with pytest.raises(ContractError, match="no such Sparkplug metrics"):
        node.birth({"Stranger": 1}, NOW)


@pytest.mark.tck(
    "tck-id-operational-behavior-data-publish-nbirth-order",
    "tck-id-operational-behavior-data-publish-dbirth-order",
)
def test_metrics_of_a_birth_stand_in_the_order_of_their_times() -> None:
    node = new_node()
    connected(node)
    node.birth(NODE, NOW)
    dbirth = read(node.device_birth(DEVICE, {"Score": NOW - 50, "Part": NOW - 20}, NOW))
    assert [(metric.name, metric.timestamp) for metric in dbirth.metrics] == [
        ("Score", NOW - 50),
        ("Part", NOW - 20),
        ("State", NOW),
    ]


@pytest.mark.tck(
    "tck-id-payloads-alias-uniqueness",
    "tck-id-payloads-alias-birth-requirement",
    "tck-id-payloads-name-requirement",
    "tck-id-case-sensitivity-metric-names",
)
def test_aliases_are_unique_across_the_node_and_its_device_and_stay_with_their_names() -> None:
    node = new_node()
    aliases: list[dict[str, int]] = []
    for _ in range(2):
        connected(node)
        metrics = read(node.birth(NODE, NOW)).metrics + read(node.device_birth(DEVICE, {}, NOW)).metrics
        aliases.append({metric.name: metric.alias for metric in metrics if metric.name != REBIRTH})

    assert len(set(aliases[0].values())) == len(aliases[0]) == len(NODE_TYPES) + len(DEVICE_TYPES) + 1
    assert None not in aliases[0].values()
    assert aliases[0] == aliases[1]
    assert len({name.lower() for name in aliases[0]}) == len(aliases[0])


@pytest.mark.tck(
    "tck-id-topics-nbirth-rebirth-metric",
    "tck-id-payloads-nbirth-rebirth-req",
    "tck-id-operational-behavior-data-commands-rebirth-name",
    "tck-id-operational-behavior-data-commands-rebirth-name-aliases",
    "tck-id-operational-behavior-data-commands-rebirth-datatype",
    "tck-id-operational-behavior-data-commands-rebirth-value",
)
def test_an_nbirth_offers_the_rebirth_as_a_boolean_that_is_false_and_has_no_alias() -> None:
    node = new_node()
    connected(node)
    rebirth = read(node.birth(NODE, NOW)).named("Node Control/Rebirth")
    assert (rebirth.datatype, rebirth.fields["boolean_value"], rebirth.alias) == (11, False, None)


@pytest.mark.tck(
    "tck-id-payloads-dbirth-seq",
    "tck-id-payloads-dbirth-seq-inc",
    "tck-id-payloads-dbirth-timestamp",
    "tck-id-topics-dbirth-seq",
    "tck-id-topics-dbirth-timestamp",
    "tck-id-message-flow-device-birth-publish-dbirth-payload",
    "tck-id-message-flow-device-birth-publish-dbirth-payload-seq",
)
def test_a_dbirth_follows_with_the_next_number() -> None:
    node = new_node()
    connected(node)
    node.birth(NODE, NOW)
    payload = read(node.device_birth(DEVICE, {}, NOW + 1))
    assert (payload.seq, payload.timestamp) == (1, NOW + 1)


@pytest.mark.tck(
    "tck-id-message-flow-device-birth-publish-nbirth-wait",
    "tck-id-message-flow-edge-node-birth-publish-connect",
    "tck-id-payloads-ddata-order",
    "tck-id-payloads-ndata-order",
    "tck-id-principles-birth-certificates-order",
)
def test_nothing_can_be_said_before_the_births() -> None:
    node = new_node()
    with pytest.raises(ContractError, match="must be DUE, but is CLOSED"):
        node.birth(NODE, NOW)
    connected(node)
    for call in (
        lambda: node.device_birth(DEVICE, {}, NOW),
        lambda: node.node_changes({"Dropped": 1}, NOW),
        lambda: node.device_changes({"State": 1}, NOW),
        lambda: node.device_death(NOW),
    ):
        with pytest.raises(ContractError, match="must be ALIVE, but is DUE"):
            call()
    node.birth(NODE, NOW)
    with pytest.raises(ContractError, match="must be born"):
        node.device_data({"State": 1}, NOW, NOW, historical=False)


# --- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-payloads-sequence-num-always-included",
    "tck-id-payloads-sequence-num-incrementing",
    "tck-id-payloads-ndata-seq",
    "tck-id-payloads-ndata-seq-inc",
    "tck-id-payloads-ddata-seq",
    "tck-id-payloads-ddata-seq-inc",
    "tck-id-payloads-ddeath-seq",
    "tck-id-payloads-ddeath-seq-inc",
    "tck-id-payloads-ddeath-seq-number",
    "tck-id-topics-ndata-seq-num",
    "tck-id-topics-ddata-seq-num",
    "tck-id-topics-ddeath-seq-num",
)
def test_numbers_go_on_by_one_across_node_and_device_and_after_255_comes_0() -> None:
    node = born()
    seen = []
    for turn in range(300):
        seen.append(read(node.node_changes({"Dropped": turn + 1}, NOW)).seq)
        seen.append(read(node.device_data({"State": 1}, NOW, NOW, historical=False)).seq)
        if turn % 7 == 0:
            seen.append(read(node.device_death(NOW)).seq)
            seen.append(read(node.device_birth(DEVICE, {}, NOW)).seq)
    assert seen == [number % 256 for number in range(2, 2 + len(seen))]


@pytest.mark.tck(
    "tck-id-payloads-alias-data-cmd-requirement",
    "tck-id-payloads-metric-datatype-not-req",
    "tck-id-payloads-ndata-timestamp",
    "tck-id-payloads-ddata-timestamp",
    "tck-id-topics-ndata-timestamp",
    "tck-id-topics-ddata-timestamp",
)
def test_data_name_their_metrics_by_alias_alone_and_have_times() -> None:
    node = new_node()
    connected(node)
    alias = read(node.birth(NODE, NOW)).named("Dropped").alias
    device_alias = read(node.device_birth(DEVICE, {}, NOW)).named("Score").alias

    ndata = read(node.node_changes({"Dropped": 4}, NOW + 1))
    ddata = read(node.device_data({"Score": -9}, NOW - 100, NOW + 2, historical=False))

    assert (ndata.timestamp, ddata.timestamp) == (NOW + 1, NOW + 2)
    assert ndata.metrics[0].fields == {"alias": alias, "timestamp": NOW + 1, "long_value": 4}
    assert ddata.metrics[0].fields == {"alias": device_alias, "timestamp": NOW - 100, "int_value": 2**32 - 9}


@pytest.mark.tck(
    "tck-id-principles-rbe-recommended",
    "tck-id-topics-ndata-payload",
    "tck-id-topics-ddata-payload",
    "tck-id-operational-behavior-data-publish-nbirth-change",
    "tck-id-operational-behavior-data-publish-dbirth-change",
)
def test_only_what_has_changed_is_said_and_nothing_where_nothing_has() -> None:
    node = born()
    assert node.node_changes(NODE, NOW) is None
    assert node.device_changes({"State": 7, "Part": None}, NOW) is None
    assert len(read(node.device_changes({**DEVICE, "State": 3}, NOW)).metrics) == 1
    assert node.device_changes({**DEVICE, "State": 3}, NOW) is None


def test_a_value_that_became_null_is_a_change() -> None:
    node = born()
    changes = read(node.device_changes({"State": None}, NOW))
    assert changes.metrics[0].is_null
    assert changes.metrics[0].values == {}


def test_historical_data_are_flagged_and_do_not_change_what_counts_as_present() -> None:
    node = born()
    old = read(node.device_data({"State": 3}, NOW - 9_000, NOW, historical=True))
    assert old.metrics[0].is_historical
    assert node.device_changes({"State": 7}, NOW) is None


# --- deaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-topics-ndeath-payload",
    "tck-id-topics-ndeath-seq",
    "tck-id-payloads-ndeath-seq",
    "tck-id-payloads-ndeath-bdseq",
    "tck-id-payloads-nbirth-bdseq",
    "tck-id-payloads-nbirth-bdseq-repeat",
    "tck-id-topics-nbirth-bdseq-included",
    "tck-id-topics-nbirth-bdseq-matching",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload",
)
def test_will_nbirth_and_ndeath_have_one_bd_seq_and_deaths_nothing_else() -> None:
    node = new_node(last_bd_seq=41)
    will = connected(node)
    birth = read(node.birth(NODE, NOW))
    death = read(node.death(NOW))
    for payload in (will, death):
        assert payload.names == ["bdSeq"]
        assert payload.seq is None
    for payload in (will, birth, death):
        assert payload.named("bdSeq").datatype == 4
        assert payload.named("bdSeq").fields["long_value"] == 42


@pytest.mark.tck(
    "tck-id-topics-nbirth-bdseq-increment",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
)
def test_bd_seq_begins_with_0_goes_on_with_every_connect_and_after_255_comes_0() -> None:
    node = new_node()
    seen = [connected(node).named("bdSeq").value for _ in range(520)]
    assert seen == [number % 256 for number in range(520)]


def test_a_connect_that_never_left_does_not_use_up_a_bd_seq() -> None:
    node = new_node(last_bd_seq=6)
    wills = [read(node.open(NOW)) for _ in range(3)]
    assert [will.named("bdSeq").value for will in wills] == [7, 7, 7]
    node.connect_sent()
    assert read(node.open(NOW)).named("bdSeq").value == 8


@pytest.mark.tck("tck-id-operational-behavior-device-ddeath", "tck-id-payloads-ddeath-timestamp")
def test_after_its_ddeath_a_device_is_silent_until_it_is_born_again() -> None:
    node = born()
    assert read(node.device_death(NOW + 3)).timestamp == NOW + 3
    with pytest.raises(ContractError, match="must be born"):
        node.device_changes({"State": 1}, NOW)
    node.device_birth(DEVICE, {}, NOW)
    assert node.device_changes({"State": 1}, NOW) is not None


# --- rebirth and other commands -------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-operational-behavior-data-commands-rebirth-action-1",
    "tck-id-operational-behavior-data-commands-rebirth-action-2",
    "tck-id-operational-behavior-data-commands-rebirth-action-3",
    "tck-id-payloads-dbirth-order",
)
def test_a_rebirth_stops_the_data_and_births_follow_with_the_same_bd_seq() -> None:
    node = born(new_node(last_bd_seq=9))
    assert node.receive("spBv1.0/plant/NCMD/station1", command(REBIRTH, flag=True), retained=False) is Heard.REBIRTH
    with pytest.raises(ContractError, match="must be ALIVE, but is DUE"):
        node.device_changes({"State": 1}, NOW)
    birth = read(node.birth(NODE, NOW))
    assert (birth.seq, birth.named("bdSeq").value) == (0, 10)
    with pytest.raises(ContractError, match="must be born"):
        node.device_changes({"State": 1}, NOW)
    assert read(node.device_birth(DEVICE, {}, NOW)).seq == 1
    assert node.refused_writes == 0


def test_a_rebirth_that_is_false_does_nothing() -> None:
    node = born()
    assert node.receive("spBv1.0/plant/NCMD/station1", command(REBIRTH, flag=False), retained=False) is Heard.NOTHING
    assert node.phase is Phase.ALIVE


@pytest.mark.parametrize(
    ("topic", "payload", "retained"),
    [
        ("NCMD/station1", command("Properties/Version", number=1), False),
        ("NCMD/station1", command(None, alias=2, number=1), False),
        ("NCMD/station1", command(REBIRTH, number=1), False),
        ("NCMD/station1", command(REBIRTH, flag=True), True),
        ("NCMD/station1", b"\xff\xff", False),
        ("DCMD/station1/vision", command("State", number=1), False),
        ("DCMD/station1/vision", command(REBIRTH, flag=True), False),
    ],
)
def test_every_other_write_is_refused_and_counted(topic: str, payload: bytes, retained: bool) -> None:
    node = born()
    assert node.receive(f"spBv1.0/plant/{topic}", payload, retained=retained) is Heard.REFUSED
    assert (node.refused_writes, node.phase) == (1, Phase.ALIVE)


def test_messages_to_others_are_none_of_ours() -> None:
    node = born()
    for topic in ("spBv1.0/plant/NCMD/station2", "spBv1.0/STATE/other", "STATE/scada", "x"):
        assert node.receive(topic, command(REBIRTH, flag=True), retained=False) is Heard.NOTHING
    assert node.refused_writes == 0


# --- primary host ---------------------------------------------------------------------------------------------------


@pytest.mark.tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-wait",
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-online",
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-id",
    "tck-id-operational-behavior-edge-node-birth-sequence-wait",
)
def test_births_wait_until_the_configured_host_is_online() -> None:
    node = new_node(HOST)
    connected(node)
    with pytest.raises(ContractError, match="must be DUE, but is WAITING"):
        node.birth(NODE, NOW)
    assert node.receive("spBv1.0/STATE/other", state(True, 5), retained=True) is Heard.NOTHING
    assert node.receive(STATE, state(False, 5), retained=True) is Heard.NOTHING
    assert node.receive(STATE, b"ONLINE", retained=True) is Heard.NOTHING
    assert node.phase is Phase.WAITING
    assert node.receive(STATE, state(True, 6), retained=False) is Heard.HOST_ONLINE
    assert read(node.birth(NODE, NOW)).seq == 0


@pytest.mark.tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp",
    "tck-id-operational-behavior-edge-node-termination-host-offline-timestamp",
)
@pytest.mark.parametrize(("timestamp", "counts"), [(99, False), (100, True), (101, True)])
def test_a_state_message_older_than_the_last_one_is_ignored(timestamp: int, counts: bool) -> None:
    node = new_node(HOST)
    connected(node)
    node.receive(STATE, state(True, 100), retained=True)
    node.birth(NODE, NOW)
    heard = node.receive(STATE, state(False, timestamp), retained=False)
    assert (heard is Heard.HOST_OFFLINE) == counts


@pytest.mark.tck("tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp")
def test_the_last_timestamp_is_remembered_across_sessions() -> None:
    node = new_node(HOST)
    connected(node)
    node.receive(STATE, state(True, 100), retained=True)
    node.receive(STATE, state(False, 200), retained=False)
    connected(node)
    assert node.receive(STATE, state(True, 199), retained=True) is Heard.NOTHING
    assert node.phase is Phase.WAITING
    assert node.receive(STATE, state(True, 201), retained=True) is Heard.HOST_ONLINE


@pytest.mark.tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-offline",
    "tck-id-operational-behavior-edge-node-termination-host-offline",
)
@pytest.mark.parametrize("reborn", [False, True])
def test_when_the_host_goes_offline_the_node_dies_and_waits_again_in_a_new_session(reborn: bool) -> None:
    node = new_node(HOST)
    connected(node)
    node.receive(STATE, state(True, 1), retained=True)
    node.birth(NODE, NOW)
    if reborn:  # the births of a rebirth are due, yet the node is known to be alive
        node.receive("spBv1.0/plant/NCMD/station1", command(REBIRTH, flag=True), retained=False)
    assert node.receive(STATE, state(False, 2), retained=False) is Heard.HOST_OFFLINE
    assert read(node.death(NOW)).named("bdSeq").value == 0
    assert connected(node).named("bdSeq").value == 1
    assert node.phase is Phase.WAITING


def test_a_host_that_goes_offline_before_the_births_is_waited_for() -> None:
    node = new_node(HOST)
    connected(node)
    node.receive(STATE, state(True, 1), retained=True)
    assert node.receive(STATE, state(False, 2), retained=False) is Heard.NOTHING
    assert node.phase is Phase.WAITING


def test_a_rebirth_request_does_not_shorten_the_wait_for_the_host() -> None:
    node = new_node(HOST)
    connected(node)
    node.receive("spBv1.0/plant/NCMD/station1", command(REBIRTH, flag=True), retained=False)
    assert node.phase is Phase.WAITING


def test_without_a_primary_host_the_births_are_due_at_once() -> None:
    node = new_node()
    connected(node)
    assert node.phase is Phase.DUE


def test_an_unknown_metric_in_data_is_a_fault_of_ours() -> None:
    node = born()
    readings: dict[str, Any] = {"Stranger": 1}
    with pytest.raises(KeyError):
        node.device_data(readings, NOW, NOW, historical=False)
