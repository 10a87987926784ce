"""What is sent and when, under any interleaving of verdicts, connections, rebirths, host states and dead loops.

A host that keeps to the specification listens and objects to everything that it may not be sent.
"""

import json
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.sparkplug.readings import NODE_TYPES, VERDICT_TYPES
from edge.sparkplug.reporter import LOOK_MS, WINDOW, Backlog, Reporter
from inspector.contract.sparkplug.node import REBIRTH, EdgeNode, Heard, Names, Outgoing, Phase
from inspector.errors import BrokerError
from tests.contract.sparkplug.wire import WirePayload, command, read_payload
from tests.edge.sparkplug.station import DEVICE_TYPES, EPOCH_S, FakeReadings, verdict

HOST = "scada"
STATE = f"spBv1.0/STATE/{HOST}"
NCMD = "spBv1.0/plant/NCMD/station1"


class Host:
    """Reads everything as a host application does; `verdicts` holds seq and whether it came as historical."""

    def __init__(self) -> None:
        self.seq: int | None = None
        self.device_is_alive = False
        self.aliases: dict[int, str] = {}
        self.bd_seqs: list[int] = []
        self.verdicts: list[tuple[int, bool]] = []
        self.payloads: list[tuple[str, WirePayload]] = []
        self.values: dict[str, Any] = {}

    def session_ended(self) -> None:
        self.seq, self.device_is_alive = None, False

    def take(self, message: Outgoing) -> None:
        verb, payload = message.topic.split("/")[2], read_payload(message.payload)
        self.payloads.append((verb, payload))
        if verb == "NDEATH":
            assert payload.named("bdSeq").value == self.bd_seqs[-1]
            self.session_ended()
            return
        if verb == "NBIRTH":
            assert payload.seq == 0
            self.device_is_alive = False
            self._check_bd_seq(payload.named("bdSeq").value)
            self.aliases = {}
        else:
            assert self.seq is not None, f"{verb} before the NBIRTH"
            assert payload.seq == (self.seq + 1) % 256
        self.seq = payload.seq
        getattr(self, f"_take_{verb.lower()}", self._learn)(payload)

    def _check_bd_seq(self, bd_seq: int) -> None:
        """The same in a rebirth, another one (here: a later one) in each session."""
        if self.bd_seqs:
            is_rebirth = self.seq is not None
            assert bd_seq == self.bd_seqs[-1] if is_rebirth else bd_seq > self.bd_seqs[-1]
        self.bd_seqs.append(bd_seq)

    def _learn(self, payload: WirePayload) -> None:
        for metric in payload.metrics:
            if metric.name != REBIRTH:
                assert metric.alias not in self.aliases or self.aliases[metric.alias] == metric.name
                self.aliases[metric.alias] = metric.name
            self.values[metric.name] = metric.value

    def _take_dbirth(self, payload: WirePayload) -> None:
        assert not self.device_is_alive
        assert set(payload.names) == set(DEVICE_TYPES)
        times = [metric.timestamp for metric in payload.metrics]
        assert times == sorted(times)
        self.device_is_alive = True
        self._learn(payload)

    def _take_ddeath(self, payload: WirePayload) -> None:
        assert self.device_is_alive
        self.device_is_alive = False

    def _take_ndata(self, payload: WirePayload) -> None:
        assert payload.metrics
        self._update(payload)

    def _take_ddata(self, payload: WirePayload) -> None:
        assert self.device_is_alive, "DDATA of a dead device"
        assert payload.metrics
        names = self._update(payload)
        if "Verdict/Sequence" in names:
            assert set(names) == set(VERDICT_TYPES)
            seq = payload.metrics[names.index("Verdict/Sequence")].value
            assert {metric.timestamp for metric in payload.metrics} == {EPOCH_S * 1000 + seq}
            self.verdicts.append((seq, bool(payload.metrics[0].is_historical)))

    def _update(self, payload: WirePayload) -> list[str]:
        names = [self.aliases[metric.alias] for metric in payload.metrics]
        for name, metric in zip(names, payload.metrics, strict=True):
            assert metric.name is None
            assert metric.datatype is None
            if not metric.is_historical:
                self.values[name] = metric.value
        return names


