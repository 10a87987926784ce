"""The generated readers take exactly the messages that the models take, and read the same numbers."""

import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.contract.binary import CRC_OFFSET, SIZE_BYTES, pack_result, unpack_result
from inspector.contract.messages import Heartbeat, Message, Result, State
from inspector.contract.plccode.dialects import DialectName
from inspector.contract.plccode.tables import PART_CHARACTERS, message_tables
from inspector.errors import ContractError
from tests.contract.strategies import heartbeats, results, states
from tests.plccode.rig import fill, program_of, read_verdict

MODELS: list[type[Message]] = [Result, State, Heartbeat]


def read_result(
    dialect: DialectName, payload: bytes, *, binary: bool = False, big_endian: bool = False
) -> Result | None:
    program = program_of(dialect)
    memory = program.instance("Vis1_ReadResult")
    memory |= {"Message": program.value("Vis1_Message"), "Binary": binary, "BigEndian": big_endian}
    fill(memory["Message"], payload)
    program.call("Vis1_ReadResult", memory)
    return read_verdict(memory["Verdict"]) if memory["Valid"] else None


def read_numbers(kind: int, payload: bytes) -> list[int] | None:
    program = program_of("st")
    memory = program.instance("Vis1_ReadText")
    memory |= {"Message": program.value("Vis1_Message"), "Kind": kind}
    fill(memory["Message"], payload)
    program.call("Vis1_ReadText", memory)
    return memory["Number"] if memory["Valid"] else None


def model_reads(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except ContractError:
        return None


@pytest.mark.parametrize("dialect", ["st", "scl"])
@settings(max_examples=60, deadline=None)
@given(result=results())
def test_every_verdict_is_read_as_it_was_written(dialect: DialectName, result: Result) -> None:
    assert read_result(dialect, result.to_json()) == result


@pytest.mark.parametrize("dialect", ["st", "scl"])
@settings(max_examples=60, deadline=None)
@given(result=results(part_length=24), big_endian=st.booleans())
def test_every_binary_verdict_is_read_as_it_was_written(dialect: DialectName, result: Result, big_endian: bool) -> None:
    payload = pack_result(result, "big" if big_endian else "little")

    assert read_result(dialect, payload, binary=True, big_endian=big_endian) == result
    assert read_result(dialect, payload, binary=True, big_endian=not big_endian) is None


@settings(max_examples=100, deadline=None)
@given(message=st.one_of(states(), heartbeats()))
def test_every_state_and_heartbeat_is_read_as_it_was_written(message: Message) -> None:
    table = message_tables()[type(message).__name__.lower()]
    read = read_numbers(MODELS.index(type(message)), message.to_json())
    assert read is not None
    assert read[: len(table.numbers)] == list(message.model_dump().values())


@settings(max_examples=300, deadline=None)
@given(result=results(), place=st.integers(0, 239), inserted=st.binary(max_size=2), removed=st.integers(0, 2))
def test_a_changed_text_is_taken_by_the_program_if_and_only_if_the_model_takes_it(
    result: Result, place: int, inserted: bytes, removed: int
) -> None:
    text = result.to_json()
    payload = text[:place] + inserted + text[place + removed :]

    assert read_result("st", payload) == model_reads(Result.from_json, payload)


@settings(max_examples=150, deadline=None)
@given(
    result=results(part_length=24), place=st.integers(0, CRC_OFFSET - 1), byte=st.integers(0, 255), mended=st.booleans()
)
def test_changed_bytes_are_taken_by_the_program_if_and_only_if_the_model_takes_them(
    result: Result, place: int, byte: int, mended: bool
) -> None:
    data = bytearray(pack_result(result, "little"))
    data[place] = byte
    if mended:
        data[CRC_OFFSET:] = zlib.crc32(data[:CRC_OFFSET]).to_bytes(4, "little")

    assert len(data) == SIZE_BYTES
    assert read_result("st", bytes(data), binary=True) == model_reads(unpack_result, bytes(data), "little")


def test_the_part_s_characters_are_those_of_the_model() -> None:
    allowed = {code for first, last in PART_CHARACTERS for code in range(first, last + 1)}
    values = {key: 1 if key == "seq" else 0 for key in Result.model_fields if key not in ("v", "part")}

    def model_takes(code: int) -> bool:
        try:
            Result(**values, part=chr(code))
        except ValueError:
            return False
        return True

    assert allowed == {code for code in range(256) if model_takes(code)}
