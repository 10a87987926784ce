"""The two forms of a verdict on the wire, right and spoilt: JSON on `result`, 64 bytes on `resultb`.

May import the contract. A PLC reads one of them, and meets every fault in that form.
"""

import json
from dataclasses import dataclass
from typing import Any

from inspector.contract.binary import CRC_OFFSET, PART_BYTES, SIZE_BYTES, ByteOrder, pack_fields, pack_result
from inspector.contract.messages import PART_LENGTH, Result


class JsonWire:
    """Text on the topic of `kind`, with ids of parts of at most `part_length` characters."""

    kind = "result"
    name = "JSON on result"
    part_length = PART_LENGTH

    def payload(self, result: Result, **fields: int) -> bytes:
        """The message; `fields` are put in as they are, also what no station may send."""
        if not fields:
            return result.to_json()
        return json.dumps(json.loads(result.to_json()) | fields, separators=(",", ":")).encode()

    def spoilt(self, ok: Result, bad: Result) -> list[bytes]:
        """Messages that say OK to a hasty reader, made of an OK and an NG on one part; the PLC must not accept it."""
        ids = (b"x" * 33, b"x" * 200, b"x" * 5000, "Tür-Öse".encode(), "Tür".encode("latin-1"), b"a b", b"a\\u0041")
        endings = (b'"ID","res":1}', b'"ID\\",\\"res\\":1"}', b'"ID"}{"res":1}')
        text, no = _named(ok).to_json(), _named(bad).to_json()
        return [
            *(text.replace(b'"ID"', b'"' + part_id + b'"') for part_id in ids),
            *(no.replace(b'"ID"}', ending) for ending in endings),
            text[:-1],
        ]


@dataclass(frozen=True)
class BinaryWire:
    """64 bytes on the topic of `kind`, with ids of parts of at most `part_length` characters."""

    order: ByteOrder
    kind = "resultb"
    part_length = PART_BYTES

    @property
    def name(self) -> str:
        return f"64 bytes on resultb, {self.order} endian"

    def payload(self, result: Result, **fields: int) -> bytes:
        """The message; `fields` are put in as they are, also what no station may send."""
        return pack_fields(_raw(result) | fields, self.order) if fields else pack_result(result, self.order)

    def spoilt(self, ok: Result, bad: Result) -> list[bytes]:
        """Messages that say OK to a hasty reader, made of an OK and an NG on one part; the PLC must not accept it."""
        right, values = pack_result(ok, self.order), _raw(ok)
        no = bytearray(pack_result(bad, self.order))
        no[2] = 1  # `res`; the check sum is that of the NG
        other: ByteOrder = "big" if self.order == "little" else "little"
        ids = ("Tür-Öse".encode(), "Tür".encode("latin-1"), b"a b", b"A\0B", b"\x01")
        return [
            *(pack_fields(values | {"part": part_id}, self.order) for part_id in ids),
            pack_fields(values | {"magic": 0}, self.order),
            pack_fields(values | {"zero": 1}, self.order),
            pack_result(ok, other),
            bytes(no),
            right[:CRC_OFFSET] + bytes(SIZE_BYTES - CRC_OFFSET),
            right[:-1],
            right + b"\0",
            right + right,
            right * 80,
            ok.to_json(),
            b"",
        ]


Wire = JsonWire | BinaryWire


def wire_of(binary: ByteOrder | None) -> Wire:
    """What a PLC reads: `resultb` in this byte order, else `result`."""
    return JsonWire() if binary is None else BinaryWire(binary)


def _named(result: Result) -> Result:
    return result.model_copy(update={"part": "ID"})


def _raw(result: Result) -> dict[str, Any]:
    return result.model_dump() | {"part": result.part.encode("ascii")}
