"""What the PLC program knows of the messages, read from the pydantic models: keys, ranges, types, places, numbers.

May import the contract. The templates hold the rules, and nothing that stands here: a model that changes changes the
program, or the test of the kept files fails.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from inspector.contract.binary import LAYOUT, MAGIC, PART_BYTES, SIZE_BYTES
from inspector.contract.codes import PASSING_FLAGS, Flag, StationMode, StationState
from inspector.contract.gate import HEARTBEAT_PERIODS, REMEMBERED_RESULTS, Reason
from inspector.contract.meanings import meaning
from inspector.contract.messages import PART_LENGTH, U16_MAX, U32_MAX, Heartbeat, Message, Result, State

OPEN_TRIGGERS = 16
"""Parts that may be between trigger and decision at once; one more is refused, which is a reject."""
MODELS: tuple[type[Message], ...] = (Result, State, Heartbeat)
BIT_MASKS = ("flg", "roi")
PART_CHARACTERS = ((48, 57), (65, 90), (97, 122), (95, 95), (46, 46), (58, 58), (45, 45))
"""Ranges of the codes of `[A-Za-z0-9_.:-]`; a test compares them with the model's pattern."""


@dataclass(frozen=True)
class Number:
    """A whole number of a message: its key, its range, and the PLC's type that holds it."""

    key: str
    minimum: int
    maximum: int
    meaning: str

    @property
    def member(self) -> str:
        """Name in the PLC's struct."""
        return self.key.capitalize()

    @property
    def iec_type(self) -> str:
        if self.key in BIT_MASKS:
            return "WORD"
        if self.minimum < 0:
            return "DINT"
        return "USINT" if self.maximum < 2**8 else "UINT" if self.maximum <= U16_MAX else "UDINT"


@dataclass(frozen=True)
class Table:
    """A message's numbers in their order on the wire; `first` is the place of its first key in the common table."""

    name: str
    numbers: tuple[Number, ...]
    first: int

    @property
    def last(self) -> int:
        return self.first + len(self.numbers) - 1

    def place(self, key: str) -> int:
        """Where a key's number stands in what the reader gives."""
        return [number.key for number in self.numbers].index(key)


@dataclass(frozen=True)
class BinaryNumber:
    """A number of the 64 bytes: place among the numbers of the text form, first byte, and width."""

    key: str
    place: int
    offset: int
    size_bytes: int


def read_numbers(model: type[Message]) -> tuple[Number, ...]:
    """The whole numbers of a model, with the ranges that pydantic checks."""
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return tuple(
        Number(key, schema["minimum"], schema["maximum"], meaning(model, key))
        for key, schema in properties.items()
        if schema["type"] == "integer"
    )


def message_tables() -> dict[str, Table]:
    """The tables of the three messages that the gate reads, by name."""
    tables: dict[str, Table] = {}
    first = 0
    for model in MODELS:
        name = model.__name__.lower()
        tables[name] = Table(name, read_numbers(model), first)
        first += len(tables[name].numbers)
    return tables


def key_texts(tables: dict[str, Table]) -> list[str]:
    """What stands before each number, all messages one after the other, and at the end what stands before the part id."""
    texts = [
        f'{"," if position else "{"}"{number.key}":'
        for table in tables.values()
        for position, number in enumerate(table.numbers)
    ]
    return [*texts, ',"part":"']


def binary_numbers(result: Table) -> tuple[BinaryNumber, ...]:
    """The numbers of the 64 bytes that are numbers of the verdict."""
    keys = {number.key for number in result.numbers}
    return tuple(
        BinaryNumber(field.name, result.place(field.name), field.offset, field.size_bytes)
        for field in LAYOUT
        if field.name in keys
    )


def template_values() -> dict[str, Any]:
    """Everything that the templates may name."""
    tables = message_tables()
    texts = key_texts(tables)
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    offsets = {field.name: field.offset for field in LAYOUT}
    return {
        "tables": tables,
        "numbers": [number for table in tables.values() for number in table.numbers],
        "texts": texts,
        "starts": starts,
        "binary": binary_numbers(tables["result"]),
        "offsets": offsets,
        "reasons": [(reason.number, reason.value) for reason in Reason],
        "reason": {reason.name: reason.number for reason in Reason},
        "passing_flags": int(PASSING_FLAGS),
        "simulated_flag": int(Flag.SIMULATED),
        "states": [int(state) for state in StationState if state.can_inspect],
        "offline": int(StationState.OFFLINE),
        "modes": {mode.name: int(mode) for mode in StationMode},
        "part_characters": PART_CHARACTERS,
        **_sizes(),
    }


def _sizes() -> dict[str, int]:
    return {
        "limit_bytes": max(model.limit_bytes for model in MODELS),
        "binary_bytes": SIZE_BYTES,
        "magic": MAGIC,
        "part_length": PART_LENGTH,
        "binary_part_bytes": PART_BYTES,
        "u16_max": U16_MAX,
        "u32_max": U32_MAX,
        "open_triggers": OPEN_TRIGGERS,
        "remembered": REMEMBERED_RESULTS,
        "heartbeat_periods": HEARTBEAT_PERIODS,
        "longest_heartbeat_ms": HEARTBEAT_PERIODS * U16_MAX,
    }


def models_hash() -> str:
    """SHA-256 (first 16 digits) of all that the program was made from: schemas, layout, numbers of the gate."""
    known = {
        "schemas": [model.model_json_schema() for model in MODELS],
        "layout": [(field.name, field.code, field.offset) for field in LAYOUT],
        "reasons": [(reason.number, reason.value) for reason in Reason],
        "flags": int(PASSING_FLAGS),
        "states": [int(state) for state in StationState if state.can_inspect],
        "sizes": _sizes(),
    }
    return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