class Plant:
    """Node, reporter and host, and a connection that writes when the test says so, or breaks."""

    def __init__(self, *, backlog: int = 1000, primary_host_id: str | None = None) -> None:
        names = Names("plant", "station1", "vision", primary_host_id)
        self.node = EdgeNode(names, NODE_TYPES, DEVICE_TYPES)
        self.readings = FakeReadings()
        self.backlog = Backlog(backlog)
        self.reporter = Reporter(self.node, self.readings, self.backlog)
        self.host = Host()
        self.now_ms = EPOCH_S * 1000 + 10**9
        self.offered = 0
        self.handed: list[tuple[int, Outgoing]] = []
        self._token = 0
        self._broken_after: int | None = None

    def offer(self, count: int = 1, **values: Any) -> None:
        for _ in range(count):
            self.offered += 1
            self.backlog.offer(verdict(self.offered, **values), 12)

    def connect(self) -> None:
        self.node.open(self.now_ms)
        self.node.connect_sent()
        self.node.connected()

    def turn(self, break_after: int | None = None) -> None:
        """One turn; the connection breaks after so many messages."""
        self.now_ms += LOOK_MS
        self._broken_after = break_after
        try:
            self.reporter.turn(self.now_ms, self._send)
        except BrokerError:
            self.lose()

    def write(self) -> None:
        """The connection writes everything that it was handed, and the host reads it."""
        for token, message in self.handed:
            self.host.take(message)
            self.reporter.written(token)
        self.handed.clear()

    def settle(self) -> None:
        """Turns until nothing is left to say."""
        while True:
            self.turn()
            if not self.handed:
                return
            self.write()

    def lose(self) -> None:
        self.handed.clear()
        self.reporter.lost()
        self.node.lost()
        self.host.session_ended()

    def hear(self, topic: str, payload: bytes) -> Heard:
        heard = self.node.receive(topic, payload, retained=False)
        if heard is Heard.HOST_OFFLINE:
            self.write()
            self.host.take(self.node.death(self.now_ms))
            self.lose()
        return heard

    def _send(self, message: Outgoing) -> Hashable:
        if self._broken_after == 0:
            raise BrokerError("broken")
        if self._broken_after is not None:
            self._broken_after -= 1
        self._token += 1
        self.handed.append((self._token, message))
        return self._token


def state(online: bool, timestamp: int) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


def test_verdicts_go_out_in_order_and_as_present_ones_while_connected() -> None:
    plant = Plant()
    plant.connect()
    plant.turn()
    plant.write()
    for _ in range(300):
        plant.offer()
        plant.turn()
        plant.write()
    assert plant.host.verdicts == [(number, False) for number in range(1, 301)]
    assert plant.host.values["Count/OK"] == 300


def test_before_the_first_verdict_its_metrics_are_null_and_the_counters_zero() -> None:
    plant = Plant()
    plant.connect()
    plant.turn()
    plant.write()
    (dbirth,) = [payload for verb, payload in plant.host.payloads if verb == "DBIRTH"]
    assert dbirth.named("Verdict/Part").is_null
    assert dbirth.named("Verdict/Score").is_null
    assert dbirth.named("Count/NG").value == 0


@pytest.mark.tck("tck-id-operational-behavior-edge-node-termination-host-offline-reconnect")
def test_what_waited_while_the_host_was_offline_comes_as_history_after_a_birth_with_the_newest() -> None:
    plant = Plant(primary_host_id=HOST)
    plant.connect()
    plant.hear(STATE, state(True, 1))
    plant.offer(2)
    plant.settle()
    assert plant.hear(STATE, state(False, 2)) is Heard.HOST_OFFLINE
    plant.offer(250, res=2, scr=1500)
    plant.connect()
    plant.settle()
    assert len(plant.backlog) == 250

    plant.hear(STATE, state(True, 3))
    plant.turn()
    plant.write()
    assert plant.host.values["Verdict/Sequence"] == 252
    plant.settle()
    plant.offer()
    plant.settle()

    assert plant.host.bd_seqs == [0, 1]
    assert plant.host.verdicts[2:] == [(number, True) for number in range(3, 253)] + [(253, False)]
    assert plant.host.values["Count/NG"] == 250
    assert plant.backlog.dropped == 0


def test_a_full_backlog_drops_the_oldest_and_tells_how_many() -> None:
    plant = Plant(backlog=10)
    plant.offer(25)
    plant.connect()
    plant.settle()
    assert [seq for seq, _ in plant.host.verdicts] == list(range(16, 26))
    assert plant.backlog.dropped == plant.host.values["Sparkplug/Dropped Verdicts"] == 15
    assert plant.host.values["Count/OK"] == 25


def test_a_connection_that_writes_nothing_gets_no_more_than_a_window() -> None:
    plant = Plant()
    plant.offer(500)
    plant.connect()
    for _ in range(5):
        plant.turn()
    assert sum("DDATA" in message.topic for _, message in plant.handed) == WINDOW
    assert len(plant.backlog) == 500 - WINDOW


def test_verdicts_that_were_never_written_are_sent_in_the_next_session() -> None:
    plant = Plant()
    plant.connect()
    plant.settle()
    plant.offer(20)
    plant.turn()
    plant.lose()
    plant.connect()
    plant.settle()
    assert plant.host.verdicts == [(number, True) for number in range(1, 21)]


