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


def variations(image: ImageArray, count: int, seed: int, strength: float = 1.0) -> list[ImageArray]:
    """Copies that are turned, shifted, lit and noisy a little, as a good part at the same station would be.

    `strength` multiplies all of it.

    The same `seed` gives the same copies, so that a build can be repeated.
    """
    rng = np.random.default_rng(seed)
    return [_variation(image, rng, strength) for _ in range(count)]


def _variation(image: ImageArray, rng: np.random.Generator, strength: float) -> ImageArray:
    height_px, width_px = image.shape[:2]
    angle = strength * float(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
    move = np.asarray(cv2.getRotationMatrix2D((width_px / 2, height_px / 2), angle, 1.0), np.float64)  # [2, 3]
    shift = strength * rng.uniform(-MAX_SHIFT_FRACTION, MAX_SHIFT_FRACTION, 2)
    move[:, 2] += shift * np.array([width_px, height_px])
    moved = np.asarray(cv2.warpAffine(image, move, (width_px, height_px), borderMode=cv2.BORDER_REFLECT), np.float32)
    gain = 1.0 + strength * float(rng.uniform(-MAX_GAIN_FRACTION, MAX_GAIN_FRACTION))
    lit = moved * gain + rng.normal(0.0, strength * NOISE_SIGMA, image.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
