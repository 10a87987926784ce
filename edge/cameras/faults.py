"""Faults put into a simulated line on purpose, so that what the worker does about them can be seen and tested.

Each part meets at most one fault, drawn from the camera's seed and the number of the frame: two runs have the same ones.
May import the camera protocol. The simulated camera behind it keeps the triggers and the numbers.
"""

import random
import threading

import numpy as np

from edge.cameras.protocol import BadFrameError, Camera, MissedFrameError
from inspector.config import CameraConfig
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError
from inspector.types import Frame, ImageArray


class FaultyCamera:
    """A camera whose parts meet the faults of the configuration, each with its share."""

    def __init__(self, camera: Camera, config: CameraConfig) -> None:
        self.name = camera.name
        self._camera = camera
        self._config = config
        self._last_image: ImageArray | None = None

    @property
    def position(self) -> int:
        """That of the camera behind it."""
        return self._camera.position

    def open(self) -> None:
        """As the camera behind it."""
        self._camera.open()

    def read(self, timeout_s: float) -> Frame | None:
        """As the camera behind it, with what goes wrong."""
        frame = self._camera.read(timeout_s)
        if frame is None:
            return None
        fault = fault_of(self._config, frame.trigger)
        if fault == "hang":
            threading.Event().wait()  # as a driver that never comes back: only the end of the process helps
        failures: dict[str, CameraError | None] = {
            "missed": MissedFrameError("a frame was lost on the way (simulated)"),
            "timeout": CameraTimeoutError("no frame after the trigger (simulated)"),
            "lost": CameraLostError("the camera was unplugged (simulated)"),
            "bad": None,
        }
        if fault in failures:
            failure = failures[fault]
            raise _bad(frame, failure, str(failure or "the picture came incomplete (simulated)"))
        image = frame.image
        if fault == "frozen" and self._last_image is not None:
            image = self._last_image
        elif fault == "black":
            image = np.zeros_like(frame.image)
        self._last_image = image
        return Frame(**{**vars(frame), "image": image})

    def close(self) -> None:
        """As the camera behind it."""
        self._camera.close()


def fault_of(config: CameraConfig, trigger: int) -> str:
    """The fault that the part of this trigger meets, or nothing; known without the camera."""
    chance = random.Random(f"{config.seed}:{trigger}").random()  # noqa: S311 - repeatable, not secret
    for fault, share in config.faults.items():
        if chance < share:
            return fault
        chance -= share
    return ""


def _bad(frame: Frame, failure: CameraError | None, reason: str) -> BadFrameError:
    known = {name: value for name, value in vars(frame).items() if name != "image"}
    return BadFrameError(reason, failure=failure, **known)
