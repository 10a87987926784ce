"""From what cv2's capture gives to the RGB picture of a frame, checked each time; may import cv2.

cv2 gives blue first and says so nowhere in the array; a picture that is not what the first one was, after a
reconnect too, would be scored wrongly in silence, so it is refused.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspector.errors import ImageError
from inspector.types import ImageArray

Kind = tuple[int, int, int]
"""Width and height in px, and channels: 1 grey, 3 colour."""


class PictureGate:
    """Lets through 8-bit pictures like the first one: of its size, and in colour or grey as it was; as RGB.

    `first` is what the first one was, None before it.
    """

    def __init__(self, first: Kind | None = None) -> None:
        self.first = first

    def rgb(self, picture: npt.NDArray[Any]) -> ImageArray:
        """`[H, W, 3]` RGB from BGR, or from grey `[H, W]`. Raises ImageError for anything else."""
        if picture.dtype != np.uint8 or 0 in picture.shape:
            raise ImageError(f"expected 8-bit pictures, but got {picture.dtype} with shape {picture.shape}")
        grey = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 1)
        if not grey and (picture.ndim != 3 or picture.shape[2] != 3):
            raise ImageError(f"expected 3 colours or grey, but got shape {picture.shape}")
        height_px, width_px = picture.shape[:2]
        self.check(width_px, height_px, 1 if grey else 3)
        converted = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)
        return np.asarray(converted, dtype=np.uint8)

    def check(self, width_px: int, height_px: int, channels: int) -> None:
        """Raises ImageError unless the first picture was of this size and had so many channels."""
        now = (width_px, height_px, channels)
        if self.first is None:
            self.first = now
        if self.first != now:
            raise ImageError(
                f"expected {_words(*self.first)} as in the first picture, but got {_words(*now)}; set the camera back, or "
                "restart the worker if it is right now"
            )


def _words(width_px: int, height_px: int, channels: int) -> str:
    return f"{width_px}×{height_px} px {'grey' if channels == 1 else 'in colour'}"
