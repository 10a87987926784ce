"""The acceptance test on a PLC that is not ours: it triggers at its own pace, at a broker that we may not touch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inspector.config import MqttConfig
from inspector.contract.gate import AcceptanceGate, GateSettings
from inspector.contract.messages import Heartbeat, State
from inspector.contract.topics import Topics
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import BrokerError, UsageError
from inspector.fat.faults import FAULTS
from inspector.fat.opponents import RealOpponent
from inspector.fat.run import FatResult, Status, run
from tests.brokers import KINDS, TestBroker, Witness, wait_until
from tests.plccode.interpreted import InterpretedGate
from tests.plccode.mutants import MUTANTS, broken
from tests.secured import SecuredBroker, needs_mosquitto

pytestmark = pytest.mark.any_payload  # broken messages are sent on purpose
RCP, TIMEOUT_S, PERIOD_S = 5, 2.0, 0.25
CLIENT_ID = "plant-plc"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TestBroker]:
    running = TestBroker(KINDS[0], tmp_path)
    yield running
    running.close()


@contextmanager
def plant(config: MqttConfig, gate: AcceptanceGate | None = None, *, one_at_a_time: bool = False) -> Iterator[None]:
    """A PLC with its belt: a part each `PERIOD_S`, or the next one when the last one is decided."""
    ended = threading.Event()
    settings = PlcSettings(client_id=CLIENT_ID, timeout_s=TIMEOUT_S, first_trigger=88123)
    with VirtualPlc(config, settings, wanted_rcp=RCP, gate=gate) as plc:

        def belt() -> None:
            while not ended.wait(PERIOD_S):
                if plc.link.is_connected:
                    plc.trigger("plant")
                while one_at_a_time and plc.counts.triggers > plc.counts.accepted + plc.counts.rejected:
                    if ended.wait(0.01):
                        return

        thread = threading.Thread(target=belt)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def play(config: MqttConfig, *names: str, client_id: str | None = None, first_part_s: float = 30.0) -> FatResult:
    opponent = RealOpponent(config, timeout_s=TIMEOUT_S, first_part_s=first_part_s, client_id=client_id)
    return run(opponent, rcp=RCP, faults=[fault for fault in FAULTS if not names or fault.name in names])


def test_a_right_plc_passes_all_but_the_fault_that_would_kill_the_plants_broker(broker: TestBroker) -> None:
    witness = Witness(broker.port)
    config = MqttConfig(port=broker.port, prefix="plant/line4")
    with plant(config):
        result = play(config, client_id=CLIENT_ID)
    wait_until(lambda: witness.of("plant/line4/vis1/state")[-1].find(b'"on":0') > 0)
    witness.close()

    status = {outcome.name: (outcome.status, outcome.reason) for outcome in result.outcomes}
    assert status.pop("broker killed and restarted")[0] is Status.NOT_RUN
    assert set(status.values()) == {(Status.PASSED, "")}, status
    assert result.passed
    late = Witness(broker.port, client_id="late")  # what the third party left is gone
    wait_until(lambda: late.of("plant/line4/vis1/state"))
    assert {topic for topic, payload, retained, _ in late.messages if retained and payload} == {
        "plant/line4/vis1/state"
    }
    late.close()


def test_what_needs_the_plcs_connection_cut_is_not_run_without_its_client_id(broker: TestBroker) -> None:
    config = MqttConfig(port=broker.port)
    with plant(config):
        result = play(config, "retained result of a third party", "silent heartbeat with a living connection")

    retained, silent = result.outcomes
    assert (retained.status, silent.status) == (Status.NOT_RUN, Status.PASSED)
    assert "--plc-client-id" in retained.reason
    assert "were not played" in silent.notes[0]


def test_a_plc_with_one_part_on_the_way_at_a_time_is_tested_with_one(broker: TestBroker) -> None:
    config = MqttConfig(port=broker.port)
    with plant(config, one_at_a_time=True):
        result = play(config, "reordering", "two verdicts within one PLC cycle")

    assert [(outcome.status, outcome.reason) for outcome in result.outcomes] == [(Status.PASSED, "")] * 2
    assert all("one part on the way at a time" in outcome.notes[0] for outcome in result.outcomes)


def test_a_wrong_plc_fails_at_the_plants_broker_too(broker: TestBroker) -> None:
    config = MqttConfig(port=broker.port)
    gate = InterpretedGate(broken(MUTANTS["ignores boot"]), GateSettings(TIMEOUT_S), wanted_rcp=RCP)
    with plant(config, gate):
        result = play(config, "boot change")

    assert result.outcomes[0].status is Status.FAILED
    assert result.outcomes[0].bad_accepted >= 1


def test_a_plc_that_triggers_nothing_is_unknown(broker: TestBroker) -> None:
    result = play(MqttConfig(port=broker.port), "duplicate", first_part_s=0.5)

    assert result.outcomes[0].status is Status.UNKNOWN
    assert "triggered no part" in result.outcomes[0].reason
    assert not result.passed


def test_a_station_that_runs_is_not_played_over(broker: TestBroker) -> None:
    config = MqttConfig(port=broker.port)
    topics, worker, ended = Topics(config.prefix), Witness(broker.port, client_id="worker"), threading.Event()
    beat = Heartbeat(boot=7, n=1, st=7, age=0, q=0, seq=0).to_json()

    def run_worker() -> None:
        while not ended.wait(0.2):
            worker.publish(topics.hb, beat)

    thread = threading.Thread(target=run_worker)
    thread.start()
    with pytest.raises(UsageError, match="a station is running below factory/line1/vis1"):
        play(config, "duplicate")
    ended.set()
    thread.join()
    assert worker.of(topics.state) == []
    worker.close()


def test_the_played_station_is_a_newer_boot_than_the_one_that_the_plc_knows(broker: TestBroker) -> None:
    config = MqttConfig(port=broker.port)
    topics, witness = Topics(config.prefix), Witness(broker.port)
    gone = State(on=0, st=0, mode=0, boot=65535, rcp=0, rev=0, err=0, win=2000, hbp=1000, ts=5)
    witness.publish(topics.state, gone.to_json(), retain=True)
    play(config, "duplicate", first_part_s=0.2)

    wait_until(lambda: len(witness.of(topics.state)) >= 3)
    assert [State.from_json(payload).boot for payload in witness.of(topics.state)] == [65535, 1, 1]
    witness.close()


def test_a_broker_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspector.fat.observer.CONNECT_S", 0.3)
    with pytest.raises(BrokerError, match="found no broker"):
        play(MqttConfig(port=1), "duplicate")


@needs_mosquitto
def test_on_the_shipped_broker_the_test_runs_by_its_own_login_and_listener(tmp_path: Path) -> None:
    broker = SecuredBroker(tmp_path)
    try:
        with plant(broker.login("station1-plc")):
            mine = broker.by_password("fat", port=broker.fat_port)
            (outcome,) = play(mine, "duplicate").outcomes
            assert outcome.status is Status.PASSED
            with pytest.raises(UsageError, match="does not let this login say and hear"):
                play(broker.login("station1"), "duplicate")
            with pytest.raises(UsageError, match="end each other"):
                play(broker.by_password("fat"), "duplicate")
    finally:
        broker.close()
