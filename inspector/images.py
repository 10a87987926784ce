"""Pictures in and out: files and bytes to RGB, heat maps to look at.

numpy and OpenCV only, so that every room may use it.
"""

from pathlib import Path

import cv2
import numpy as np

from inspector.errors import ImageError
from inspector.types import Box, ImageArray, MapArray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MIN_SIDE_PX = 16
MAX_PIXELS = 100_000_000
FRAME_RGB = (255, 59, 48)
HEADER_BYTES = 64


def list_images(folder: Path) -> list[Path]:
    """Files of `folder` with a picture's suffix, sorted by name.

    Raises:
        ImageError: the folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give a folder of pictures")
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not found:
        raise ImageError(f"{folder} holds no picture ({', '.join(sorted(SUFFIXES))})")
    return found


def read_image(path: Path) -> ImageArray:
    """Read a picture as RGB uint8 `[H, W, 3]`.

    Raises:
        ImageError: the file is missing, no picture, damaged, under 16 px or over 100 Mpx.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str = "picture") -> ImageArray:
    """Decode the bytes of a picture file to RGB uint8 `[H, W, 3]`.

    Grey becomes RGB, alpha is dropped, the orientation noted in EXIF is applied. 16-bit values are divided
    by 257, the same for every picture, never stretched: a dark frame must stay dark.

    Raises:
        ImageError: as in `read_image`.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty")
    if not _looks_like_a_picture(data):
        raise ImageError(f"{name}: not a picture (PNG, JPEG, BMP, TIFF or WebP), whatever its name says")
    announced = _announced_size(data, name)
    if announced is not None:
        _refuse_size(*announced, name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ImageError(f"{name}: damaged, or not of 8 or 16 bits a channel; it cannot be decoded")
    _refuse_size(pixels.shape[1], pixels.shape[0], name)
    return _to_rgb8(pixels, name)


def _refuse_size(width_px: int, height_px: int, name: str) -> None:
    size = f"{width_px}×{height_px} px"
    if min(height_px, width_px) < MIN_SIDE_PX:
        raise ImageError(f"{name}: {size} is too small; at least {MIN_SIDE_PX} px a side are needed")
    if height_px * width_px > MAX_PIXELS:
        raise ImageError(f"{name}: {size} is too large; at most {MAX_PIXELS // 10**6} Mpx are allowed")


def _announced_size(data: bytes, name: str) -> tuple[int, int] | None:
    """Width and height in px that a PNG or JPEG announces, so that a huge one is refused before it fills the memory."""
    if data.startswith(b"\x89PNG"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(b"\xff\xd8"):
        return None
    size, place = None, 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame, not a table
            height_px, width_px = (int.from_bytes(data[place + at : place + at + 2], "big") for at in (5, 7))
            size = width_px, height_px
        if marker == 0xDA:  # start of scan: from here on 0xFFD9 can only be the end of the picture
            if data.find(b"\xff\xd9", place) < 0:
                raise ImageError(f"{name}: the file is not complete; it may still be written")
            break
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return size


def _looks_like_a_picture(data: bytes) -> bool:
    head = data[:HEADER_BYTES]
    magic = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
    return head.startswith(magic) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _to_rgb8(pixels: np.ndarray, name: str) -> ImageArray:
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{name}: {pixels.dtype} pixels; expected 8 or 16 bits a channel")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def heat_map(anomaly_map: MapArray, image: ImageArray, threshold: float) -> ImageArray:
    """Lay an anomaly map `[S, S]` over its picture: clear below half of `threshold`, red from 1.5 × `threshold` on.

    `threshold` is that of pixels (`Detector.pixel_threshold`). A map that is not finite leaves the picture as it is.
    """
    height_px, width_px = image.shape[:2]
    known = np.nan_to_num(anomaly_map, nan=0.0, posinf=0.0, neginf=0.0)
    scaled = cv2.resize(known, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    level = np.clip(scaled / max(threshold, 1e-9) - 0.5, 0.0, 1.0).astype(np.float32)
    colours = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    weight = np.minimum(level * 1.5, 0.65)[:, :, None]
    blended: ImageArray = (image * (1.0 - weight) + colours * weight).astype(np.uint8)
    return blended


def cut_out(image: ImageArray, box: Box, *, around: float, side_px: int) -> ImageArray:
    """A square view of `side_px` of the surroundings of `box`, which is framed in red.

    `around` is how many times the box's longer side the view shows; it is moved to lie inside of the picture.
    """
    height_px, width_px = image.shape[:2]
    left, top, wide, high = (value * side for value, side in zip(box, (width_px, height_px) * 2, strict=True))
    view_px = min(max(8, round(around * max(wide, high))), height_px, width_px)
    x = round(min(max(left + wide / 2 - view_px / 2, 0), width_px - view_px))
    y = round(min(max(top + high / 2 - view_px / 2, 0), height_px - view_px))
    part = image[y : y + view_px, x : x + view_px]
    scale = side_px / view_px
    view = np.asarray(cv2.resize(part, (side_px, side_px), interpolation=cv2.INTER_CUBIC), np.uint8)
    corners = [
        (round((left - x + right) * scale), round((top - y + down) * scale)) for right, down in ((0, 0), (wide, high))
    ]
    cv2.rectangle(view, corners[0], corners[1], FRAME_RGB, 2)
    return view


def shrink(image: ImageArray, max_side_px: int) -> ImageArray:
    """Make a picture smaller so that its longer side is at most `max_side_px`; smaller ones come back as they are."""
    height_px, width_px = image.shape[:2]
    factor = max_side_px / max(height_px, width_px)
    if factor >= 1.0:
        return image
    size = (max(1, round(width_px * factor)), max(1, round(height_px * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode_png(image: ImageArray) -> bytes:
    """The bytes of a PNG file; loses nothing."""
    return _encode(".png", image, [])


def encode_jpeg(image: ImageArray, quality: int = 90) -> bytes:
    """The bytes of a JPEG file, for people; never scored."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(suffix: str, image: ImageArray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ImageError(f"a picture of shape {image.shape} cannot be written as {suffix}")
    return bytes(data)
