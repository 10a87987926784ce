"""The parts in flight, kept where a killed process leaves them: a small file that is mapped into memory.

May import `parts`. A part is written when it is seen and erased once its verdict is committed, which costs microseconds; the
next worker finds what a killed one left and answers it. A power cut may take the file with it; the parts that lay on the line
then are the PLC's own timers' business, as every part is.
"""

import logging
import mmap
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.parts import Part

log = logging.getLogger(__name__)

SLOTS = 4096
"""More parts than the queue and all batches can hold."""
_SLOT = struct.Struct("<B7xQQIIq32s32s")
"""In use, number, frame, trigger, unseen before it, UTC microseconds, camera, part id."""
_HEAD = struct.Struct("<4sHH")
_MAGIC = b"VIFL"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = 1


@dataclass(frozen=True)
class LeftOver:
    """A part that a worker had seen and not answered when it died."""

    boot: int
    frame_id: int
    trigger: int
    captured_at: datetime
    camera: str
    part_id: str
    unseen: int = 0


class InFlight:
    """The file of one station. Not safe for threads: `Deadlines` calls it under its lock."""

    def __init__(self, path: Path, boot: int) -> None:
        """Begin a new file; what a worker before left in the old one must have been answered (`left_behind`).

        Raises:
            OSError: the file cannot be written.
        """
        size = _HEAD.size + SLOTS * _SLOT.size
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(_HEAD.pack(_MAGIC, _VERSION, boot) + bytes(SLOTS * _SLOT.size))
        fresh.replace(path)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)
        self._free = list(range(SLOTS))
        self._slots: dict[int, int] = {}

    def open(self, part: Part) -> None:
        """A part has been seen."""
        if not self._free:
            log.error("more than %d parts are in flight; part %d is not kept for the next worker", SLOTS, part.number)
            return
        slot = self._free.pop()
        self._slots[part.number] = slot
        at_us = (part.captured_at - EPOCH) // timedelta(microseconds=1)
        numbers = (part.number, part.frame_id, part.trigger, part.unseen, at_us)
        texts = (part.camera.encode()[:32], part.part_id.encode()[:32])
        _SLOT.pack_into(self._map, self._place(slot), 0, *numbers, *texts)
        self._map[self._place(slot)] = 1  # last: a slot that was half written when the process died is not in use

    def close(self, part: Part) -> None:
        """Its verdict is committed."""
        slot = self._slots.pop(part.number, None)
        if slot is not None:
            self._map[self._place(slot)] = 0
            self._free.append(slot)

    @staticmethod
    def _place(slot: int) -> int:
        return _HEAD.size + slot * _SLOT.size


def last_boot(path: Path) -> int:
    """Boot of the worker that wrote the file last; 0 if there is none that can be read."""
    try:
        data = path.read_bytes()[: _HEAD.size]
    except OSError:
        return 0
    if len(data) < _HEAD.size:
        return 0
    magic, _, boot = _HEAD.unpack(data)
    return int(boot) if magic == _MAGIC else 0


def left_behind(path: Path) -> tuple[LeftOver, ...]:
    """What a killed worker left, in the order in which the parts were seen; a damaged file is told and not used."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        log.error("%s: what the last worker left cannot be read: %s", path, error)
        return ()
    if len(data) != _HEAD.size + SLOTS * _SLOT.size or data[:4] != _MAGIC:
        log.error("%s: not a list of parts in flight; nothing is taken from it", path)
        return ()
    _, version, boot = _HEAD.unpack_from(data)
    if version != _VERSION:
        log.error("%s: of version %d, expected %d; nothing is taken from it", path, version, _VERSION)
        return ()
    found = []
    for slot in range(SLOTS):
        place = _HEAD.size + slot * _SLOT.size
        used, number, frame_id, trigger, unseen, at_us, camera, part = _SLOT.unpack_from(data, place)
        if used == 1:
            seen = EPOCH + timedelta(microseconds=at_us)
            found.append((number, LeftOver(boot, frame_id, trigger, seen, _text(camera), _text(part), unseen)))
    return tuple(left for _, left in sorted(found, key=lambda one: one[0]))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")
