"""Sources of frames behind one small protocol."""

from typing import TYPE_CHECKING

from edge.cameras.framed import FramedCamera
from edge.cameras.protocol import BadFrameError, Camera, IdleLineError, MissedFrameError
from edge.cameras.shutter import Clock, is_live, patience_s
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import GENICAM_KINDS, CameraConfig
from inspector.framing import is_framed

if TYPE_CHECKING:
    from edge.cameras.pictures import PictureGate

__all__ = [
    "BadFrameError",
    "Camera",
    "Clock",
    "IdleLineError",
    "MissedFrameError",
    "Trigger",
    "TriggerQueue",
    "is_live",
    "make_camera",
    "patience_s",
]


def make_camera(
    config: CameraConfig,
    triggers: TriggerQueue,
    *,
    last_trigger: int = 0,
    position: int = 0,
    clock: Clock | None = None,
    gate: "PictureGate | None" = None,
) -> Camera:
    """The camera that the configuration names, not yet open; each library is imported only where it is needed.

    `last_trigger` is the last recorded trigger of this camera; only the simulated line, which has a counter
    of its own, goes on behind it. `position` is where a folder or a video goes on. `gate` knows what its pictures were
    before this camera was made; without it the first one decides.
    """
    clock = clock or Clock()
    if config.isolate:  # the camera in the child prepares its pictures
        from edge.cameras.isolated import IsolatedCamera

        return IsolatedCamera(config, triggers, clock, last_trigger if config.kind == "simulated" else position)
    camera = _source(config, triggers, clock, last_trigger, position, gate)
    return FramedCamera(camera, config) if is_framed(config) else camera


def _source(
    config: CameraConfig,
    triggers: TriggerQueue,
    clock: Clock,
    last_trigger: int,
    position: int,
    gate: "PictureGate | None",
) -> Camera:
    if config.kind == "simulated":
        return _simulated(config, triggers, clock, last_trigger)
    if config.kind == "folder":
        return _folder(config, triggers, clock, position)
    from edge.cameras.pictures import PictureGate

    gate = gate or PictureGate()
    if config.kind in GENICAM_KINDS:
        return _streaming(config, triggers, clock, gate)
    if config.kind == "video":
        from edge.cameras.video import VideoCamera

        return VideoCamera(config, triggers, clock, gate, position)
    from edge.cameras.opencv import OpenCvCamera

    return OpenCvCamera(config, triggers, clock, gate)


def _simulated(config: CameraConfig, triggers: TriggerQueue, clock: Clock, last_trigger: int) -> Camera:
    from edge.cameras.simulated import SimulatedCamera

    camera = SimulatedCamera(config, triggers, clock, last_trigger)
    if not config.faults:
        return camera
    from edge.cameras.faults import FaultyCamera

    return FaultyCamera(camera, config)


def _folder(config: CameraConfig, triggers: TriggerQueue, clock: Clock, position: int) -> Camera:
    if config.watch:
        from edge.cameras.hot_folder import HotFolderCamera

        return HotFolderCamera(config, triggers, clock)
    from edge.cameras.folder import FolderCamera

    return FolderCamera(config, triggers, clock, position)


def _streaming(config: CameraConfig, triggers: TriggerQueue, clock: Clock, gate: "PictureGate") -> Camera:
    from edge.cameras.streaming import StreamingCamera

    if config.kind == "genicam":
        from edge.cameras.genicam import AravisDevice

        return StreamingCamera(config, triggers, clock, gate, AravisDevice)
    from edge.cameras.gentl import HarvestersDevice

    return StreamingCamera(config, triggers, clock, gate, HarvestersDevice)
