"""The golden picture of a bank: its score is stored, and must come out again on the line.

A driver, a library, another precision or batch size that moves the numbers moves every verdict with them. The picture is
drawn from the first reference so that each branch has something to say of it: turned upside down, with a dark square. Where
parts are aligned it must be found: then it stays upright, and a piece of it stands where the square would.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import cv2
import numpy as np

from inspector.errors import EncoderMismatchError
from inspector.images import shrink
from inspector.types import ImageArray, Inspection

MAX_SIDE_PX = 1024
SQUARE_FRACTION = 8
DARK = 30
TOLERANCES = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 1e-2}
"""Relative difference of the score that rounding may cause, by precision; batches of other sizes sum in another order."""


@dataclass(frozen=True, eq=False)
class Golden:
    """A picture, and what it scored when the bank was built: `score`, and `peak` of its raw map."""

    image: ImageArray
    score: float
    peak: float


def golden_picture(reference: ImageArray, *, upright: bool = False) -> ImageArray:
    """The picture for a bank whose first reference is this one; its longer side has at most 1,024 px."""
    small = shrink(reference, MAX_SIDE_PX)
    height_px, width_px = small.shape[:2]
    half_y, half_x = max(1, height_px // (2 * SQUARE_FRACTION)), max(1, width_px // (2 * SQUARE_FRACTION))
    middle = (width_px // 2, height_px // 2)
    if upright:
        moved = small.copy()
        rows, columns = (slice(at - half, at + half) for at, half in zip(middle[::-1], (half_y, half_x), strict=True))
        moved[rows, columns] = small[height_px // 4 :, width_px // 4 :][: 2 * half_y, : 2 * half_x]
        return moved
    picture = np.ascontiguousarray(small[::-1, ::-1])
    cv2.rectangle(
        picture,
        (middle[0] - half_x, middle[1] - half_y),
        (middle[0] + half_x, middle[1] + half_y),
        (DARK, DARK, DARK),
        cv2.FILLED,
    )
    return picture


def check_golden(
    inspect: Callable[[Sequence[ImageArray]], list[Inspection]], golden: Golden, precision: str, batch: int
) -> None:
    """Score the golden picture alone and in a batch of `batch`; both must give what the build gave.

    Raises:
        EncoderMismatchError: a score or the map's peak is not finite, or differs by more than the tolerance.
    """
    tolerance = TOLERANCES[precision]
    for size in sorted({1, batch}):
        for found in inspect([golden.image] * size):
            pairs = ((found.score, golden.score), (float(found.anomaly_map.max()), golden.peak))
            for now, wanted in pairs:
                if not isfinite(now) or abs(now - wanted) > tolerance * abs(wanted):
                    raise EncoderMismatchError(
                        f"the golden picture scores {now:.5f} in a batch of {size}, but {wanted:.5f} when the bank was "
                        f"built (tolerance {tolerance:g}): driver, library or precision have changed since; build the "
                        "product again from its references"
                    )
