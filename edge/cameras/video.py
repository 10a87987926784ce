"""A video file as a camera: each frame once, none skipped, in order; may import cv2.

The next frame is decoded before a trigger is taken, so that no trigger is taken for a frame that does not
exist.
"""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy.typing as npt

from edge.cameras.pictures import PictureGate
from edge.cameras.shutter import Clock, Shutter
from edge.cameras.triggers import TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError
from inspector.types import Frame

logger = logging.getLogger(__name__)


class VideoCamera:
    """One frame per period or per trigger; its part id is the file's name and the frame's number."""

    def __init__(
        self, config: CameraConfig, triggers: TriggerQueue, clock: Clock, gate: PictureGate, position: int = 0
    ) -> None:
        self.name = config.name
        self._path = Path(config.source)
        self._loop = config.loop
        self._shutter = Shutter(config, triggers, clock)
        self._gate = gate
        self._capture: cv2.VideoCapture | None = None
        self._next: npt.NDArray[Any] | None = None
        self.position = position

    def open(self) -> None:
        """Raises CameraLostError when the file is missing or is no video."""
        self.close()
        if not self._path.is_file():
            raise CameraLostError(f"camera {self.name}: the video {self._path} does not exist; correct `source`")
        capture = cv2.VideoCapture(str(self._path))
        for _ in range(self.position):
            capture.grab()
        self._capture, self._next = capture, self._decode(capture)
        if self._next is None and self.position == 0:
            self.close()
            raise CameraLostError(f"camera {self.name}: {self._path} cannot be read as a video; is it damaged?")

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame of the file."""
        if self._next is None and self._capture is not None and self._loop:
            self.position = 0
            self.open()
        if self._capture is None:
            raise CameraLostError(f"camera {self.name}: the video is not open; open it before reading")
        if self._next is None:
            return None
        trigger = self._shutter.wait(timeout_s)
        self.position += 1
        exposure = self._shutter.stamp(trigger, f"{self._path.stem}-{self.position:06d}")
        picture, self._next = self._next, self._decode(self._capture)
        try:
            return exposure.frame(self._gate.rgb(picture))
        except ImageError as error:
            raise exposure.bad(str(error)) from error

    def close(self) -> None:
        """Closes the file; the position is kept for the next open."""
        if self._capture is not None:
            self._capture.release()
        self._capture, self._next = None, None

    def _decode(self, capture: cv2.VideoCapture) -> npt.NDArray[Any] | None:
        found, picture = capture.read()
        if found:
            return picture
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if promised > self.position:
            logger.warning("camera %s: %s ends after %d of %d frames", self.name, self._path, self.position, promised)
        return None
