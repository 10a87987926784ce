"""Sources of frames behind one small protocol."""

from edge.cameras.protocol import BadFrameError, Camera, IdleLineError
from edge.cameras.shutter import Clock
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import CameraConfig

__all__ = ["BadFrameError", "Camera", "Clock", "IdleLineError", "Trigger", "TriggerQueue", "make_camera"]


def make_camera(
    config: CameraConfig, triggers: TriggerQueue, *, last_trigger: int = 0, clock: Clock | None = None
) -> Camera:
    """The camera that the configuration names, not yet open.

    `last_trigger` is the last recorded trigger of this camera; only the simulated line, which has a counter
    of its own, goes on behind it.
    """
    clock = clock or Clock()
    if config.kind == "simulated":
        from edge.cameras.simulated import SimulatedCamera

        return SimulatedCamera(config, triggers, clock, last_trigger)
    if config.kind == "folder":
        from edge.cameras.folder import FolderCamera

        return FolderCamera(config, triggers, clock)
    if config.kind == "video":
        from edge.cameras.video import VideoCamera

        return VideoCamera(config, triggers, clock)
    from edge.cameras.opencv import OpenCvCamera

    return OpenCvCamera(config, triggers, clock)
