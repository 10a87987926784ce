"""Real brokers for the tests that need one, a subscriber that writes everything down, and waiting with an end."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from inspector.config import BrokerConfig
from inspector.contract.broker import BrokerKind, BrokerProcess, find_mosquitto, start_broker
from tests.asyncapi_judge import JUDGE, Emission

KINDS: list[BrokerKind] = ["mosquitto", "amqtt"] if find_mosquitto() else ["amqtt"]


def wait_until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Give the condition time to come true; the assertion says that it never did."""
    end = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        end.wait(0.01)
    assert condition()


class TestBroker:
    """A broker on one port that can be killed, frozen and started again."""

    __test__ = False

    def __init__(self, kind: BrokerKind, folder: Path, password_file: Path | None = None) -> None:
        self.kind, self.folder, self.password_file = kind, folder, password_file
        self.process: BrokerProcess = start_broker(0, folder, kind=kind, password_file=password_file)
        self.port = self.process.port

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        self.process = start_broker(self.port, self.folder, kind=self.kind, password_file=self.password_file)

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        if self.process.is_alive:
            self.process.kill()


class Witness:
    """An independent subscriber: every message with its time of arrival; it connects again by itself."""

    injected: ClassVar[set[tuple[str, bytes]]] = set()
    """What tests published as a third party; it need not be a message of the contract."""

    def __init__(
        self, port: int, topic: str = "#", *, client_id: str = "witness", login: BrokerConfig | None = None
    ) -> None:
        self.messages: list[tuple[str, bytes, bool, float]] = []
        self.subscriptions = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        if login is not None and login.username is not None:
            self._client.username_pw_set(login.username, (login.password_file or Path(os.devnull)).read_text().strip())
        if login is not None and login.tls:
            self._client.tls_set(
                *(str(path) if path else None for path in (login.ca_file, login.cert_file, login.key_file))
            )
        self._client.connect("127.0.0.1", port, 5)
        self._client.loop_start()
        wait_until(lambda: self.subscriptions)

    def _on_subscribe(self, *_: object) -> None:
        self.subscriptions += 1

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload), message.retain, time.monotonic()))

    def of(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _, _ in list(self.messages) if name == topic]

    def faults(self) -> list[str]:
        """What the AsyncAPI document says against the messages that others than the tests have published."""
        seen = {(topic, payload) for topic, payload, _, _ in list(self.messages)} - self.injected
        return sorted(fault for topic, payload in seen for fault in JUDGE.faults(Emission(topic, payload)))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.injected.add((topic, payload))
        self._client.publish(topic, payload, 1, retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
