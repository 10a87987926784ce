"""Mild copies of references, for products with so few of them that they say nothing about spread.

numpy and OpenCV only.
"""

import cv2
import numpy as np

from inspector.types import ImageArray

MAX_TURN_DEGREES = 2.0
MAX_SHIFT_FRACTION = 0.015
MAX_GAIN_FRACTION = 0.05
NOISE_SIGMA = 2.0
"""Of 255 grey levels."""


def variations(image: ImageArray, count: int, seed: int) -> list[ImageArray]:
    """Copies that are turned, shifted, lit and noisy a little, as a good part at the same station would be.

    The same `seed` gives the same copies, so that a build can be repeated.
    """
    rng = np.random.default_rng(seed)
    return [_variation(image, rng) for _ in range(count)]


def _variation(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    height_px, width_px = image.shape[:2]
    angle = float(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
    move = np.asarray(cv2.getRotationMatrix2D((width_px / 2, height_px / 2), angle, 1.0), np.float64)  # [2, 3]
    move[:, 2] += rng.uniform(-MAX_SHIFT_FRACTION, MAX_SHIFT_FRACTION, 2) * np.array([width_px, height_px])
    moved = np.asarray(cv2.warpAffine(image, move, (width_px, height_px), borderMode=cv2.BORDER_REFLECT), np.float32)
    gain = float(rng.uniform(1.0 - MAX_GAIN_FRACTION, 1.0 + MAX_GAIN_FRACTION))
    lit = moved * gain + rng.normal(0.0, NOISE_SIGMA, image.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
