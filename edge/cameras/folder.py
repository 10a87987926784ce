"""A folder of pictures as a camera: by name, once or in a loop; may import the core's picture reader."""

from pathlib import Path

from edge.cameras.shutter import Clock, Shutter
from edge.cameras.triggers import TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError
from inspector.images import list_images, read_image
from inspector.types import Frame


class FolderCamera:
    """One picture per period or per trigger; the part's id is the file's name without its ending."""

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock, position: int = 0) -> None:
        self.name = config.name
        self._folder = Path(config.source)
        self._loop = config.loop
        self._shutter = Shutter(config, triggers, clock)
        self._paths: list[Path] = []
        self.position = position
        self._is_open = False

    def open(self) -> None:
        """Raises CameraLostError when the folder is missing or holds no picture."""
        self._paths = self._list()
        self._is_open = True

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture; one that cannot be read is a BadFrameError, and the next read goes on."""
        if not self._is_open:
            raise CameraLostError(f"camera {self.name}: the folder is not open; open it before reading")
        if self.position >= len(self._paths):
            if not self._loop:
                return None
            self._paths, self.position = self._list(), 0  # what was added meanwhile comes along
        trigger = self._shutter.wait(timeout_s)
        path = self._paths[self.position]
        self.position += 1
        exposure = self._shutter.stamp(trigger, path.stem)
        try:
            return exposure.frame(read_image(path))
        except (ImageError, OSError) as error:
            raise exposure.bad(str(error)) from error

    def close(self) -> None:
        """A folder needs no letting go; the position is kept for the next open."""
        self._is_open = False

    def _list(self) -> list[Path]:
        if not self._folder.is_dir():
            raise CameraLostError(f"camera {self.name}: the folder {self._folder} does not exist; correct `source`")
        try:
            paths = list_images(self._folder)
        except (ImageError, OSError) as error:
            raise CameraLostError(f"camera {self.name}: {error}") from error
        if not paths:
            raise CameraLostError(f"camera {self.name}: the folder {self._folder} holds no pictures")
        return paths
