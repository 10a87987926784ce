"""A camera whose pictures are prepared: the one place where crop, flip and rotation of the configuration are applied.

May import the camera protocol and `inspector.framing`. A picture that the crop does not lie in is a bad frame: its part gets
NONE, and the picture is never used as it is.
"""

from edge.cameras.protocol import BadFrameError, Camera
from inspector.config import CameraConfig
from inspector.framing import CropError, framed
from inspector.types import Frame


class FramedCamera:
    """The camera behind it, with prepared pictures."""

    def __init__(self, camera: Camera, config: CameraConfig) -> None:
        self._camera = camera
        self._config = config

    @property
    def name(self) -> str:
        """As the camera behind it."""
        return self._camera.name

    @property
    def position(self) -> int:
        """As the camera behind it."""
        return self._camera.position

    def open(self) -> None:
        """As the camera behind it."""
        self._camera.open()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, prepared; a BadFrameError with `CropError` as its failure where that cannot be done."""
        frame = self._camera.read(timeout_s)
        if frame is None:
            return None
        stamp = {name: value for name, value in vars(frame).items() if name != "image"}
        try:
            return Frame(image=framed(frame.image, self._config), **stamp)
        except CropError as error:
            raise BadFrameError(str(error), failure=error, **stamp) from error

    def close(self) -> None:
        """As the camera behind it."""
        self._camera.close()
