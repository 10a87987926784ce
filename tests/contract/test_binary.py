"""`resultb`: exact bytes, both byte orders, and what is refused."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.contract.binary import (
    LAYOUT,
    PART_BYTES,
    SIZE_BYTES,
    ByteOrder,
    fit_for_binary,
    pack_result,
    unpack_result,
)
from inspector.contract.codes import ErrorCode
from inspector.contract.gate import AcceptanceGate, GateSettings
from inspector.contract.messages import Heartbeat, Result, State
from inspector.errors import ContractError
from tests.contract.strategies import PART_LETTERS, results

RESULT = Result(
    boot=7,
    seq=1042,
    trg=88123,
    res=1,
    err=0,
    flg=8,
    rcp=3,
    rev=2,
    scr=-612,
    roi=5,
    lat=38,
    ts=1795219200,
    ms=125,
    part="A-1",
)
ORDERS: list[ByteOrder] = ["little", "big"]


def test_the_bytes_are_those_of_the_contract() -> None:
    body = (
        "a5010100" "0000" "0007" "00000412" "0001583b" "0003" "0002" "fffffd9c" "0026" "0005" "6b00df00" "007d" "0008"
    ) + b"A-1".ljust(24, b"\0").hex()  # fmt: skip
    data = bytes.fromhex(body)

    assert pack_result(RESULT, "big") == data + zlib.crc32(data).to_bytes(4, "big")


def test_every_field_lies_at_a_multiple_of_its_size() -> None:
    assert [
        (field.name, field.offset) for field in LAYOUT if field.code != "24s" and field.offset % field.size_bytes
    ] == []
    assert LAYOUT[-1].offset + LAYOUT[-1].size_bytes == SIZE_BYTES
    names = {field.name for field in LAYOUT} - {"magic", "zero", "crc"}
    assert names == set(Result.model_fields)


@pytest.mark.parametrize("order", ORDERS)
@given(result=results(part_length=24))
def test_every_verdict_has_64_bytes_and_comes_back(order: ByteOrder, result: Result) -> None:
    data = pack_result(result, order)

    assert len(data) == 64
    assert unpack_result(data, order) == result


@given(part=st.text(PART_LETTERS, min_size=25, max_size=32))
def test_a_part_id_over_24_characters_is_refused_never_cut(part: str) -> None:
    with pytest.raises(ContractError, match="24 characters"):
        pack_result(RESULT.model_copy(update={"part": part}), "little")


@pytest.mark.parametrize("order", ORDERS)
@given(place=st.integers(0, 63), bit=st.integers(0, 7))
def test_one_wrong_bit_anywhere_is_found(order: ByteOrder, place: int, bit: int) -> None:
    data = bytearray(pack_result(RESULT, order))
    data[place] ^= 1 << bit

    with pytest.raises(ContractError):
        unpack_result(bytes(data), order)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0), (1, 2), (2, 4), (3, 1), (4, 1), (8, 0), (36, 0x20), (37, 0), (40, 1), (59, 0xE4)],
    ids=["start", "schema", "res", "zero", "err with ok", "seq", "blank", "gap in the id", "after the id", "not ASCII"],
)
def test_a_wrong_value_is_refused_though_its_check_sum_is_right(place: int, value: int) -> None:
    body = bytearray(pack_result(RESULT.model_copy(update={"seq": 1}), "little")[:60])
    body[place] = value

    with pytest.raises(ContractError):
        unpack_result(bytes(body) + zlib.crc32(body).to_bytes(4, "little"), "little")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(ContractError, match=f"64 bytes, but has {size}"):
        unpack_result(bytes(size), "little")


def test_the_gate_takes_either_form_and_a_verdict_in_both_only_once() -> None:
    gate = AcceptanceGate(GateSettings(byte_order="big"), wanted_rcp=3)
    station = State(on=1, st=7, mode=0, boot=7, rcp=3, rev=2, err=0, win=2000, hbp=1000, ts=5)
    gate.feed("state", station.to_json(), retained=False, now=0.0)
    gate.feed("hb", Heartbeat(boot=7, n=1, st=7, age=0, q=0, seq=0).to_json(), retained=False, now=0.0)
    gate.trigger(88123, 0.0)

    assert gate.feed("resultb", pack_result(RESULT, "little"), retained=False, now=0.1) == []
    assert gate.feed("resultb", pack_result(RESULT, "big"), retained=True, now=0.1) == []
    assert [one.accepted for one in gate.feed("resultb", pack_result(RESULT, "big"), retained=False, now=0.1)] == [True]
    assert gate.feed("result", RESULT.to_json(), retained=False, now=0.1) == []
    assert (gate.counts.malformed, gate.counts.retained, gate.counts.duplicates) == (1, 1, 1)


@given(results())
def test_an_id_without_room_is_left_out_whole_and_its_part_never_passes(result: Result) -> None:
    told = unpack_result(pack_result(fit_for_binary(result), "little"), "little")
    if len(result.part) <= PART_BYTES:
        assert told == result
    else:
        assert (told.part, told.res, told.trg, told.seq) == ("", 0, result.trg, result.seq)
        assert told.err == result.err or (result.err == 0 and told.err == ErrorCode.PART_ID_TOO_LONG)
