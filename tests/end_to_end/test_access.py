"""A whole station on a broker with the shipped rights: TLS works, and a refused login stops nothing but the messages."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.commands import doctor
from inspector.config import MqttConfig
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Belt, Line, small_encoder, started
from tests.secured import PASSWORD, PREFIX, SecuredBroker, needs_mosquitto

pytestmark = needs_mosquitto
CONNECTED = "connected to the MQTT broker"


def values_of(login: MqttConfig) -> dict[str, Any]:
    return login.model_dump(mode="json", exclude_defaults=True) | {"prefix": PREFIX, "heartbeat_ms": 300}


@pytest.fixture
def secured_line(taught_line: tuple[Path, dict[str, int]], tmp_path: Path) -> Iterator[Line]:
    """A line whose station has a certificate."""
    template, taught = taught_line
    shutil.copytree(template, tmp_path / "data")
    broker = SecuredBroker(tmp_path)
    values: dict[str, Any] = {
        "data_dir": str(tmp_path / "data"),
        "encoder": small_encoder(tmp_path),
        "cameras": [{"name": "line", "kind": "simulated", "trigger": "mqtt", "defect_rate": 0.3}],
        "batching": {"deadline_ms": 4000, "queue_size": 64},
        "mqtt": values_of(broker.login("station1")),
        "images": {"save": "none"},
    }
    recorder = Witness(broker.port, "factory/#", login=broker.login("reader"))
    line = Line(tmp_path, broker, taught, values, recorder, prefix=PREFIX)
    yield line
    line.close()


def plc_of(line: Line, login: MqttConfig) -> VirtualPlc:
    settings = PlcSettings(timeout_s=5.0, allow_simulated=True)
    return VirtualPlc(login, settings, wanted_rcp=line.taught["flange"])


def test_verdicts_reach_the_plc_over_tls_with_client_certificates(secured_line: Line) -> None:
    line = secured_line
    with plc_of(line, line.broker.login("station1-plc")) as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", 0.1) as belt:
            belt.wait_for(15)
            connected = line.log.count(CONNECTED)
            finding = doctor.CHECKS["broker"](line.config)
            assert (finding.status, line.log.count(CONNECTED)) == ("OK", connected), "doctor took the station's place"
            belt.wait_for(15)
        plc.wait_decided()
        wait_until(lambda: line.outbox_size() == 0, 60)
        assert line.stop(worker) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    rows = line.rows()
    assert sorted(row.trg for row in rows) == belt.triggers
    assert accepted
    assert accepted <= {row.trg for row in rows if row.verdict == Verdict.OK}


def test_with_a_wrong_password_parts_are_inspected_and_the_plc_is_never_told_that_it_is_ready(
    secured_line: Line,
) -> None:
    line = secured_line
    line.values["cameras"] = [{"name": "line", "kind": "simulated", "period_s": 0.3}]
    line.values["mqtt"] = values_of(line.broker.by_password("station1", "a wrong one"))
    with plc_of(line, line.broker.by_password("station1-plc")) as plc:
        wait_until(lambda: plc.link.is_connected, 60)
        worker = line.start()
        wait_until(lambda: len([row for row in line.rows() if row.score is not None]) > 3, START_S)
        assert (plc.is_ready, plc.state) == (False, None)
        status = line.status()
        assert status["broker_connected"] is False
        sentence = "refused: Not authorized; check mqtt.username, mqtt.password_file and the broker's rights"
        assert sentence in status["broker_problem"]
        assert sentence in line.log
        line.broker.by_password("station1", PASSWORD)
        wait_until(lambda: plc.is_ready, START_S)
        assert line.stop(worker) == 0
    assert "Traceback" not in line.log
