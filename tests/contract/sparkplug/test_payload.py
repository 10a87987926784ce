"""Payloads of Sparkplug B: the bytes are read back by a decoder of the tests, not by the library that wrote them."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.contract.sparkplug.payload import DataType, Metric, Value, Write, encode, read_command, read_state
from inspector.errors import ContractError
from tests.contract.sparkplug.wire import command, put_text, put_varint, read_payload

INTEGERS = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.UINT64: (0, 2**64 - 1),
    DataType.DATE_TIME: (0, 2**64 - 1),
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    **{datatype: st.integers(*limits) for datatype, limits in INTEGERS.items()},
    DataType.FLOAT: st.floats(width=32, allow_nan=False),
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: TEXTS,
    DataType.TEXT: TEXTS,
}


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    datatype = draw(st.sampled_from(DataType))
    return Metric(
        datatype,
        draw(st.none() | VALUES[datatype]),
        draw(st.integers(0, 2**63)),
        name=draw(st.none() | TEXTS),
        alias=draw(st.none() | st.integers(0, 2**64 - 1)),
        is_historical=draw(st.booleans()),
    )


@pytest.mark.tck("tck-id-payloads-metric-datatype-value", "tck-id-payloads-metric-datatype-value-type")
def test_the_codes_of_the_data_types_are_those_of_the_specification() -> None:
    integers = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"]
    names = [*integers, "Float", "Double", "Boolean", "String", "DateTime", "Text"]
    assert [(int(code), code.name.replace("_", "")) for code in DataType] == [
        (place, name.upper()) for place, name in enumerate(names, 1)
    ]


@pytest.mark.tck(
    "tck-id-operational-behavior-data-publish-nbirth-values", "tck-id-operational-behavior-data-publish-dbirth-values"
)
@given(st.lists(metrics(), max_size=5), st.integers(0, 2**63), st.none() | st.integers(0, 255), st.booleans())
def test_an_independent_decoder_reads_every_metric_back(
    sent: list[Metric], timestamp_ms: int, seq: int | None, with_types: bool
) -> None:
    payload = read_payload(encode(sent, timestamp_ms=timestamp_ms, seq=seq, with_types=with_types))

    assert (payload.timestamp, payload.seq, len(payload.metrics)) == (timestamp_ms, seq, len(sent))
    for metric, read in zip(sent, payload.metrics, strict=True):
        assert (read.name, read.alias, read.timestamp) == (metric.name, metric.alias, metric.timestamp_ms)
        assert read.datatype == (int(metric.datatype) if with_types else None)
        assert bool(read.is_historical) == metric.is_historical
        if metric.value is None:
            assert read.is_null
            assert read.values == {}
        else:
            assert read.is_null is None
            value = read.signed(metric.datatype) if metric.datatype.is_signed else read.value
            assert value == metric.value
            assert type(value) is type(metric.value)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_an_integer_beyond_its_type_is_refused(datatype: DataType) -> None:
    low, high = INTEGERS[datatype]
    for value in (low - 1, high + 1):
        with pytest.raises(ContractError, match="cannot hold"):
            encode([Metric(datatype, value, 0)], timestamp_ms=0, seq=0, with_types=True)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (DataType.INT32, True),
        (DataType.INT32, 1.0),
        (DataType.BOOLEAN, 1),
        (DataType.STRING, 1),
        (DataType.DOUBLE, 1),
        (DataType.DOUBLE, "1"),
    ],
)
def test_a_value_of_another_kind_is_refused(datatype: DataType, value: Value) -> None:
    with pytest.raises(ContractError, match="cannot hold"):
        encode([Metric(datatype, value, 0)], timestamp_ms=0, seq=0, with_types=True)


def test_a_command_is_read_from_bytes_that_another_encoder_made() -> None:
    assert read_command(command("Node Control/Rebirth", flag=True)) == [Write("Node Control/Rebirth", None, True)]
    assert read_command(command(None, alias=300, number=7)) == [Write(None, 300, 7)]
    assert read_command(command("x")) == [Write("x", None, None)]


def test_what_is_not_read_here_does_not_disturb_what_is() -> None:
    data_set = put_varint(17 << 3 | 2) + put_varint(2) + put_varint(1 << 3) + put_varint(3)
    metric = put_text(1, "table") + data_set
    payload = put_varint(2 << 3 | 2) + put_varint(len(metric)) + metric + put_text(4, "a-uuid")

    assert read_command(payload) == [Write("table", None, None)]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_are_refused(data: bytes) -> None:
    try:
        writes = read_command(data)
    except ContractError:
        return
    for write in writes:
        assert write.name is None or isinstance(write.name, str)


def test_bytes_cut_short_are_refused() -> None:
    data = command("Node Control/Rebirth", flag=True)
    with pytest.raises(ContractError, match="protobuf payload"):
        read_command(data[:-3])


@pytest.mark.tck("tck-id-message-flow-edge-node-birth-publish-phid-wait-online")
def test_a_state_message_is_json_with_online_and_timestamp() -> None:
    state = read_state(b'{"online":true,"timestamp":1668114759262}')
    assert (state.online, state.timestamp) == (True, 1668114759262)
    assert not read_state(b'{"timestamp":0,"online":false,"more":1}').online


@pytest.mark.parametrize(
    "data",
    [
        b"ONLINE",
        b"",
        b"{}",
        b'{"online":1,"timestamp":1}',
        b'{"online":true}',
        b'{"online":true,"timestamp":"1"}',
        b"\xff",
    ],
)
def test_a_state_message_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="STATE message"):
        read_state(data)


def test_a_float_is_sent_in_four_bytes() -> None:
    data = encode([Metric(DataType.FLOAT, 0.1, 0)], timestamp_ms=0, seq=0, with_types=True)
    assert read_payload(data).metrics[0].value == struct.unpack("<f", struct.pack("<f", 0.1))[0]
