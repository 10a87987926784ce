"""From the raw bytes of an industrial camera to RGB: the pixel formats of PFNC that need no vendor's code.

May import cv2. Bayer patterns are named as in PFNC by the first two pixels of the first row (BayerRG: red first), which is
not how OpenCV's older constants name them; the constants with all four letters are used, so that red stays red.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inspector.errors import ImageError
from inspector.types import ImageArray

_FORMAT = re.compile(r"(Mono|BayerRG|BayerGR|BayerGB|BayerBG|RGB|BGR|RGBa|BGRa)(8|10|12|16)")
_TO_RGB = {
    "Mono": cv2.COLOR_GRAY2RGB,
    "BayerRG": cv2.COLOR_BayerRGGB2RGB,
    "BayerGR": cv2.COLOR_BayerGRBG2RGB,
    "BayerGB": cv2.COLOR_BayerGBRG2RGB,
    "BayerBG": cv2.COLOR_BayerBGGR2RGB,
    "BGR": cv2.COLOR_BGR2RGB,
    "RGBa": cv2.COLOR_RGBA2RGB,
    "BGRa": cv2.COLOR_BGRA2RGB,
}
_CHANNELS = {"RGB": 3, "BGR": 3, "RGBa": 4, "BGRa": 4}
KNOWN = "Mono, BayerRG, BayerGR, BayerGB, BayerBG, RGB, BGR, RGBa or BGRa with 8, 10, 12 or 16 bits, unpacked"


@dataclass(frozen=True)
class PixelFormat:
    """One format of PFNC: its layout and its significant bits."""

    layout: str
    bits: int

    @property
    def channels(self) -> int:
        return _CHANNELS.get(self.layout, 1)

    @property
    def colours(self) -> int:
        """Of the picture, not of its bytes: 1 grey, 3 colour, also where each pixel has seen one only (Bayer)."""
        return 1 if self.layout == "Mono" else 3

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype("<u2")


def parse_pixel_format(name: str) -> PixelFormat:
    """Raises ImageError with the known formats where `name` is none of them (packed formats are none)."""
    found = _FORMAT.fullmatch(name)
    if found is None:
        raise ImageError(f"pixel format {name!r} cannot be read; set `pixel_format` to {KNOWN}")
    return PixelFormat(found[1], int(found[2]))


def to_rgb(data: npt.NDArray[np.uint8], name: str, width_px: int, height_px: int) -> ImageArray:
    """`[H, W, 3]` RGB from raw bytes; more than 8 bits lose their lowest ones.

    Raises:
        ImageError: the format is not known, or the bytes are not those of one whole picture.
    """
    pixel_format = parse_pixel_format(name)
    expected = width_px * height_px * pixel_format.channels * pixel_format.dtype.itemsize
    if data.size < expected or expected == 0:
        raise ImageError(f"expected {expected} bytes for {width_px}×{height_px} px {name}, but got {data.size}")
    shape = (height_px, width_px) if pixel_format.channels == 1 else (height_px, width_px, pixel_format.channels)
    pixels = data[:expected].view(pixel_format.dtype).reshape(shape)
    if pixel_format.bits > 8:
        pixels = (pixels >> (pixel_format.bits - 8)).clip(max=255).astype(np.uint8)
    conversion = _TO_RGB.get(pixel_format.layout)
    if conversion is None:
        return np.array(pixels, dtype=np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), conversion), dtype=np.uint8)
