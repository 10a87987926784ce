"""Pictures for the pages: read from the data folder, made small, drawn upon; numpy and OpenCV by `inspector.images`.

Paths come from the database and count from the data folder; nothing outside of it is ever opened.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import streamlit as st

from inspector.errors import ImageError
from inspector.images import FRAME_RGB, cut_out, decode_image, encode_jpeg, read_image, shrink
from inspector.types import Box, ImageArray

BOX_RGB = FRAME_RGB
PATCH_VIEW = 4.0
"""How many patches wide the view around a patch is."""


def view(data_path: Path, path: str | None, max_side_px: int, quality: int = 85) -> bytes | None:
    """A kept picture as a JPEG of at most `max_side_px`; None if it was not kept or has been tidied away."""
    if not path:
        return None
    file = (data_path / path).resolve()
    if not file.is_relative_to(data_path.resolve()):
        return None
    try:
        return _jpeg(str(file), max_side_px, quality)
    except ImageError:  # tidied away, or not written yet: the page says that there is no picture
        return None


def patch(data_path: Path, path: str, box: Box, side_px: int) -> bytes | None:
    """A patch of a kept picture with its surroundings, as a JPEG; None if the picture is not there."""
    file = (data_path / path).resolve()
    if not file.is_relative_to(data_path.resolve()):
        return None
    try:
        return encode_jpeg(cut_out(_read(str(file)), box, around=PATCH_VIEW, side_px=side_px), 90)
    except ImageError:  # tidied away
        return None


def data_uri(jpeg: bytes) -> str:
    """A JPEG as an address that needs no second request."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


@st.cache_data(max_entries=32, show_spinner=False)
def _read(file: str) -> ImageArray:
    return read_image(Path(file))


@st.cache_data(max_entries=400, show_spinner=False)
def _jpeg(file: str, max_side_px: int, quality: int) -> bytes:
    return encode_jpeg(shrink(read_image(Path(file)), max_side_px), quality)


def with_boxes(jpeg: bytes, boxes_px: Sequence[tuple[int, int, int, int]], camera_size_px: tuple[int, int]) -> bytes:
    """Draw regions (x, y, width, height in pixels of a camera picture of `camera_size_px`) with their numbers."""
    image = decode_image(jpeg).copy()
    height_px, width_px = image.shape[:2]
    scale_x, scale_y = width_px / camera_size_px[0], height_px / camera_size_px[1]
    line_px = max(2, round(max(image.shape[:2]) / 320))
    for number, (x, y, width, height) in enumerate(boxes_px, 1):
        corner = (round(x * scale_x), round(y * scale_y))
        end = (round((x + width) * scale_x), round((y + height) * scale_y))
        cv2.rectangle(image, corner, end, (255, 255, 255), line_px + 2)
        cv2.rectangle(image, corner, end, BOX_RGB, line_px)
        _number(image, number, corner, line_px)
    return encode_jpeg(image, 90)


def _number(image: ImageArray, number: int, corner: tuple[int, int], line_px: int) -> None:
    """A small tag above the corner, or inside where there is no room."""
    scale, text = 0.25 * line_px + 0.1, str(number)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, line_px - 1))
    left, bottom = corner[0], max(corner[1], height + 8)
    cv2.rectangle(image, (left, bottom - height - 8), (left + width + 8, bottom), BOX_RGB, -1)
    place = (left + 4, bottom - 4)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), max(1, line_px - 1), cv2.LINE_AA)
