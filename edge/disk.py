"""Watches the free space, so that a full disk costs pictures and never a verdict. No thread: the scheduler calls `tick`.

May import the alarms. On a full disk even a DELETE fails, because the database must write to remove: so a ballast file holds
space in reserve, is given up when the disk is full, and made again when there is room.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.alarms import AlarmBoard
from inspector.contract.codes import ErrorCode

log = logging.getLogger(__name__)

MIB = 2**20
CHUNK_PARTS = 50
TURNS = 40
"""At most so many chunks in one tick; the next one comes in seconds."""
MARGIN = 0.1
"""So much above the limit there is room again."""
QUIET_S = 600.0
"""The alarm stays until no picture had to go for so long; else it would come and go with each of them."""
SOURCE = "disk"


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder."""
    return shutil.disk_usage(folder).free


class Ballast:
    """A file of random bytes (zeros would be stored as nothing by some file systems)."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes

    @property
    def held(self) -> bool:
        """Whether the file is there in its full size."""
        try:
            return self._path.stat().st_size >= self.size_bytes
        except OSError:
            return False

    def make(self) -> None:
        """Write the file.

        Raises:
            OSError: there is no room after all; nothing is left behind.
        """
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("wb") as file:
                for start in range(0, self.size_bytes, MIB):
                    file.write(os.urandom(min(MIB, self.size_bytes - start)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the space back."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Watched:
    """What is watched: `pictures` is the folder that `make_room` empties, `others` are on the way of the rows."""

    pictures: Path
    others: Sequence[Path]
    min_free_bytes: int
    make_room: Callable[[int], int]
    free: Callable[[Path], int] = free_bytes


class DiskGuard:
    """Three states: room, low (pictures go), full (the ballast is given up and no picture is written)."""

    def __init__(self, watched: Watched, ballast: Ballast, alarms: AlarmBoard) -> None:
        self._watched = watched
        self._ballast = ballast
        self._alarms = alarms
        self._full_bytes = ballast.size_bytes // 4
        self._low_bytes = max(watched.min_free_bytes, 2 * self._full_bytes)
        self._quiet_at_s = float("-inf")
        self.full = False
        """No more pictures until there is room."""
        self.low = False
        self.free_bytes = 0
        """On the disk that has least."""

    def tick(self, now_monotonic_s: float) -> None:
        """Look, and do what is needed."""
        self._look()
        if self.free_bytes < self._full_bytes:
            self._fill_up()
        if self.full or self.free_bytes < self._low_bytes:
            self._quiet_at_s = now_monotonic_s + QUIET_S
            self._tell()
            self._make_room()
        elif self.low and now_monotonic_s >= self._quiet_at_s and self._has_room:
            self._recover()
        if not self._ballast.held and self._fits_again:
            self._refill()
        self.full = self.full and not self._ballast.held

    def free_at(self, folder: Path) -> int:
        """Free bytes on the disk of a folder."""
        return self._watched.free(folder)

    def status(self) -> dict[str, object]:
        """For the status row and the telemetry."""
        return {
            "disk_free_bytes": self.free_bytes,
            "disk_low": self.low,
            "ballast_held": self._ballast.held,
        }

    def _look(self) -> None:
        watched = self._watched
        self._pictures_free = watched.free(watched.pictures)
        self.free_bytes = min([self._pictures_free, *(watched.free(folder) for folder in watched.others)])

    def _fill_up(self) -> None:
        if self._ballast.held:
            log.error("the disk is full (%d MiB left): the ballast is given up", self.free_bytes // MIB)
        self._ballast.release()
        self.full = True
        self._look()

    def _make_room(self) -> None:
        goal, removed = self._low_bytes * (1 + MARGIN), 0
        for _ in range(TURNS):
            if self._pictures_free >= goal:
                break
            gone = self._watched.make_room(CHUNK_PARTS)
            removed += gone
            self._look()
            if not gone:
                break
        if removed:
            log.warning("the disk is nearly full: the pictures of %d parts were removed", removed)

    @property
    def _has_room(self) -> bool:
        return self.free_bytes >= self._low_bytes * (1 + MARGIN)

    @property
    def _fits_again(self) -> bool:
        return self.free_bytes - self._ballast.size_bytes >= 2 * self._full_bytes

    def _tell(self) -> None:
        limit = self._low_bytes // MIB
        text = f"less than {limit} MiB are free on the disk: pictures of good parts go first, verdicts never"
        if self.full:
            text = "the disk is full: no pictures are kept until there is room; free some space"
        if not self.low:
            log.error("%s", text)
        self.low = True
        self._alarms.up(ErrorCode.DISK_LOW, text, SOURCE)

    def _recover(self) -> None:
        log.warning("there is room on the disk again (%d MiB)", self.free_bytes // MIB)
        self.low = False
        self._alarms.down(ErrorCode.DISK_LOW, SOURCE)

    def _refill(self) -> None:
        try:
            self._ballast.make()
        except OSError as error:
            log.warning("the ballast cannot be made: %s", error)
        self._look()
