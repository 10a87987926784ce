"""How the references of a product look to each other: each was scored against all others, and one may stand out.

A defect is a few places that no other reference explains, on a picture that else fits. So each picture's map is compared
with what the others show at that place, raised by how much the whole picture differs: a part that lies or is lit a little
otherwise is raised everywhere, a defect in one place. numpy and OpenCV only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]

CELLS = 32
"""Maps are compared on a grid of so many cells a side: a patch of the embedded encoder, and the smallest defect it finds."""
EXPECTED_SHARE = 0.7
"""So much of what the others show at a place is expected of a picture there; of 0 to 1 it separated planted defects best."""
PEAK_CELLS = 3
HIGH_QUANTILE = 0.99
LEAST_LEVEL = 1e-3
PRIOR_SPREAD, PRIOR_WEIGHT = 0.1, 8
"""Logarithms of peaks of good pictures spread by about a tenth; that counts like eight pictures."""


@dataclass(frozen=True)
class Mutual:
    """How one reference scored against all others.

    `score` is its image score, `coverage` the share of its map above the usual level, `peak` the level of the places that
    the others do not explain.
    """

    score: float
    coverage: float
    peak: float


def mutual(scores: Sequence[float], maps: Maps) -> tuple[Mutual, ...]:
    """Of image scores and anomaly maps `[K, S, S]` of references, each scored against all others; K > 1, else nothing."""
    if len(maps) < 2:
        return ()
    usual = float(np.median(np.quantile(maps.reshape(len(maps), -1), HIGH_QUANTILE, axis=1)))
    return tuple(
        Mutual(float(score), float((one > usual).mean()), float(peak))
        for score, one, peak in zip(scores, maps, peaks(maps), strict=True)
    )


def peaks(maps: Maps) -> npt.NDArray[np.float64]:
    """Highest level of each map `[K, S, S]` above what the other maps let expect there: `[K]`."""
    cells = np.stack([cv2.resize(one, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for one in maps]).clip(0.0)
    near = np.stack([cv2.blur(one, (3, 3), borderType=cv2.BORDER_REPLICATE) for one in cells])  # a neighbour counts too
    others = (near.sum(axis=0) - near) / (len(maps) - 1)  # [K, CELLS, CELLS]
    gain = np.median(
        (cells / (others + LEAST_LEVEL)).reshape(len(maps), -1), axis=1
    )  # how much all of a picture differs
    excess = (cells - EXPECTED_SHARE * gain[:, None, None] * others).reshape(len(maps), -1)
    return np.asarray(np.sort(excess, axis=1)[:, -PEAK_CELLS:].mean(axis=1), np.float64)


def strengths(found: Sequence[Mutual]) -> list[float]:
    """How far each peak lies above the median of the others' peaks, in spreads of the others; in logarithms."""
    logs = np.log(np.maximum([one.peak for one in found], LEAST_LEVEL))
    told = []
    for index, value in enumerate(logs):
        others = np.delete(logs, index)
        free = len(others) - 1
        variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + free * others.var(ddof=1)) / (PRIOR_WEIGHT + free)
        told.append(float((value - np.median(others)) / np.sqrt(variance)))
    return told
