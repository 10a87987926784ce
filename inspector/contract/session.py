"""One MQTT connection, from its request to its end; `link.py` makes one after the other.

May import the configuration, errors and paho. It is thrown away when it ends, so that nothing it had not
delivered can ever be sent again: paho's own reconnect repeats unacknowledged messages, however old they are.
"""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from inspector.config import BrokerConfig
from inspector.errors import BrokerError

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0
MQTT5_ANSWER_TIMEOUT_S = 1.0
"""Some brokers of MQTT 3.1.1 never answer a request of MQTT 5 with a will (amqtt 0.12); the other one is tried then."""
CLOSE_TIMEOUT_S = 1.0
MAX_UNACKNOWLEDGED = 100


class Token(NamedTuple):
    """Names one published message; message ids alone repeat with each connection."""

    session: int
    mid: int


@dataclass(frozen=True)
class Connected:
    """The broker accepted us, and the subscriptions stand."""

    session: int


@dataclass(frozen=True)
class Lost:
    """The connection is gone, and with it everything that was not acknowledged."""

    session: int
    reason: str


@dataclass(frozen=True)
class Acknowledged:
    """The broker has answered for a message of QoS 1, or one of QoS 0 was written to the socket."""

    token: Token
    accepted: bool


@dataclass(frozen=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool
    received_monotonic_s: float


Event = Connected | Lost | Acknowledged | Received


@dataclass(frozen=True)
class Will:
    """What the broker says in our name when the connection dies, and we say before a clean end."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True)
class Identity:
    """Who connects, with what will, and what for: `subscriptions` are pairs of filter and QoS.

    `client_id` must be fixed and unique; two clients with one id kick each other out.
    """

    client_id: str
    will: Will | None = None
    subscriptions: tuple[tuple[str, int], ...] = ()


class UnreachableError(BrokerError):
    """There is nobody at that address: nothing was sent."""


class ProtocolRefusedError(BrokerError):
    """The broker refuses this version of MQTT, or hangs up without an answer, as some old ones do."""


class _WatchedClient(paho.Client):
    """Says whatever way its network thread ends; paho's own `is_connected` stays true after an exception in it."""

    def __init__(self, client_id: str, protocol: MQTTProtocolVersion, ended: Callable[[str], None]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else True,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        self._ended = ended

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        reason = ""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # a malformed packet must end this connection, not hang the station
            log.exception("the MQTT network thread died")
            reason = f"the network thread died: {error}"
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self._ended(reason)


class Session:
    """One connection to the broker; `tell` gets its events and must only put them on a queue.

    Raises:
        BrokerError: the password file or a certificate cannot be used.
    """

    def __init__(
        self,
        config: BrokerConfig,
        identity: Identity,
        protocol: MQTTProtocolVersion,
        *,
        number: int,
        tell: Callable[[Event], None],
    ) -> None:
        self.number = number
        self.protocol = protocol
        self.capacity = MAX_UNACKNOWLEDGED
        self.problem = ""
        self.ended = threading.Event()
        self._config = config
        self._identity = identity
        self._tell = tell
        self._reason: ReasonCode | None = None
        self._publishing = threading.Lock()
        self._unacknowledged: list[paho.MQTTMessageInfo] = []
        self._answered = threading.Event()
        self._subscribed = threading.Event()
        self._client = self._make_client()

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            UnreachableError: nobody there.
            BrokerError: refused, or no answer.
            ProtocolRefusedError: the other version of MQTT should be tried.
        """
        config = self._config
        try:
            self._client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, ValueError) as error:
            raise UnreachableError(f"cannot connect: {error}") from error
        self._client.loop_start()
        v5 = self.protocol == MQTTProtocolVersion.MQTTv5
        self._wait_for(self._answered, MQTT5_ANSWER_TIMEOUT_S if v5 else ANSWER_TIMEOUT_S)
        reason = self._reason
        if reason is None:
            raise ProtocolRefusedError(f"no answer to the connection request{self._certificate_advice}")
        if reason.getName() == "Unsupported protocol version":
            raise ProtocolRefusedError(f"refused: {reason}")
        if reason.is_failure:
            raise BrokerError(
                f"refused: {reason}; check {config.section}.username, "
                f"{config.section}.password_file and the broker's rights"
            )
        if self._identity.subscriptions:
            self._client.subscribe(list(self._identity.subscriptions))
            self._wait_for(self._subscribed, ANSWER_TIMEOUT_S)
            if self.problem or not self._subscribed.is_set():
                raise BrokerError(self.problem or "no answer to the subscription")

    def subscribe(self, topic: str, qos: int) -> bool:
        """Ask for one more topic, for as long as this session lives; False when the connection is gone."""
        return not self.ended.is_set() and self._client.subscribe(topic, qos)[0] == MQTTErrorCode.MQTT_ERR_SUCCESS

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: float | None
    ) -> paho.MQTTMessageInfo | None:
        """Hand a message to the socket; None when the connection is gone or has too many unacknowledged."""
        if self.ended.is_set():
            return None
        properties = None
        if expiry_s is not None and self.protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, ceil(expiry_s))
        if qos == 0:
            info = self._client.publish(topic, payload, qos, retain, properties)
            return info if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None
        with self._publishing:  # no callback takes this lock
            self._unacknowledged = [sent for sent in self._unacknowledged if not sent.is_published()]
            if len(self._unacknowledged) >= self.capacity:
                return None
            info = self._client.publish(topic, payload, qos, retain, properties)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return None
            self._unacknowledged.append(info)
            return info

    def abort(self, reason: str) -> None:
        """Cut the connection; what lies in its buffers is thrown away, not sent."""
        self.problem = self.problem or reason
        sock: Any = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):  # already closed, which is what we want
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect in good order, or cut where the other side does not take part; ends the network thread."""
        self._client.disconnect()
        if not self.ended.wait(CLOSE_TIMEOUT_S):
            self.abort("closed")
        self._client.loop_stop()

    @property
    def _certificate_advice(self) -> str:
        """With TLS 1.3 a broker that refuses our certificate, or misses one, just hangs up."""
        if not self._config.uses_tls:
            return ""
        section, own = self._config.section, self._config.cert_file
        what = f"take the certificate {own}" if own else "let anyone in without a certificate"
        return f"; the broker may not {what}: check {section}.cert_file, its date and its authority"

    def _make_client(self) -> _WatchedClient:
        config, will = self._config, self._identity.will
        client = _WatchedClient(self._identity.client_id, self.protocol, self._on_end)
        client.connect_timeout = ANSWER_TIMEOUT_S
        client.max_inflight_messages_set(0)  # 0: no queue inside paho, where a verdict could grow old
        if config.username is not None:
            client.username_pw_set(config.username, _read_password(config))
        if config.uses_tls:
            ca_file, cert_file, key_file = (
                str(path) if path else None for path in (config.ca_file, config.cert_file, config.key_file)
            )
            try:
                client.tls_set(ca_certs=ca_file, certfile=cert_file, keyfile=key_file)
            except (OSError, ValueError) as error:
                raise BrokerError(
                    f"TLS cannot be set up: {error}; check {config.section}.ca_file, {config.section}.cert_file and "
                    f"{config.section}.key_file"
                ) from error
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _wait_for(self, answer: threading.Event, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not answer.wait(0.05) and not self.ended.is_set() and time.monotonic() < deadline:
            pass

    # From here on paho's network thread calls: an exception would kill it, a lock could hang it.

    def _on_end(self, reason: str) -> None:
        self.problem = self.problem or reason
        self.ended.set()

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        # Bytes that stay unacknowledged for too long end the connection: a verdict must not arrive after its window.
        with contextlib.suppress(OSError, AttributeError):  # not offered by this system
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._config.unacknowledged_ms)

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        limit = getattr(properties, "ReceiveMaximum", None)
        if isinstance(limit, int) and limit > 0:
            self.capacity = min(MAX_UNACKNOWLEDGED, limit)
        self._reason = reason
        self._answered.set()

    def _on_subscribe(self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.problem = f"subscription refused: {', '.join(refused)}; check the broker's rights"
        self._subscribed.set()

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self.problem = self.problem or f"disconnected: {reason}"

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._tell(Acknowledged(Token(self.number, mid), not reason.is_failure))

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(UnicodeDecodeError):  # a topic that is not UTF-8 is none of ours
            self._tell(Received(message.topic, bytes(message.payload), message.retain, time.monotonic()))


def _read_password(config: BrokerConfig) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"{config.section}.password_file {config.password_file} cannot be read: {error}") from error
