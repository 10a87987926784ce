"""What of a camera's picture is inspected: a part of it, mirrored, turned. The same for the line and for the command line.

Everything behind the camera (banks, scores, evidence, the dashboard) knows prepared pictures only. numpy and the
configuration only.
"""

import numpy as np

from inspector.config import CameraConfig
from inspector.errors import CameraError
from inspector.types import ImageArray


class CropError(CameraError):
    """The configured crop does not lie in the picture."""


def is_framed(camera: CameraConfig) -> bool:
    """Whether the pictures of this camera are changed at all."""
    return camera.crop is not None or camera.flip != "none" or camera.rotate_deg != 0


def framed(image: ImageArray, camera: CameraConfig) -> ImageArray:
    """The prepared picture of a raw one `[H, W, 3]`: cropped, then mirrored, then turned clockwise.

    Raises:
        CropError: the crop reaches out of the picture; it is never made smaller to fit.
    """
    height_px, width_px = image.shape[:2]
    check_crop(camera, width_px, height_px)
    left, top, wide, high = camera.crop or (0, 0, width_px, height_px)
    view = image[top : top + high, left : left + wide]
    if camera.flip != "none":
        view = view[:, ::-1] if camera.flip == "horizontal" else view[::-1]
    return np.ascontiguousarray(np.rot90(view, k=-(camera.rotate_deg // 90)))


def check_crop(camera: CameraConfig, width_px: int, height_px: int) -> None:
    """Raise CropError unless the camera's crop lies in pictures of this size."""
    if camera.crop is None:
        return
    left, top, wide, high = camera.crop
    if left + wide > width_px or top + high > height_px:
        raise CropError(
            f"camera {camera.name}: crop [x, y, width, height] {list(camera.crop)} reaches to {left + wide}×{top + high} px, "
            f"but the picture has {width_px}×{height_px} px; correct `crop` in the configuration"
        )
