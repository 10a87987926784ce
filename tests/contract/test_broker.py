"""The broker of demo and tests: starts, answers, ends, and refuses what cannot work."""

import subprocess
from pathlib import Path

import pytest

from inspector.config import MqttConfig
from inspector.contract.broker import BrokerKind, find_mosquitto, free_port, probe_broker, start_broker
from inspector.errors import BrokerError
from tests.brokers import KINDS, TestBroker


def test_a_broker_that_has_started_accepts_a_login_at_once(broker: TestBroker) -> None:
    assert probe_broker(MqttConfig(port=broker.port)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_broker_is_gone_with_its_folder(kind: BrokerKind) -> None:
    with start_broker(kind=kind) as running:
        assert running.is_alive
        assert running.host == "127.0.0.1"

    assert not running.is_alive
    assert not running.folder.exists()
    assert "cannot connect" in str(probe_broker(MqttConfig(port=running.port)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_in_use_is_refused_with_a_sentence(broker: TestBroker, kind: BrokerKind) -> None:
    with pytest.raises(BrokerError, match=f"port {broker.port} of 127.0.0.1 cannot be used.*choose another port"):
        start_broker(broker.port, kind=kind)


def test_the_embedded_broker_says_that_it_has_no_logins(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no logins"):
        start_broker(kind="amqtt", password_file=tmp_path / "passwords")


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="ended while it started"):
        start_broker(kind="mosquitto", folder=tmp_path, password_file=tmp_path / "missing")


def test_nobody_at_the_port_is_said_in_a_sentence() -> None:
    assert "cannot connect" in str(probe_broker(MqttConfig(port=free_port())))


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_probe_with_a_wrong_password_is_told_so(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "station", "right"], check=True)
    (tmp_path / "wrong").write_text("wrong\n")
    with start_broker(kind="mosquitto", password_file=passwords) as running:
        config = MqttConfig(port=running.port, username="station", password_file=tmp_path / "wrong")
        assert "refused: Not authorized" in str(probe_broker(config))
