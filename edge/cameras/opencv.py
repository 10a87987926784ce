"""A USB camera or a network stream by OpenCV, which may hang: it is opened and read in a thread of its own.

cv2's calls take no time-out that holds for every driver, so nobody who matters waits for them: the grabber
thread alone touches the capture, and `open` and `read` wait for the thread, with a time-out. A thread that
hangs is abandoned; a new `open` starts another. A live source is grabbed all the time, so that no old picture
waits in a driver's buffer for the next trigger; a file behind an address is grabbed frame by frame. May
import cv2.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy.typing as npt

from edge.cameras.pictures import PictureGate
from edge.cameras.shutter import OPEN_FACTOR, Clock, Shutter, is_live, patience_s
from edge.cameras.triggers import TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError, ImageError
from inspector.types import Frame

logger = logging.getLogger(__name__)

ALWAYS_BGR = ("AVFOUNDATION",)
"""Backends that know no CONVERT_RGB and ask their system for BGR themselves."""


@dataclass(frozen=True, eq=False)
class _Shot:
    """A picture as cv2 gives it (blue first), and when it was grabbed."""

    picture: npt.NDArray[Any]
    captured_monotonic_s: float


class _Grabber(threading.Thread):
    """The only thread that touches the capture; holds the newest shot; ends on `stop` or with the source."""

    def __init__(self, source: str, limits_s: tuple[float, float], live: bool) -> None:
        super().__init__(name=f"grabber-{source}", daemon=True)  # a hung driver must not keep the program alive
        self._source = source
        self._limits_s = limits_s  # to open, to read
        self._live = live
        self._changed = threading.Condition()
        self._shot: _Shot | None = None
        self._opened = False
        self._ended: str | None = None
        self._stopping = False

    def run(self) -> None:
        try:
            capture = self._connect()
            try:
                self._grab(capture)
            finally:
                capture.release()
        except (cv2.error, CameraLostError) as error:
            self._end(str(error))

    def wait_open(self, timeout_s: float) -> None:
        """Raises CameraLostError unless the source is open in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended is not None, timeout_s)
            if self._opened:  # one that ended in the same moment says so when it is read
                return
            raise CameraLostError(self._ended or f"{self._source} did not answer within {timeout_s:g} s")

    def take(self, not_before_monotonic_s: float, timeout_s: float) -> _Shot | None:
        """The newest shot, grabbed no earlier than that, given once; None when a file has come to its end."""

        def fresh() -> bool:
            shot = self._shot
            return shot is not None and (not self._live or shot.captured_monotonic_s >= not_before_monotonic_s)

        with self._changed:
            self._changed.wait_for(lambda: fresh() or self._ended is not None, timeout_s)
            if fresh():
                shot, self._shot = self._shot, None
                self._changed.notify_all()
                return shot
            if self._ended is None:
                raise CameraTimeoutError(f"no frame from {self._source} within {timeout_s:g} s")
            if self._live:
                raise CameraLostError(self._ended)
            return None

    def stop(self) -> None:
        """Asks the thread to end and waits a moment for it; one that hangs in the driver is left behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.join(1.0)
        if self.is_alive():
            logger.warning("%s hangs in its driver; its thread is left behind", self._source)

    def _connect(self) -> cv2.VideoCapture:
        if self._source.isdecimal():
            capture = cv2.VideoCapture(int(self._source))
        else:
            open_ms, read_ms = (max(1, int(limit_s * 1000)) for limit_s in self._limits_s)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
            capture = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture.release()
            raise CameraLostError(f"no camera at {self._source!r}; check cable and address")
        try:
            self._set_up(capture)
        except (cv2.error, CameraLostError):
            capture.release()
            raise
        with self._changed:
            self._opened = True
            self._changed.notify_all()
        return capture

    def _set_up(self, capture: cv2.VideoCapture) -> None:
        """At each connection: blue first, 8 bits, whatever the driver had. Raises CameraLostError where it says no."""
        backend = capture.getBackendName()
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 1)
        claimed = capture.get(cv2.CAP_PROP_CONVERT_RGB)
        if claimed != 1 and backend not in ALWAYS_BGR:
            raise CameraLostError(
                f"{self._source} does not take its settings: CONVERT_RGB is {claimed:g} after it was set to 1 ({backend}), "
                "so its pictures would come as the sensor's raw bytes; use another driver, or set the camera to a format "
                "that OpenCV converts (MJPG, YUYV)"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        kept = capture.get(cv2.CAP_PROP_BUFFERSIZE)
        if kept != 1:  # advice: a live source is grabbed all the time, so that none grows old in a buffer
            logger.info("%s keeps its own number of buffers (%s says %g)", self._source, backend, kept)

    def _grab(self, capture: cv2.VideoCapture) -> None:
        while not self._stopping:
            found = capture.grab()
            captured_monotonic_s = time.monotonic()  # as close to the exposure as cv2 lets us be: before decoding
            found, picture = capture.retrieve() if found else (False, None)
            if not found or picture is None:
                self._end(f"{self._source} gives no more frames; it was unplugged, or the stream has ended")
                return
            with self._changed:
                self._shot = _Shot(picture, captured_monotonic_s)
                self._changed.notify_all()
                if not self._live:
                    self._changed.wait_for(lambda: self._shot is None or self._stopping)

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = reason
            self._changed.notify_all()


class OpenCvCamera:
    """USB index (`0`) or address (`rtsp://…`): the newest frame once a period, or the first after a trigger."""

    position = 0

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock, gate: PictureGate) -> None:
        self.name = config.name
        self._source = config.source
        self._timeout_s = config.timeout_s
        self._live = is_live(config)
        self._patience_s = patience_s(config)
        self._shutter = Shutter(config, triggers, clock)
        self._clock = clock
        self._gate = gate
        self._grabber: _Grabber | None = None

    def open(self) -> None:
        """Raises CameraLostError when nothing answers within `OPEN_FACTOR` times the configured `timeout_s`."""
        self.close()
        if not self._source:
            raise CameraLostError(f"camera {self.name}: `source` is empty")
        open_timeout_s = OPEN_FACTOR * self._timeout_s
        grabber = _Grabber(self._source, (open_timeout_s, self._timeout_s), self._live)
        grabber.start()
        try:
            grabber.wait_open(open_timeout_s + 0.5)
        except CameraLostError as error:
            grabber.stop()
            raise CameraLostError(f"camera {self.name}: {error}") from error
        self._grabber = grabber

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame. Once a trigger has come, the wait for its frame is the configured `timeout_s`."""
        if self._grabber is None:
            raise CameraLostError(f"camera {self.name}: not open; open it before reading")
        trigger = self._shutter.wait(timeout_s)
        since = self._clock.monotonic_s()
        try:
            if self._shutter.triggered:
                shot = self._grabber.take(since, self._timeout_s)
            else:
                shot = self._grabber.take(0.0, min(timeout_s, self._patience_s))
        except CameraError as error:
            if not self._shutter.triggered:
                raise type(error)(f"camera {self.name}: {error}") from error
            raise self._shutter.stamp(trigger, "").bad(str(error), error) from error
        if shot is None:
            if not self._shutter.triggered:
                return None
            raise self._shutter.stamp(trigger, "").bad("the source has come to its end")
        exposure = self._shutter.stamp(trigger, "", shot.captured_monotonic_s if self._live else None)
        try:
            return exposure.frame(self._gate.rgb(shot.picture))
        except ImageError as error:
            raise exposure.bad(str(error)) from error

    def close(self) -> None:
        """Lets go of the device; returns within a second even when its driver hangs."""
        if self._grabber is not None:
            self._grabber.stop()
            self._grabber = None
