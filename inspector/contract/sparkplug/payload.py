"""Payloads of Sparkplug B: metrics to bytes, commands and host states from bytes.

May import protobuf, pydantic and errors. The message types are declared here by the field numbers of chapter 6 of the
specification, only as far as an edge node with basic data types needs them; what else a sender may put into a payload
(data sets, templates, properties) stays unread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import ContractError

Value = bool | int | float | str | None
"""What a metric can hold; None is sent as `is_null`."""


class DataType(IntEnum):
    """The basic data types with their codes."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14

    @property
    def integer_bits(self) -> int:
        """Width of an integer type; 0 for all others. A DateTime counts milliseconds since 1970 in 64 bits."""
        return {1: 8, 2: 16, 3: 32, 4: 64, 5: 8, 6: 16, 7: 32, 8: 64, 13: 64}.get(self, 0)

    @property
    def is_signed(self) -> bool:
        return self <= DataType.INT64


@dataclass(frozen=True)
class Metric:
    """One value on its way out: with its name in a birth or a death, with its alias wherever it has one."""

    datatype: DataType
    value: Value
    timestamp_ms: int
    name: str | None = None
    alias: int | None = None
    is_historical: bool = False


@dataclass(frozen=True)
class Write:
    """One metric of a command; `value` is None for a null or for a type that is not read here."""

    name: str | None
    alias: int | None
    value: Value


class HostState(BaseModel):
    """What a host application says of itself on its STATE topic."""

    model_config = ConfigDict(frozen=True, strict=True)

    online: bool
    timestamp: Annotated[int, Field(ge=0)]


def encode(metrics: Sequence[Metric], *, timestamp_ms: int, seq: int | None, with_types: bool) -> bytes:
    """Give the bytes of a payload; `seq` is None in an NDEATH alone, data types belong into births and deaths.

    Raises:
        ContractError: a value does not fit its data type.
    """
    payload = _PAYLOAD(timestamp=timestamp_ms)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        entry = payload.metrics.add(timestamp=metric.timestamp_ms)
        if metric.name is not None:
            entry.name = metric.name
        if metric.alias is not None:
            entry.alias = metric.alias
        if with_types:
            entry.datatype = int(metric.datatype)
        if metric.is_historical:
            entry.is_historical = True
        if metric.value is None:
            entry.is_null = True
        else:
            field, value = _on_the_wire(metric.datatype, metric.value)
            setattr(entry, field, value)
    return bytes(payload.SerializeToString())


def read_command(data: bytes) -> list[Write]:
    """Read what an NCMD or a DCMD wants to write.

    Raises:
        ContractError: not a payload.
    """
    payload = _PAYLOAD()
    try:
        payload.ParseFromString(data)
    except DecodeError as error:
        raise ContractError(
            f"a Sparkplug command must be a protobuf payload, but is {len(data)} other bytes"
        ) from error
    return [
        Write(
            entry.name if entry.HasField("name") else None,
            entry.alias if entry.HasField("alias") else None,
            None if entry.is_null or (field := entry.WhichOneof("value")) is None else getattr(entry, field),
        )
        for entry in payload.metrics
    ]


def read_state(data: bytes) -> HostState:
    """Read a STATE message.

    Raises:
        ContractError: not a JSON object with a boolean `online` and a whole number `timestamp`.
    """
    try:
        return HostState.model_validate_json(data)
    except ValidationError as error:
        raise ContractError(f"a STATE message must hold online and timestamp: {error.errors()[0]['msg']}") from error


def _on_the_wire(datatype: DataType, value: bool | int | float | str) -> tuple[str, bool | int | float | str]:
    """The field of a value, and its form there: signed integers are sent in two's complement."""
    bits = datatype.integer_bits
    if bits and isinstance(value, int) and not isinstance(value, bool):
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if datatype.is_signed else (0, 2**bits - 1)
        if low <= value <= high:
            field, width = ("long_value", 64) if bits == 64 else ("int_value", 32)
            return field, value % 2**width
    elif datatype is DataType.BOOLEAN and isinstance(value, bool):
        return "boolean_value", value
    elif datatype in (DataType.STRING, DataType.TEXT) and isinstance(value, str):
        return "string_value", value
    elif datatype is DataType.DOUBLE and isinstance(value, float):
        return "double_value", value
    elif datatype is DataType.FLOAT and isinstance(value, float):
        return "float_value", value
    raise ContractError(f"a {datatype.name} metric cannot hold {value!r}")


def _declare() -> Any:
    """The class of a payload, from the field numbers of the specification."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="inspector/sparkplug_b.proto", package="inspector.sparkplug")
    file.syntax = "proto2"
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")

    def field(owner: Any, number: int, name: str, kind: int, **more: Any) -> None:
        owner.field.add(number=number, name=name, type=kind, **{"label": kinds.LABEL_OPTIONAL, **more})

    field(metric, 1, "name", kinds.TYPE_STRING)
    field(metric, 2, "alias", kinds.TYPE_UINT64)
    field(metric, 3, "timestamp", kinds.TYPE_UINT64)
    field(metric, 4, "datatype", kinds.TYPE_UINT32)
    field(metric, 5, "is_historical", kinds.TYPE_BOOL)
    field(metric, 6, "is_transient", kinds.TYPE_BOOL)
    field(metric, 7, "is_null", kinds.TYPE_BOOL)
    field(metric, 10, "int_value", kinds.TYPE_UINT32, oneof_index=0)
    field(metric, 11, "long_value", kinds.TYPE_UINT64, oneof_index=0)
    field(metric, 12, "float_value", kinds.TYPE_FLOAT, oneof_index=0)
    field(metric, 13, "double_value", kinds.TYPE_DOUBLE, oneof_index=0)
    field(metric, 14, "boolean_value", kinds.TYPE_BOOL, oneof_index=0)
    field(metric, 15, "string_value", kinds.TYPE_STRING, oneof_index=0)
    field(payload, 1, "timestamp", kinds.TYPE_UINT64)
    type_name = ".inspector.sparkplug.Payload.Metric"
    field(payload, 2, "metrics", kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=type_name)
    field(payload, 3, "seq", kinds.TYPE_UINT64)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inspector.sparkplug.Payload"))


_PAYLOAD = _declare()
