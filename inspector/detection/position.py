"""Does a part that was not accepted lie in a position that no reference shows? Then a picture like it is missing.

The part's picture is turned, mirrored and shifted, and inspected anew. A part that only lies otherwise is explained place by
place either as it is (the background) or when moved (the part); a defect is explained by neither.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspector.detection.detector import Detector
from inspector.images import shrink
from inspector.types import ImageArray, Inspection, MapArray, Verdict

Matrix = npt.NDArray[np.float64]

TURN_STEP_DEG = 30
REFINE_DEG = (15.0, 7.5)
LEAST_SHIFT = 0.03
"""A smaller shift, as a fraction of the picture, is none."""
TOP_FRACTION = 0.01
USUAL_SHARE = 0.8
"""Of the level that good parts stay below, good parts usually reach so much (0.74 to 0.87 over six products)."""
BROAD_COVERAGE = 0.03
"""So much of the picture must lie above the usual level; less is a small defect or nothing."""
EXPLAINED_SHARE = 0.7
"""So much of what lies above the usual level must vanish when the part is moved; of defects at most 0.36 did."""
SIDES = 2
"""Pictures are moved at so many times the model's side: larger costs time and shows the model nothing."""


@dataclass(frozen=True)
class Move:
    """What was done to the picture: mirrored left to right, then turned clockwise, then shifted (fractions of its sides)."""

    turn_deg: float = 0.0
    mirrored: bool = False
    shift_x: float = 0.0
    shift_y: float = 0.0

    def matrix(self, width_px: int, height_px: int) -> Matrix:
        """`[2, 3]`, from the picture to the moved picture, in pixels."""
        flip = np.diag([-1.0 if self.mirrored else 1.0, 1.0, 1.0])
        flip[0, 2] = width_px - 1.0 if self.mirrored else 0.0
        centre = ((width_px - 1) / 2.0, (height_px - 1) / 2.0)
        turned = np.asarray(cv2.getRotationMatrix2D(centre, -self.turn_deg, 1.0), np.float64)
        turned[:, 2] += (self.shift_x * width_px, self.shift_y * height_px)
        return np.asarray(turned @ flip, np.float64)

    def __str__(self) -> str:
        done = [
            *(["mirrored"] if self.mirrored else []),
            *([f"turned by {self.turn_deg:.0f}°"] if self.turn_deg else []),
            *([f"shifted by {100 * hypot(self.shift_x, self.shift_y):.0f} %"] if self.shift_x or self.shift_y else []),
        ]
        return " and ".join(done) or "as it is"


@dataclass(frozen=True)
class Position:
    """A part fits the references when it is moved; levels are of the anomaly map (mean of its highest hundredth)."""

    move: Move
    coverage: float
    before: float
    after: float

    @property
    def reason(self) -> str:
        """For people."""
        return (
            f"differs from all references in {100 * self.coverage:.0f} % of the picture, but fits {self.move}: it lies in a "
            "position that no reference shows"
        )

    def record(self) -> dict[str, Any]:
        """As it is stored and printed; `score` is the share of the difference that the move explains."""
        share = round(1.0 - self.after / self.before, 3)
        return {"kind": "position", "reason": self.reason, "score": share, "move": asdict(self.move)}


def find_position(detector: Detector, image: ImageArray, inspection: Inspection) -> Position | None:
    """How a part that was not accepted would have to lie to fit the references; None if moving it does not explain it."""
    S, usual = detector.encoder.image_size, USUAL_SHARE * detector.pixel_threshold
    if inspection.verdict not in (Verdict.NG, Verdict.UNDECIDED) or detector.bank.fixture is not None:
        return None  # an aligned part lies as the references do, or is not found
    if detector.bank.tiles is not None:
        return None  # dozens of inspections of a large picture cost more than the advice is worth
    seen, before = inspection.anomaly_map, _level(inspection.anomaly_map)
    coverage = float((seen > usual).mean())
    if coverage < BROAD_COVERAGE or before <= usual:
        return None
    small = shrink(image, SIDES * S)
    turns = [
        Move(float(turn), mirrored)
        for mirrored in (False, True)
        for turn in range(0, 360, TURN_STEP_DEG)
        if turn or mirrored
    ]
    best, after = _best(detector, small, seen, [*turns, *_shifts(detector, small)])
    for step in REFINE_DEG if not (best.shift_x or best.shift_y) else ():
        near = [Move((best.turn_deg + turn) % 360.0, best.mirrored) for turn in (-step, step)]
        other, level = _best(detector, small, seen, near)
        if level < after:
            best, after = other, level
    explained = (before - after) / (before - usual)
    return Position(best, coverage, before, after) if explained >= EXPLAINED_SHARE else None


def _best(detector: Detector, image: ImageArray, seen: MapArray, moves: Sequence[Move]) -> tuple[Move, float]:
    """The move that explains most, and the level of what it leaves."""
    height_px, width_px = image.shape[:2]
    matrices = [move.matrix(width_px, height_px) for move in moves]
    moved = [
        np.asarray(cv2.warpAffine(image, matrix, (width_px, height_px), borderMode=cv2.BORDER_REFLECT), np.uint8)
        for matrix in matrices
    ]
    levels = [
        _level(np.minimum(seen, _back(inspection.anomaly_map, matrix, (width_px, height_px))))
        for matrix, inspection in zip(matrices, detector.inspect(moved), strict=True)
    ]
    place = int(np.argmin(levels))
    return moves[place], levels[place]


def _back(moved: MapArray, matrix: Matrix, size_px: tuple[int, int]) -> MapArray:
    """The map of a moved picture of `size_px` (width, height), laid over the picture; endless where it shows none of it."""
    full = cv2.resize(moved, size_px, interpolation=cv2.INTER_LINEAR)
    there = cv2.warpAffine(
        full,
        matrix,
        size_px,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(float(np.finfo(np.float32).max),),
    )
    return np.asarray(cv2.resize(there, moved.shape[::-1], interpolation=cv2.INTER_NEAREST), np.float32)


def _shifts(detector: Detector, image: ImageArray) -> list[Move]:
    """The shift between the part and the bank's golden picture, by phase correlation."""
    if detector.bank.golden is None:
        return []
    side = detector.encoder.image_size
    one, other = (
        np.asarray(cv2.cvtColor(cv2.resize(picture, (side, side)), cv2.COLOR_RGB2GRAY), np.float32)
        for picture in (image, detector.bank.golden.image)
    )
    (x_px, y_px), _ = cv2.phaseCorrelate(one, other, cv2.createHanningWindow((side, side), cv2.CV_32F))
    move = Move(shift_x=x_px / side, shift_y=y_px / side)
    return [move] if LEAST_SHIFT <= hypot(move.shift_x, move.shift_y) <= 0.5 else []


def _level(anomaly_map: MapArray) -> float:
    """Mean of the highest hundredth of a map."""
    pixels = np.sort(anomaly_map, axis=None)
    return float(pixels[-max(1, int(TOP_FRACTION * pixels.size)) :].mean())
