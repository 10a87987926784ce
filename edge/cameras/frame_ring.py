"""Pictures between two processes by shared memory, checked so that a half-written one is never taken.

The reader makes the ring and removes it, the writer only attaches to it: one that is killed leaves nothing behind. Each slot
bears the picture's number in front of its bytes and behind them; both have to be the number that was announced, before and
after the copy. numpy and the standard library only.
"""

import shutil
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from inspector.errors import CameraLostError, ImageError
from inspector.types import ImageArray

SLOTS = 3
MARK_BYTES = 8
SHARED_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory; only its free space is read


class FrameRing:
    """`SLOTS` pictures of at most `slot_bytes` bytes each."""

    def __init__(self, slot_bytes: int, *, attach_to: str | None = None) -> None:
        """Makes a ring, or attaches to the one with this name. Raises CameraLostError when there is no room for it."""
        self.slot_bytes = slot_bytes
        self._stride_bytes = slot_bytes + 2 * MARK_BYTES
        self._owns = attach_to is None
        if attach_to is None:
            _refuse_without_room(SLOTS * self._stride_bytes)
            self._memory = SharedMemory(create=True, size=SLOTS * self._stride_bytes)
        else:
            self._memory = SharedMemory(attach_to)

    @property
    def name(self) -> str:
        """What the other process attaches to."""
        return self._memory.name

    def write(self, number: int, image: ImageArray) -> None:
        """Puts a picture into the slot of its number (from 1)."""
        if image.nbytes > self.slot_bytes:
            raise ValueError(f"a slot has {self.slot_bytes} bytes, but the picture has {image.nbytes}")
        first, last, room = self._slot(number)
        first[0] = number
        room[: image.nbytes] = np.ascontiguousarray(image).reshape(-1)
        last[0] = number

    def read(self, number: int, shape: tuple[int, int, int]) -> ImageArray:
        """A copy of the picture with this number.

        Raises:
            ImageError: another picture, or only a part of this one, lies in its slot.
        """
        first, last, room = self._slot(number)
        before = (int(first[0]), int(last[0]))
        image = room[: shape[0] * shape[1] * shape[2]].reshape(shape).copy()
        after = (int(first[0]), int(last[0]))
        if before != (number, number) or after != (number, number):
            raise ImageError(
                f"expected picture {number} in shared memory, but its marks are {before} and {after}: torn"
            )
        return image

    def close(self) -> None:
        """Lets go of the memory; the process that made it also removes it."""
        self._memory.close()
        if self._owns:
            self._memory.unlink()

    def _slot(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = (number % SLOTS) * self._stride_bytes
        buffer = self._memory.buf
        room = np.ndarray((self.slot_bytes,), np.uint8, buffer, start + MARK_BYTES)
        first = np.ndarray((1,), "<u8", buffer, start)
        last = np.ndarray((1,), "<u8", buffer, start + MARK_BYTES + self.slot_bytes)
        return first, last, room


def _refuse_without_room(needed_bytes: int) -> None:
    """A write to shared memory that has no room ends the process with a signal and without a word."""
    if not SHARED_MEMORY_FOLDER.is_dir():
        return
    free_bytes = shutil.disk_usage(SHARED_MEMORY_FOLDER).free
    if free_bytes < needed_bytes:
        raise CameraLostError(
            f"shared memory has {free_bytes / 1e6:.0f} MB free, but the pictures need {needed_bytes / 1e6:.0f} MB; "
            "give the container more (--shm-size), or free some"
        )
