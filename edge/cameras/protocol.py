"""What a source of frames is and how it says that something is wrong; may import records and errors.

One thread opens and reads a camera. Whatever happens at an exposure, the part that lay there is accounted
for: `read` gives its frame, or raises a `BadFrameError` that names it, so that the part gets its verdict
NONE.

    CameraError
    ├── BadFrameError           one part without a usable picture; read on
    ├── MissedFrameError        only as the failure of a BadFrameError: the camera counted a part that nobody saw
    ├── CropError               only as the failure of a BadFrameError: the configured crop reaches out of the picture
    ├── CameraLostError         close, wait, open again
    └── CameraTimeoutError      no frame in time although one was due
        └── IdleLineError       nothing was due: no trigger, or the period is not over; all is well
"""

from datetime import datetime
from typing import Protocol

from inspector.errors import CameraError, CameraTimeoutError
from inspector.types import Frame


class IdleLineError(CameraTimeoutError):
    """Nothing was due within the time: the line stands still, the camera is well."""


class MissedFrameError(CameraError):
    """The camera's own frame counter jumped: a part passed by and its picture was lost on the way."""


class BadFrameError(CameraError):
    """A part passed by and there is no usable picture of it; it is owed a verdict all the same.

    The attributes are those of the `Frame` that is missing. `failure` is what the camera did instead of
    giving a picture (lost, timed out, missed), `CropError` where the picture does not hold the configured crop, or None
    where the camera gave one that cannot be used.
    """

    def __init__(
        self,
        reason: str,
        *,
        frame_id: int,
        camera: str,
        part_id: str,
        trigger: int,
        captured_at: datetime,
        captured_monotonic_s: float,
        failure: CameraError | None = None,
    ) -> None:
        super().__init__(f"camera {camera}: no usable picture of part {part_id or trigger or frame_id}: {reason}")
        self.reason = reason
        self.frame_id = frame_id
        self.camera = camera
        self.part_id = part_id
        self.trigger = trigger
        self.captured_at = captured_at
        self.captured_monotonic_s = captured_monotonic_s
        self.failure = failure


class Camera(Protocol):
    """One source of frames.

    `open` after `close` connects again and applies all settings again; frame ids go on, and a source that
    ends is continued, not started again.
    """

    @property
    def name(self) -> str:
        """The name of the configuration, in each frame."""

    @property
    def position(self) -> int:
        """Where a source with an order of its own stands (a simulated line: its last trigger); others: 0."""

    def open(self) -> None:
        """Connect. Raises CameraLostError with a sentence; may be called again after it."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, RGB, or None at the end of a source that has one.

        Raises:
            IdleLineError: nothing was due within `timeout_s`.
            CameraTimeoutError: a frame was due and did not come.
            BadFrameError: this part has no usable picture.
            CameraLostError: the source is gone.
        """

    def close(self) -> None:
        """Let go of the source; harmless when it is not open."""
