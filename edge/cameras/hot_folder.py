"""A hot folder as a camera: each picture that another program puts there is one part; may import the core's picture reader.

The folder is looked through, not subscribed to: that works on network shares too. A file counts when it has not changed for
`settle_s` and ends as its format ends, so that one that is still being copied is never read. A picture is moved away when
the next one is asked for, thus after its frame has been handed over: a crash in between shows it again, and loses none.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge.cameras.protocol import IdleLineError
from edge.cameras.shutter import Clock, Exposure, Shutter
from edge.cameras.triggers import Trigger, TriggerQueue
from edge.cameras.whole_files import is_whole
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError
from inspector.images import SUFFIXES, read_image
from inspector.types import Frame

logger = logging.getLogger(__name__)

POLL_S = 0.05

State = tuple[int, int]
"""Size in bytes and time of the last change in ns."""


@dataclass
class _Arrival:
    """A file that has been seen and not been given yet; `seen` is None for one that lay there before."""

    state: State
    changed_monotonic_s: float
    seen_monotonic_s: float | None


class HotFolderCamera:
    """Pictures in the order of their arrival; the part's id is the file's name without its ending."""

    position = 0

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock) -> None:
        self.name = config.name
        self._config = config
        self._folder = Path(config.source)
        self._done_folder = None if config.done_folder is None else Path(config.done_folder)
        self._shutter = Shutter(config, triggers, clock)
        self._clock = clock
        self._arrivals: dict[str, _Arrival] = {}
        self._done: dict[str, State] = {}
        self._given: str | None = None
        self._is_open = False
        self._opened_before = False

    def open(self) -> None:
        """Raises CameraLostError when a folder is missing, or pictures cannot be moved out of it."""
        found = self._look()
        if self._done_folder is None:
            if not self._opened_before and found:
                logger.warning(
                    "camera %s: %d pictures lie in %s already and are not inspected; set done_folder to inspect such",
                    self.name,
                    len(found),
                    self._folder,
                )
                self._done = found
        else:
            self._make_done_folder(self._done_folder)
        if not self._opened_before:
            now = self._clock.monotonic_s()
            self._arrivals = {
                name: _Arrival(state, now, None) for name, state in found.items() if name not in self._done
            }
        self._is_open = self._opened_before = True

    def read(self, timeout_s: float) -> Frame | None:
        """The next whole picture; one that never becomes whole is a BadFrameError after `timeout_s` of the file."""
        if not self._is_open:
            raise CameraLostError(f"camera {self.name}: the folder is not open; open it before reading")
        self._put_away()
        until = self._clock.monotonic_s() + timeout_s
        while True:
            found = self._next(self._clock.monotonic_s())
            if found is not None:
                return self._give(*found)
            left_s = until - self._clock.monotonic_s()
            if left_s <= 0:
                raise IdleLineError(f"camera {self.name}: no new picture in {self._folder} within {timeout_s:g} s")
            self._clock.sleep(min(POLL_S, left_s))

    def close(self) -> None:
        """What was given is put away; what has arrived is kept for the next open."""
        if self._is_open:
            self._put_away()
        self._is_open = False

    def _give(self, name: str, exposure: Exposure, problem: str) -> Frame:
        self._given = name
        if problem:
            raise exposure.bad(problem)
        try:
            return exposure.frame(read_image(self._folder / name))
        except (ImageError, OSError) as error:
            raise exposure.bad(str(error)) from error

    def _next(self, now_monotonic_s: float) -> tuple[str, Exposure, str] | None:
        """The oldest arrival that is whole, or has been broken for too long."""
        self._note_arrivals(now_monotonic_s)
        for name, arrival in self._arrivals.items():
            quiet_s = now_monotonic_s - arrival.changed_monotonic_s
            if quiet_s < self._config.settle_s:
                continue
            whole = is_whole(self._folder / name)
            if not whole and quiet_s < self._config.timeout_s:
                continue
            problem = "" if whole else f"{name} is not whole, and nobody has written to it for {quiet_s:.1f} s"
            self._done[name] = arrival.state
            del self._arrivals[name]
            return name, self._shutter.stamp(Trigger(0), Path(name).stem, arrival.seen_monotonic_s), problem
        return None

    def _note_arrivals(self, now_monotonic_s: float) -> None:
        found = self._look()
        for name in [name for name in self._done if name not in found]:
            del self._done[name]
        for name in [name for name in self._arrivals if name not in found]:
            logger.warning("camera %s: %s was taken away before it could be read", self.name, name)
            del self._arrivals[name]
        for name, state in found.items():
            if self._done.get(name) == state:
                continue
            known = self._arrivals.get(name)
            if known is None:
                self._arrivals[name] = _Arrival(state, now_monotonic_s, now_monotonic_s)
            elif known.state != state:
                known.state, known.changed_monotonic_s = state, now_monotonic_s

    def _look(self) -> dict[str, State]:
        """Pictures in the folder, the oldest first; names that begin with a dot are other programs' half-written files."""
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in SUFFIXES:
                        continue
                    try:
                        status = entry.stat()
                    except FileNotFoundError:  # renamed or taken away in this moment
                        continue
                    if entry.is_file():
                        found.append((status.st_mtime_ns, entry.name, status.st_size))
        except OSError as error:
            raise CameraLostError(f"camera {self.name}: {self._folder} cannot be looked into: {error}") from error
        return {name: (size_bytes, changed_ns) for changed_ns, name, size_bytes in sorted(found)}

    def _make_done_folder(self, done_folder: Path) -> None:
        try:
            done_folder.mkdir(parents=True, exist_ok=True)
            if done_folder.samefile(self._folder):
                raise CameraLostError(f"camera {self.name}: done_folder must not be the watched folder itself")
        except OSError as error:
            raise CameraLostError(f"camera {self.name}: done_folder cannot be made: {error}") from error
        for folder in (self._folder, done_folder):
            if not os.access(folder, os.W_OK):
                raise CameraLostError(f"camera {self.name}: pictures cannot be moved: {folder} is not writable")

    def _put_away(self) -> None:
        name, self._given = self._given, None
        if name is None or self._done_folder is None:
            return
        target = self._done_folder / name
        number = 1
        while target.exists():  # cameras count from 1 again after each power cut; no evidence is overwritten
            target = self._done_folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
            number += 1
        try:
            shutil.move(self._folder / name, target)
        except FileNotFoundError:
            logger.warning("camera %s: %s was taken away before it could be moved", self.name, name)
        except OSError as error:
            logger.error("camera %s: %s stays where it is, and is not inspected again: %s", self.name, name, error)
