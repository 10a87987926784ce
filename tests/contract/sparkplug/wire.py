"""Bytes of Sparkplug payloads and of MQTT's CONNECT, read by hand: no protobuf library, so that ours is checked by another.

Field numbers and wire types are those of the specification's chapter 6; whatever it does not name is an error here.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

PAYLOAD_FIELDS = {1: "timestamp", 2: "metrics", 3: "seq"}
METRIC_FIELDS = {
    1: "name",
    2: "alias",
    3: "timestamp",
    4: "datatype",
    5: "is_historical",
    6: "is_transient",
    7: "is_null",
    10: "int_value",
    11: "long_value",
    12: "float_value",
    13: "double_value",
    14: "boolean_value",
    15: "string_value",
}
TEXT_FIELDS = ("name", "string_value")
FLAG_FIELDS = ("is_historical", "is_transient", "is_null", "boolean_value")
SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}


@dataclass
class WireMetric:
    """A metric as it stands in the bytes; `values` has every value field that is there."""

    fields: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.fields.get(name)

    @property
    def values(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name.endswith("_value")}

    @property
    def value(self) -> Any:
        """The one value; None for a null."""
        assert len(self.values) <= 1
        return next(iter(self.values.values()), None)

    def signed(self, datatype: int) -> int:
        """A signed integer out of its two's complement."""
        bits = 64 if "long_value" in self.values else 32
        assert bits >= SIGNED_BITS[datatype]
        raw = self.value
        return int(raw - 2**bits if raw >= 2 ** (bits - 1) else raw)


@dataclass
class WirePayload:
    timestamp: int | None = None
    seq: int | None = None
    metrics: list[WireMetric] = field(default_factory=list)

    def named(self, name: str) -> WireMetric:
        found = [metric for metric in self.metrics if metric.name == name]
        assert len(found) == 1, f"{name}: {len(found)} times in {[metric.name for metric in self.metrics]}"
        return found[0]

    @property
    def names(self) -> list[str]:
        return [metric.name for metric in self.metrics]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def pairs(data: bytes) -> list[tuple[int, int | bytes]]:
    """Field numbers and raw values, in their order."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = varint(data, at)
            found.append((tag >> 3, number))
            continue
        if kind == 2:
            size, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}[kind]
        assert at + size <= len(data)
        found.append((tag >> 3, data[at : at + size]))
        at += size
    return found


def read_payload(data: bytes) -> WirePayload:
    payload = WirePayload()
    for number, raw in pairs(data):
        name = PAYLOAD_FIELDS[number]
        if name == "metrics":
            assert isinstance(raw, bytes)
            payload.metrics.append(WireMetric(dict(_read_field(*pair) for pair in pairs(raw))))
        else:
            setattr(payload, name, raw)
    return payload


def _read_field(number: int, raw: int | bytes) -> tuple[str, Any]:
    name = METRIC_FIELDS[number]
    if isinstance(raw, bytes):
        if name in TEXT_FIELDS:
            return name, raw.decode()
        return name, struct.unpack({"float_value": "<f", "double_value": "<d"}[name], raw)[0]
    return name, bool(raw) if name in FLAG_FIELDS else raw


def put_varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def put_text(number: int, text: str) -> bytes:
    data = text.encode()
    return put_varint(number << 3 | 2) + put_varint(len(data)) + data


def command(
    name: str | None, *, flag: bool | None = None, number: int | None = None, alias: int | None = None
) -> bytes:
    """A command with one metric, as a host application sends it (no seq, a timestamp)."""
    metric = b""
    if name is not None:
        metric += put_text(1, name)
    if alias is not None:
        metric += put_varint(2 << 3) + put_varint(alias)
    if flag is not None:
        metric += put_varint(14 << 3) + put_varint(int(flag))
    if number is not None:
        metric += put_varint(10 << 3) + put_varint(number)
    return put_varint(1 << 3) + put_varint(1) + put_varint(2 << 3 | 2) + put_varint(len(metric)) + metric


@dataclass(frozen=True)
class Connect:
    """What stands in a CONNECT of MQTT 3.1.1."""

    level: int
    clean_session: bool
    will_qos: int
    will_retain: bool
    client_id: str
    will_topic: str
    will_payload: bytes


def read_connect(packet: bytes) -> Connect:
    assert packet[0] == 0x10
    length, at = varint(packet, 1)
    assert len(packet) >= at + length
    assert packet[at : at + 6] == b"\x00\x04MQTT"
    level, flags = packet[at + 6], packet[at + 7]
    assert flags & 0x04, "no will"
    parts, at = [], at + 10
    for _ in range(3):
        size = int.from_bytes(packet[at : at + 2], "big")
        parts.append(packet[at + 2 : at + 2 + size])
        at += 2 + size
    client_id, topic, payload = parts
    return Connect(
        level, bool(flags & 0x02), flags >> 3 & 3, bool(flags & 0x20), client_id.decode(), topic.decode(), payload
    )
