"""A camera that sends numbered frames by itself (GenICam), whatever library speaks to it.

One thread owns the device: it connects, fetches, stamps and disconnects, so that a driver that hangs blocks nobody who
matters, and frames are stamped when they come and not when they are read. Each number that is left out is a part that
passed by unseen, and is told as such. May import the pixel formats and the shutter; the libraries stand behind `Device`.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.cameras.frame_ids import FrameIds
from edge.cameras.pictures import PictureGate
from edge.cameras.pixels import parse_pixel_format, to_rgb
from edge.cameras.protocol import IdleLineError, MissedFrameError
from edge.cameras.shutter import Clock, Shutter, patience_s
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError, ImageError
from inspector.types import Frame

logger = logging.getLogger(__name__)

SLICE_S = 0.1
ROOM = 16
CONNECT_GRACE_S = 5.0
DISCONNECT_S = 2.0
"""A library may still try to reach a camera that is gone; after this its thread is left behind."""


@dataclass(frozen=True, eq=False)
class Grab:
    """What the device gave: raw bytes `[n]`, or a `problem` where the picture is not whole."""

    device_frame_id: int
    captured_monotonic_s: float
    pixel_format: str = ""
    width_px: int = 0
    height_px: int = 0
    data: npt.NDArray[np.uint8] | None = None
    problem: str = ""


class Device(Protocol):
    """A library's camera. Every method raises CameraLostError when the camera is gone or refuses."""

    def connect(self) -> str:
        """Find the camera, apply and read back all settings, start the stream; gives the pixel format."""

    def fetch(self, timeout_s: float) -> Grab | None:
        """The next frame, or None when none came in time."""

    def fire(self) -> None:
        """The software trigger; called by another thread than `fetch`."""

    def disconnect(self) -> None:
        """Stop and let go; called after `connect` also where that failed."""


