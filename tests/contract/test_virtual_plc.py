"""The virtual PLC against a station that the test plays itself, on real brokers."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inspector.config import MqttConfig
from inspector.contract.codes import AckCode
from inspector.contract.gate import Reason
from inspector.contract.link import BrokerLink
from inspector.contract.messages import (
    Ack,
    CommandMessage,
    Heartbeat,
    RefusedCommand,
    Result,
    SelectRecipe,
    State,
    Trigger,
    read_command,
)
from inspector.contract.reports import Disposition
from inspector.contract.session import Connected, Identity, Received, Will
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import BrokerError
from tests.brokers import KINDS, TestBroker, Witness, wait_until

Judge = Callable[[Trigger], dict[str, Any] | None]


class PlayedStation:
    """Speaks the contract as a station does; `judge` gives what is special about a trigger's result."""

    def __init__(self, config: MqttConfig, judge: Judge, boot: int = 1) -> None:
        self.topics = Topics(config.prefix)
        self.judge = judge
        self.state = State(on=1, st=7, mode=0, boot=boot, rcp=1, rev=1, err=0, win=2000, hbp=200, ts=1)
        self.known_recipes = {1, 2}
        self.seq = 0
        self.beats = True
        will = Will(self.topics.state, self.state.as_offline().to_json())
        self.link = BrokerLink(config, Identity("played-station", will, ((self.topics.cmd_filter, 1),)))
        self._events = self.link.listen(Connected, Received)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._listen, self._beat)]

    def start(self) -> "PlayedStation":
        for thread in self._threads:
            thread.start()
        self.link.start()
        return self

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self.link.stop()

    def say_state(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        self.link.publish(self.topics.state, self.state.to_json(), qos=1, retain=True)

    def _beat(self) -> None:
        while not self._ended.wait(0.1):
            beat = Heartbeat(boot=self.state.boot, n=1, st=self.state.st, age=0, q=0, seq=self.seq)
            if self.beats:
                self.link.publish(self.topics.hb, beat.to_json())

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                event = self._events.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(event, Connected):
                self.say_state()
            else:
                name = self.topics.command_name(event.topic) or ""
                self._obey(name, read_command(name, event.payload, retained=event.retained))

    def _obey(self, name: str, command: CommandMessage | RefusedCommand) -> None:
        if isinstance(command, RefusedCommand):
            self._answer(name, command.cid, command.code)
            return
        if isinstance(command, Trigger):
            self._inspect(command)
            return
        self._answer(name, command.cid, AckCode.ACCEPTED)
        if isinstance(command, SelectRecipe):
            if command.rcp not in self.known_recipes:
                self._answer(name, command.cid, AckCode.UNKNOWN_RECIPE)
                return
            self.say_state(rcp=command.rcp)
        self._answer(name, command.cid, AckCode.DONE)

    def _answer(self, name: str, cid: int, code: AckCode) -> None:
        ack = Ack(cid=cid, cmd=name, code=int(code), st=self.state.st, err=0, lat=1)
        self.link.publish(self.topics.ack, ack.to_json(), qos=1)

    def _inspect(self, trigger: Trigger) -> None:
        special = self.judge(trigger)
        if special is None:
            return
        self.seq += 1
        values: dict[str, Any] = {
            "boot": self.state.boot, "seq": self.seq, "trg": trigger.trg, "res": 1, "err": 0, "flg": 0,
            "rcp": self.state.rcp, "rev": 1, "scr": 500, "roi": 0, "lat": 5, "ts": 1, "ms": 0, "part": trigger.part,
        }  # fmt: skip
        payload = Result(**{**values, **special}).to_json()
        self.link.publish(self.topics.result, payload, qos=1)


@pytest.fixture
def config(broker: TestBroker) -> MqttConfig:
    return MqttConfig(port=broker.port, keepalive_s=2)


@pytest.fixture
def station(config: MqttConfig) -> Iterator[PlayedStation]:
    played = PlayedStation(config, lambda trigger: {"res": 2 if "bad" in trigger.part else 1}).start()
    yield played
    played.close()


@pytest.fixture
def plc(config: MqttConfig) -> Iterator[VirtualPlc]:
    with VirtualPlc(config, PlcSettings(timeout_s=1.0), wanted_rcp=1) as running:
        yield running


def test_good_parts_pass_bad_ones_do_not_and_each_trigger_is_decided_once(
    station: PlayedStation, plc: VirtualPlc
) -> None:
    plc.wait_ready()
    for n in range(20):
        plc.trigger("bad" if n % 4 == 0 else "good")
    plc.wait_decided()

    assert (plc.counts.triggers, plc.counts.accepted, plc.counts.rejected, plc.counts.missing) == (20, 15, 5, 0)
    assert sorted(plc.decisions) == list(range(1, 21))
    assert all(decision.accepted == (trg % 4 != 1) for trg, decision in plc.decisions.items())
    assert all(0 < decision.latency_s < 1 for decision in plc.decisions.values())


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_parts_without_an_answer_are_rejected_by_the_plcs_own_timer(station: PlayedStation, plc: VirtualPlc) -> None:
    station.judge = lambda _trigger: None
    plc.wait_ready()
    plc.trigger()
    plc.expect()
    plc.wait_decided()

    assert (plc.counts.missing, plc.counts.rejected, plc.counts.accepted) == (2, 2, 0)


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_the_product_is_changed_by_command_and_only_the_new_one_passes(station: PlayedStation, plc: VirtualPlc) -> None:
    plc.wait_ready()
    plc.select_recipe(2)
    plc.trigger()
    plc.wait_decided()
    station.judge = lambda _trigger: {"rcp": 1}
    plc.trigger()
    plc.wait_decided()

    assert [plc.decisions[trg].reason for trg in (1, 2)] == [Reason.OK, Reason.WRONG_RECIPE]


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_product_that_the_station_does_not_know_is_an_error_and_nothing_passes(
    station: PlayedStation, plc: VirtualPlc
) -> None:
    plc.wait_ready()
    with pytest.raises(BrokerError, match="refused product 9: code 30"):
        plc.select_recipe(9)
    plc.trigger()
    plc.wait_decided()

    assert plc.counts.accepted == 0


def test_ping_gets_the_final_answer_and_a_silent_station_is_an_error(config: MqttConfig, plc: VirtualPlc) -> None:
    with pytest.raises(BrokerError, match=r"waited in vain for a ready station.*last state: none"):
        plc.wait_ready(0.3)
    station = PlayedStation(config, lambda _trigger: {}).start()
    wait_until(lambda: plc.state is not None)
    assert plc.ping().code == AckCode.DONE
    station.close()


def test_a_retained_result_of_a_third_party_does_not_let_a_part_pass(
    broker: TestBroker, station: PlayedStation, config: MqttConfig
) -> None:
    station.judge = lambda _trigger: None
    injector = Witness(broker.port)
    forged = Result(boot=1, seq=99, trg=1, res=1, err=0, flg=0, rcp=1, rev=1, scr=1, roi=0, lat=1, ts=1, ms=0, part="")
    injector.publish(station.topics.result, forged.to_json(), retain=True)
    plc = VirtualPlc(config, PlcSettings(timeout_s=1.0), wanted_rcp=1)
    plc.expect()  # the trigger is open when the retained message comes
    with plc:
        plc.wait_decided()
        wait_until(lambda: plc.counts.retained >= 1)

    assert (plc.counts.accepted, plc.counts.rejected) == (0, 1)
    injector.close()


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_plc_that_asks_for_result_last_meets_what_is_retained_there_when_it_is_ready(
    broker: TestBroker, station: PlayedStation, config: MqttConfig
) -> None:
    station.judge = lambda _trigger: None
    station.beats = False
    injector = Witness(broker.port)
    forged = Result(boot=1, seq=99, trg=1, res=1, err=0, flg=0, rcp=1, rev=1, scr=1, roi=0, lat=1, ts=1, ms=0, part="")
    injector.publish(station.topics.result, forged.to_json(), retain=True)
    with VirtualPlc(config, PlcSettings(timeout_s=30.0, result_last=True), wanted_rcp=1) as plc:
        plc.expect()
        wait_until(lambda: plc.state is not None)
        assert plc.counts.retained == 0
        station.beats = True
        wait_until(lambda: plc.counts.retained == 1)
        assert plc.is_ready
        assert plc.decisions == {}
    injector.close()


def test_a_retained_command_is_refused_by_the_reader_of_commands(broker: TestBroker, config: MqttConfig) -> None:
    injector = Witness(broker.port)
    topics = Topics(config.prefix)
    injector.publish(topics.cmd("trigger"), Trigger(cid=5, trg=1).to_json(), retain=True)
    station = PlayedStation(config, lambda _trigger: {}).start()

    wait_until(lambda: injector.of(topics.ack))
    codes = {Ack.from_json(payload).code for payload in injector.of(topics.ack)}  # amqtt delivers it twice
    assert codes == {AckCode.RETAINED_REFUSED}
    assert station.seq == 0
    station.close()
    injector.close()


def test_what_comes_before_the_subscription_is_confirmed_is_told_once_the_link_can_answer(config: MqttConfig) -> None:
    link = BrokerLink(config, Identity("early"))
    events = link.listen(Connected, Received)
    session = link._new_session()
    early = Received("factory/line1/vis1/cmd/ping", b"{}", True, 0.0)

    link._tell(early)
    assert events.empty()
    link._accept(session)
    assert [events.get_nowait(), events.get_nowait()] == [Connected(session.number), early]
    assert link.is_connected


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_duplicates_are_dropped_and_counted(station: PlayedStation, plc: VirtualPlc) -> None:
    plc.wait_ready()
    plc.trigger()
    plc.wait_decided()
    first = plc.decisions[1].result
    assert first is not None
    station.link.publish(station.topics.result, first.to_json(), qos=1)

    wait_until(lambda: plc.counts.duplicates == 1)
    assert plc.counts.accepted == 1


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_station_without_heartbeat_lets_nothing_pass(station: PlayedStation, plc: VirtualPlc) -> None:
    plc.wait_ready()
    station.beats = False
    wait_until(lambda: plc.state is not None and not plc.is_ready)
    plc.trigger()
    plc.wait_decided()

    assert plc.decisions[1].reason is Reason.NO_HEARTBEAT


def test_a_dead_station_is_known_by_its_will_and_a_new_boot_is_ready_again(config: MqttConfig, plc: VirtualPlc) -> None:
    station = PlayedStation(config, lambda _trigger: {}).start()
    plc.wait_ready()
    station.link.abort("pulled out")
    wait_until(lambda: plc.state is not None and plc.state.on == 0, timeout_s=3.0)
    station.close()

    again = PlayedStation(config, lambda _trigger: {}, boot=2).start()
    plc.wait_ready()
    plc.trigger()
    plc.wait_decided()
    assert plc.decisions[1].accepted
    again.close()


def test_the_plc_survives_a_broker_that_is_killed_and_lets_nothing_pass_meanwhile(
    broker: TestBroker, station: PlayedStation, plc: VirtualPlc
) -> None:
    plc.wait_ready()
    broker.kill()
    wait_until(lambda: not plc.is_ready)
    plc.trigger()
    plc.wait_decided()
    broker.restart()
    plc.wait_ready()
    plc.trigger()
    plc.wait_decided()

    assert [plc.decisions[trg].reason for trg in (1, 2)] == [Reason.MISSING, Reason.OK]


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_each_decision_is_told_once_in_order(config: MqttConfig, station: PlayedStation) -> None:
    told: list[int] = []
    settings = PlcSettings(first_trigger=4294967294)
    with VirtualPlc(config, settings, wanted_rcp=1, on_decision=lambda decision: told.append(decision.trg)) as plc:
        plc.wait_ready()
        for _ in range(4):
            plc.trigger()
            time.sleep(0.01)
        plc.wait_decided()

    assert told == [4294967294, 4294967295, 1, 2]


def test_each_decided_part_gets_one_receipt_on_disp_with_the_verdict_it_stands_on(
    broker: TestBroker, config: MqttConfig, station: PlayedStation
) -> None:
    witness = Witness(broker.port)
    answers: dict[str, dict[str, Any] | None] = {"good": {}, "bad": {"res": 2}, "silent": None}
    station.judge = lambda trigger: answers[trigger.part]
    with VirtualPlc(config, PlcSettings(timeout_s=1.0), wanted_rcp=1) as plc:
        plc.wait_ready()
        for part in answers:
            plc.trigger(part)
        plc.wait_decided()
        plc.expect()  # still open when the PLC stops

    def receipts() -> list[Disposition]:
        return [Disposition.from_json(payload) for payload in witness.of(station.topics.of("disp"))]

    wait_until(lambda: len(receipts()) == 4)
    assert [(told.trg, told.boot, told.seq, told.acc, told.rsn) for told in receipts()] == [
        (1, 1, 1, 1, Reason.OK.number),
        (2, 1, 2, 0, Reason.NOT_OK.number),
        (3, 0, 0, 0, Reason.MISSING.number),
        (4, 0, 0, 0, Reason.MISSING.number),
    ]
    assert plc.unsent_receipts == 0
    assert not any(retained for topic, _, retained, _ in witness.messages if topic.endswith("/disp"))
    witness.close()


@pytest.mark.parametrize("broker", KINDS[:1], indirect=True)
def test_a_receipt_that_nobody_could_hear_is_counted_and_not_sent_later(
    broker: TestBroker, station: PlayedStation, plc: VirtualPlc
) -> None:
    plc.wait_ready()
    broker.kill()
    wait_until(lambda: not plc.is_ready)
    plc.expect()
    plc.wait_decided()
    broker.restart()
    witness = Witness(broker.port)
    plc.wait_ready()
    plc.trigger()
    plc.wait_decided()

    wait_until(lambda: witness.of(station.topics.of("disp")))
    assert [Disposition.from_json(payload).trg for payload in witness.of(station.topics.of("disp"))] == [2]
    assert plc.unsent_receipts == 1
    witness.close()
