"""`resultb`: a verdict in 64 fixed bytes, for a PLC that copies a struct instead of reading text.

May import `codes`, `messages` and errors. The layout is naturally aligned, so that a PLC's own struct lies over it; the
generated PLC code reads it by the same table. The check sum is CRC-32 of ISO-HDLC (zlib, Ethernet) over the first
60 bytes, in the byte order of the rest.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from inspector.contract.codes import ErrorCode
from inspector.contract.messages import PART_LENGTH, Result
from inspector.errors import ContractError

ByteOrder = Literal["little", "big"]

MAGIC = 0xA5
PART_BYTES = 24
SIZE_BYTES = 64


@dataclass(frozen=True)
class BinaryField:
    """One field at its place; `code` is that of `struct`."""

    name: str
    code: str
    offset: int

    @property
    def size_bytes(self) -> int:
        return struct.calcsize(f"={self.code}")


def _lay_out(*fields: tuple[str, str]) -> tuple[BinaryField, ...]:
    laid: list[BinaryField] = []
    offset = 0
    for name, code in fields:
        laid.append(BinaryField(name, code, offset))
        offset += laid[-1].size_bytes
    return tuple(laid)


LAYOUT = _lay_out(
    ("magic", "B"), ("v", "B"), ("res", "B"), ("zero", "B"), ("err", "H"), ("boot", "H"), ("seq", "I"), ("trg", "I"),
    ("rcp", "H"), ("rev", "H"), ("scr", "i"), ("lat", "H"), ("roi", "H"), ("ts", "I"), ("ms", "H"), ("flg", "H"),
    ("part", f"{PART_BYTES}s"), ("crc", "I"),
)  # fmt: skip
"""The fields in the order of the bytes; all but `magic`, `zero` and `crc` are those of `Result`."""

CRC_OFFSET = LAYOUT[-1].offset
_FORMAT = "".join(field.code for field in LAYOUT)


def pack_result(result: Result, byte_order: ByteOrder) -> bytes:
    """Give the 64 bytes of a verdict; the part id is filled with zero bytes.

    Raises:
        ContractError: the part id has more than 24 characters; it is never cut.
    """
    if len(result.part) > PART_BYTES:
        raise ContractError(
            f"resultb has room for a part id of {PART_BYTES} characters, but {result.part!r} has {len(result.part)} "
            f"(result takes {PART_LENGTH}); use shorter ids or switch resultb off"
        )
    return pack_fields(result.model_dump() | {"part": result.part.encode("ascii")}, byte_order)


def pack_fields(values: Mapping[str, Any], byte_order: ByteOrder) -> bytes:
    """Lay out fields by name, unchecked, with a right check sum: for `pack_result`, and for tests of a reader."""
    laid = {"magic": MAGIC, "zero": 0, **values, "crc": 0}
    body = struct.pack(_prefix(byte_order) + _FORMAT, *(laid[field.name] for field in LAYOUT))[:CRC_OFFSET]
    return body + zlib.crc32(body).to_bytes(4, byte_order)


def fit_for_binary(result: Result) -> Result:
    """The verdict as `resultb` may say it: an id that has no room is left out whole, and such a part never passes."""
    if len(result.part) <= PART_BYTES:
        return result
    return result.model_copy(update={"part": "", "res": 0, "err": result.err or int(ErrorCode.PART_ID_TOO_LONG)})


def unpack_result(data: bytes, byte_order: ByteOrder) -> Result:
    """Read and check the 64 bytes of a verdict.

    Raises:
        ContractError: another size, start, check sum or filling, or a value out of range.
    """
    if len(data) != SIZE_BYTES:
        raise ContractError(f"resultb must have {SIZE_BYTES} bytes, but has {len(data)}")
    values = dict(
        zip((field.name for field in LAYOUT), struct.unpack(_prefix(byte_order) + _FORMAT, data), strict=True)
    )
    crc, magic, zero = values.pop("crc"), values.pop("magic"), values.pop("zero")
    if (magic, zero) != (MAGIC, 0):
        raise ContractError(
            f"resultb must start with 0x{MAGIC:02X} and have 0 at byte 3, but has {magic:#x} and {zero}"
        )
    if crc != zlib.crc32(data[:CRC_OFFSET]):
        raise ContractError(f"resultb has the check sum {crc:08x}; expected {zlib.crc32(data[:CRC_OFFSET]):08x}")
    text = values["part"].rstrip(b"\0")
    try:
        return Result(**{**values, "part": text.decode("ascii", "replace")})
    except ValidationError as error:
        raise ContractError(
            f"resultb: {error.error_count()} values are out of range: {error.errors()[0]['msg']}"
        ) from error


def _prefix(byte_order: ByteOrder) -> str:
    return "<" if byte_order == "little" else ">"