def test_a_loop_that_stands_still_is_a_dead_device_and_is_born_again_when_it_turns() -> None:
    plant = Plant()
    plant.readings.device_is_alive = False
    plant.connect()
    plant.settle()
    plant.readings.device_is_alive = True
    plant.settle()
    plant.readings.device_is_alive = False
    plant.settle()
    plant.settle()
    plant.offer(2)
    plant.readings.device_is_alive = True
    plant.settle()
    assert [verb for verb, _ in plant.host.payloads] == ["NBIRTH", "DBIRTH", "DDEATH", "DBIRTH", "DDATA", "DDATA"]
    assert plant.host.verdicts == [(1, True), (2, True)]


def test_a_change_of_state_is_said_alone_and_once() -> None:
    plant = Plant()
    plant.connect()
    plant.settle()
    plant.readings.code = 3
    plant.settle()
    plant.settle()
    verb, payload = plant.host.payloads[-1]
    assert (verb, [metric.value for metric in payload.metrics]) == ("DDATA", [3])
    assert len(plant.host.payloads) == 3


@pytest.mark.parametrize(
    ("values", "score"), [({"res": 0, "err": 501, "scr": 0}, None), ({"res": 0, "scr": 7}, 7), ({"scr": 0}, 0)]
)
def test_a_part_without_a_score_has_a_null_score(values: dict[str, int], score: int | None) -> None:
    plant = Plant()
    plant.connect()
    plant.settle()
    plant.offer(**values)
    plant.settle()
    assert plant.host.values["Verdict/Score"] == score
    assert plant.host.values["Verdict/Latency"] == 12


def test_between_two_looks_verdicts_are_sent_and_the_station_is_not_asked() -> None:
    plant = Plant()
    plant.connect()
    plant.settle()
    plant.readings.code = 3
    plant.offer()
    plant.now_ms -= LOOK_MS - 1
    plant.turn()
    plant.write()
    assert (plant.host.verdicts, plant.host.values["State/Code"]) == ([(1, False)], 7)
    plant.turn()
    plant.write()
    assert plant.host.values["State/Code"] == 3


def test_refused_writes_are_told() -> None:
    plant = Plant()
    plant.connect()
    plant.settle()
    plant.hear("spBv1.0/plant/DCMD/station1/vision", command("State/Code", number=1))
    plant.settle()
    assert plant.host.values["Sparkplug/Refused Writes"] == 1


def test_nothing_is_idle_while_a_verdict_could_still_leave() -> None:
    plant = Plant()
    plant.offer()
    assert plant.reporter.is_idle
    plant.connect()
    plant.turn()
    assert not plant.reporter.is_idle
    plant.write()
    assert plant.reporter.is_idle


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the host never objects, and each verdict arrives once or is counted.

    A verdict that was written may still be lost with the connection (QoS 0); here everything written arrives.
    """

    @initialize(backlog=st.sampled_from([3, 40, 1000]), with_host=st.booleans())
    def begin(self, backlog: int, with_host: bool) -> None:
        self.plant = Plant(backlog=backlog, primary_host_id=HOST if with_host else None)
        self.host_clock = 0

    @rule(count=st.integers(1, 150), res=st.integers(0, 3))
    def offer(self, count: int, res: int) -> None:
        self.plant.offer(count, res=res)

    @precondition(lambda self: self.plant.node.phase is Phase.CLOSED)
    @rule()
    def connect(self) -> None:
        self.plant.connect()

    @rule(break_after=st.none() | st.integers(0, 6))
    def turn(self, break_after: int | None) -> None:
        self.plant.turn(break_after)

    @rule()
    def write(self) -> None:
        self.plant.write()

    @rule()
    def lose(self) -> None:
        self.plant.lose()

    @rule()
    def rebirth(self) -> None:
        self.plant.hear(NCMD, command(REBIRTH, flag=True))

    @rule()
    def write_refused(self) -> None:
        self.plant.hear(NCMD, command("Properties/Boot", number=1))

    @rule(online=st.booleans(), age=st.integers(-2, 2))
    def host_says(self, online: bool, age: int) -> None:
        self.host_clock += 1
        self.plant.hear(STATE, state(online, max(0, self.host_clock + age)))

    @rule(alive=st.booleans(), code=st.sampled_from([3, 7]))
    def station_changes(self, alive: bool, code: int) -> None:
        self.plant.readings.device_is_alive, self.plant.readings.code = alive, code

    @invariant()
    def each_verdict_came_at_most_once_and_in_order(self) -> None:
        seen = [seq for seq, _ in self.plant.host.verdicts]
        assert seen == sorted(set(seen))

    def teardown(self) -> None:
        plant = self.plant
        plant.lose()
        plant.connect()
        plant.hear(STATE, state(True, 10**6))
        plant.readings.device_is_alive = True
        plant.settle()
        assert len(plant.host.verdicts) + plant.backlog.dropped == plant.offered


TestAnyOrder: Callable[..., Any] = AnyOrder.TestCase
AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