class _Feed(threading.Thread):
    """The only thread that opens, fetches from and closes the device; keeps the last `ROOM` grabs."""

    def __init__(self, name: str, make_device: Callable[[], Device]) -> None:
        super().__init__(name=f"feed-{name}", daemon=True)  # a hung driver must not keep the program alive
        self._camera = name
        self._make_device = make_device
        self._device: Device | None = None
        self._changed = threading.Condition()
        self._grabs: deque[Grab] = deque(maxlen=ROOM)  # one that falls out is missing in the numbers, so it is told
        self._ended: str | None = None
        self._stopping = threading.Event()
        self.pixel_format = ""

    def run(self) -> None:
        reason = "its stream was stopped"
        try:
            device = self._device = self._make_device()
            self._set_open(device.connect())
            while not self._stopping.is_set():
                grab = device.fetch(SLICE_S)
                if grab is not None:
                    with self._changed:
                        self._grabs.append(grab)
                        self._changed.notify_all()
        except CameraError as error:
            reason = str(error)
        except Exception as error:  # a vendor's library may raise anything; the reader must hear of it
            logger.exception("camera %s: its library failed in an unexpected way", self._camera)
            reason = f"{type(error).__name__}: {error}"
        finally:
            with self._changed:
                self._ended = reason
                self._changed.notify_all()
            self._disconnect()

    def wait_open(self, timeout_s: float) -> None:
        """Raises CameraLostError unless the device is connected in time."""
        with self._changed:
            self._changed.wait_for(lambda: self.pixel_format or self._ended is not None, timeout_s)
            if not self.pixel_format:
                raise CameraLostError(self._ended or f"did not answer within {timeout_s:g} s")

    def take(self, timeout_s: float) -> Grab | None:
        """The oldest grab, or None when there is none in time. Raises CameraLostError when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._grabs or self._ended is not None, max(0.0, timeout_s))
            if self._grabs:
                return self._grabs.popleft()
        self.check()
        return None

    def check(self) -> None:
        """Raises CameraLostError when the stream has ended."""
        if self._ended is not None:
            raise CameraLostError(self._ended)

    def fire(self) -> int:
        """Sends the software trigger; gives how many frames were thrown away that nobody had asked for."""
        with self._changed:
            strays = len(self._grabs)
            self._grabs.clear()
        if self._device is not None:
            self._device.fire()
        return strays

    def stop(self) -> None:
        """Asks the thread to end and waits for it; one that hangs in its library is left behind."""
        self._stopping.set()
        self.join(DISCONNECT_S)
        if self.is_alive():
            logger.warning("camera %s: its library does not come back; its thread is left behind", self._camera)

    def _set_open(self, pixel_format: str) -> None:
        with self._changed:
            self.pixel_format = pixel_format
            self._changed.notify_all()

    def _disconnect(self) -> None:
        try:
            if self._device is not None:
                self._device.disconnect()
                self._device = None  # what the library holds is let go of here, in its own thread
        except Exception as error:  # noqa: BLE001 - a camera that is gone cannot be let go of in order
            logger.warning("camera %s: not closed in order: %s", self._camera, error)


class StreamingCamera:
    """Free running, by hardware, or one frame per software trigger."""

    position = 0

    def __init__(
        self,
        config: CameraConfig,
        triggers: TriggerQueue,
        clock: Clock,
        gate: PictureGate,
        make_device: Callable[[CameraConfig], Device],
    ) -> None:
        self.name = config.name
        self._config = config
        self._make_device = make_device
        self._shutter = Shutter(config, triggers, clock)
        self._clock = clock
        self._gate = gate
        self._feed: _Feed | None = None
        self._ids = FrameIds()
        self._missed = 0
        self._next: Grab | None = None
        self._last_sign_monotonic_s = 0.0

    def open(self) -> None:
        """Raises CameraLostError when the camera does not answer, or does not take its settings."""
        self.close()
        feed = _Feed(self.name, lambda: self._make_device(self._config))  # a thread left behind keeps its own
        feed.start()
        try:
            feed.wait_open(self._config.timeout_s + CONNECT_GRACE_S)
        except CameraLostError as error:
            feed.stop()
            raise CameraLostError(f"camera {self.name}: {error}") from error
        self._feed = feed
        self._ids = FrameIds()  # what passed by while nobody was connected is not in the new numbers
        self._last_sign_monotonic_s = self._clock.monotonic_s()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; after a jump of the camera's numbers first one BadFrameError for each that is missing."""
        if self._feed is None:
            raise CameraLostError(f"camera {self.name}: not open; open it before reading")
        if self._shutter.triggered:
            return self._read_triggered(self._feed, timeout_s)
        return self._read_running(self._feed, timeout_s)

    def close(self) -> None:
        """Lets go of the camera; returns in time even when its library hangs."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None
        self._missed, self._next = 0, None

    def _read_triggered(self, feed: _Feed, timeout_s: float) -> Frame:
        self._check(feed)  # before a trigger is taken
        try:
            trigger = self._shutter.wait(timeout_s)
        except IdleLineError:
            self._check(feed)
            raise
        try:
            strays = feed.fire()
            if strays:
                logger.warning("camera %s: %d frames came without a trigger; thrown away", self.name, strays)
            grab = feed.take(self._config.timeout_s)
            if grab is None:
                raise CameraTimeoutError(f"no frame within {self._config.timeout_s:g} s after its trigger")
        except CameraError as error:
            raise self._shutter.stamp(trigger, "").bad(str(error), error) from error
        return self._frame(feed, trigger, grab)

    def _read_running(self, feed: _Feed, timeout_s: float) -> Frame:
        if self._next is None:
            self._next = self._await(feed, timeout_s)
            self._missed = self._ids.missed_before(self._next.device_frame_id)
        grab = self._next
        if self._missed:
            self._missed -= 1
            lost = MissedFrameError(
                f"the camera counted a frame before its number {grab.device_frame_id} that never came"
            )
            raise self._shutter.stamp(Trigger(0), "", grab.captured_monotonic_s).bad(str(lost), lost)
        self._next = None
        return self._frame(feed, Trigger(0), grab)

    def _await(self, feed: _Feed, timeout_s: float) -> Grab:
        free = self._config.trigger == "free"
        waited_s = self._clock.monotonic_s() - self._last_sign_monotonic_s
        left_s = patience_s(self._config) - waited_s if free else timeout_s
        try:
            grab = feed.take(min(timeout_s, left_s))
        except CameraLostError as error:
            raise CameraLostError(f"camera {self.name}: {error}") from error
        if grab is not None:
            self._last_sign_monotonic_s = self._clock.monotonic_s()
            return grab
        if free and left_s <= timeout_s:
            raise CameraTimeoutError(f"camera {self.name}: no frame for {patience_s(self._config):g} s")
        raise IdleLineError(f"camera {self.name}: no frame was due within {timeout_s:g} s")

    def _check(self, feed: _Feed) -> None:
        try:
            feed.check()
        except CameraLostError as error:
            raise CameraLostError(f"camera {self.name}: {error}") from error

    def _frame(self, feed: _Feed, trigger: Trigger, grab: Grab) -> Frame:
        exposure = self._shutter.stamp(trigger, "", grab.captured_monotonic_s)
        try:
            if grab.problem or grab.data is None:
                raise ImageError(grab.problem or "the frame is empty")
            if grab.pixel_format != feed.pixel_format:
                raise ImageError(f"expected pixel format {feed.pixel_format} as set, but got {grab.pixel_format}")
            self._gate.check(grab.width_px, grab.height_px, parse_pixel_format(grab.pixel_format).colours)
            return exposure.frame(to_rgb(grab.data, grab.pixel_format, grab.width_px, grab.height_px))
        except ImageError as error:
            raise exposure.bad(str(error)) from error
