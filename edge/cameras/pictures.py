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


class PictureGate:
    """Lets through 8-bit pictures of one size, that of the first one, as RGB."""

    def __init__(self) -> None:
        self._size_px: tuple[int, int] | None = None

    def rgb(self, picture: npt.NDArray[Any]) -> ImageArray:
        """`[H, W, 3]` RGB from BGR, or from grey `[H, W]`. Raises ImageError for anything else."""
        if picture.dtype != np.uint8 or 0 in picture.shape:
            raise ImageError(f"expected 8-bit pictures, but got {picture.dtype} with shape {picture.shape}")
        grey = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 1)
        if not grey and (picture.ndim != 3 or picture.shape[2] != 3):
            raise ImageError(f"expected 3 colours or grey, but got shape {picture.shape}")
        height_px, width_px = picture.shape[:2]
        self.check_size(width_px, height_px)
        converted = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)
        return np.asarray(converted, dtype=np.uint8)

    def check_size(self, width_px: int, height_px: int) -> None:
        """Raises ImageError unless this is the size of the first picture."""
        if self._size_px is None:
            self._size_px = (width_px, height_px)
        if self._size_px != (width_px, height_px):
            expected = f"{self._size_px[0]}×{self._size_px[1]}"
            raise ImageError(f"expected {expected} px as in the first picture, but got {width_px}×{height_px} px")
