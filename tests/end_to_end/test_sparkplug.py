"""Sparkplug beside a running line: SCADA sees every verdict, and whatever happens to its broker the PLC never notices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.contract.broker import find_mosquitto
from inspector.types import Verdict
from tests.brokers import TestBroker, Witness, wait_until
from tests.edge.sparkplug.test_connection import Host
from tests.end_to_end.plant import Belt, Line, results, started

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
PERIOD_S = 0.06
WINDOW_MS = 2000


@pytest.fixture
def scada(line: Line, tmp_path: Path) -> Iterator[TestBroker]:
    """A second broker; the line is told of it."""
    broker = TestBroker("mosquitto", tmp_path / "scada")
    line.values["sparkplug"] = {"enabled": True, "port": broker.port, "keepalive_s": 60}
    yield broker
    broker.close()


def _each_part_has_one_row_and_was_published_in_time(line: Line, witness: Witness, triggers: list[int]) -> None:
    rows = line.rows()
    assert [row.trg for row in rows] == triggers
    published = results(witness, line.topics.result)
    assert [(one.seq, one.res) for one in published] == [(row.seq, row.verdict) for row in rows]
    assert max(one.lat for one in published) < WINDOW_MS
    assert witness.of(line.topics.late) == []


def test_scada_sees_each_verdict_of_the_rows_and_the_death_of_a_stopped_worker(line: Line, scada: TestBroker) -> None:
    host, witness = Host(scada.port), Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(40)
        plc.wait_decided()
        wait_until(lambda: len(host.verdicts()) >= len(line.rows()))
        assert line.status()["sparkplug"]["phase"] == "alive"
        assert line.stop(worker) == 0
        triggers = belt.triggers
    wait_until(lambda: "NDEATH" in host.verbs)
    rows = line.rows()
    _each_part_has_one_row_and_was_published_in_time(line, witness, triggers)
    assert [seq for seq, _ in host.verdicts()] == [row.seq for row in rows]
    values = host.device_values()
    assert values["Count/OK"] == sum(row.verdict == Verdict.OK for row in rows)
    assert values["Count/NG"] == sum(row.verdict == Verdict.NG for row in rows)
    assert (values["Verdict/Trigger"], values["Verdict/Part"]) == (rows[-1].trg, rows[-1].part)
    assert values["Recipe/Name"] == "flange"
    host.close()
    witness.close()


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_verdicts_go_on_unaffected_when_the_broker_of_scada_is_gone(line: Line, scada: TestBroker, fault: str) -> None:
    host, witness = Host(scada.port), Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(15)
            wait_until(host.verdicts)
            scada.kill() if fault == "killed" else scada.freeze()
            belt.wait_for(40)
            if fault == "killed":
                wait_until(lambda: line.status()["sparkplug"]["backlog"] > 20)
                scada.restart()
                wait_until(lambda: host.subscriptions == 2)
            else:
                scada.thaw()
            belt.wait_for(15)
        plc.wait_decided()
        wait_until(lambda: line.rows()[-1].seq in [seq for seq, _ in host.verdicts()])
        assert line.stop(worker) == 0
    _each_part_has_one_row_and_was_published_in_time(line, witness, belt.triggers)
    seen = host.verdicts()
    assert [seq for seq, _ in seen] == sorted({seq for seq, _ in seen})
    if fault == "frozen":
        assert len(seen) == len(line.rows())
    host.close()
    witness.close()


def test_a_station_whose_scada_was_never_there_inspects_like_any_other(line: Line, scada: TestBroker) -> None:
    scada.kill()
    line.values["sparkplug"]["backlog"] = 10
    witness = Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(30)
        plc.wait_decided()
        wait_until(lambda: line.status()["sparkplug"]["dropped"] >= 20)
        status = line.status()["sparkplug"]
        assert line.stop(worker) == 0
    assert (status["phase"], status["backlog"], status["births"]) == ("closed", 10, 0)
    assert "cannot connect" in status["problem"]
    _each_part_has_one_row_and_was_published_in_time(line, witness, belt.triggers)
    witness.close()
