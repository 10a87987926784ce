"""How the references of a product look to each other: each was scored against all others, and one may stand out.

A defect is a few places that no other reference explains, on a picture that else fits. So each picture's map is compared
with what the others show at that place, raised by how much the whole picture differs: a part that lies or is lit a little
otherwise is raised everywhere, a defect in one place. And a defect may hide what belongs there: places that the others
show and this picture shows nowhere. Each of the three measures alone finds fewer defects than all together (README,
"References, labels and the gate"). numpy and OpenCV only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float64]

CELLS = 32
"""Maps are compared on a grid of so many cells a side: a patch of the embedded encoder, and the smallest defect it finds."""
EXPECTED_SHARE = 0.7
"""So much of what the others show at a place is expected of a picture there; of 0 to 1 it separated planted defects best."""
PEAK_CELLS = 3
BACKGROUND_QUANTILE = 0.9
"""A picture's own background, which its peak is held against: a picture that is odd in many places has a high one."""
HIGH_QUANTILE = 0.99
LEAST_LEVEL = 1e-3
PRIOR_SPREAD, PRIOR_WEIGHT = 0.1, 8
"""Logarithms of levels of good pictures spread by about a tenth; that counts like eight pictures."""
LEVEL_WEIGHT, CONTRAST_WEIGHT, GAP_WEIGHT = 0.4, 0.4, 0.2


@dataclass(frozen=True)
class Mutual:
    """How one reference scored against all others.

    `score` is its image score, `coverage` the share of its map above the usual level, `level` the mean of the map's highest
    places, `contrast` how far the places that the others do not explain rise above the picture's own background, and `gap`
    the level of the places that the others show and it does not.
    """

    score: float
    coverage: float
    level: float
    contrast: float
    gap: float


def mutual(scores: Sequence[float], maps: Maps, gaps: Maps) -> tuple[Mutual, ...]:
    """Of image scores, anomaly maps and gaps of references; K > 1, else nothing.

    `maps` `[K, S, S]` are of each scored against all others; `gaps` `[K, S, S]` are what the others usually (median) score
    against each alone, at their places.
    """
    if len(maps) < 2:
        return ()
    usual = float(np.median(np.quantile(maps.reshape(len(maps), -1), HIGH_QUANTILE, axis=1)))
    cells = _cells(maps)
    rows = zip(scores, maps, _top(cells), _contrasts(cells), _top(_excess(_cells(gaps))), strict=True)
    return tuple(
        Mutual(float(score), float((one > usual).mean()), float(level), float(contrast), float(gap))
        for score, one, level, contrast, gap in rows
    )


def _contrasts(cells: Maps) -> Levels:
    """Highest level of each map `[K, CELLS, CELLS]` above what the others let expect, less its own background: `[K]`."""
    excess = _excess(cells)
    background = np.quantile(excess.reshape(len(excess), -1), BACKGROUND_QUANTILE, axis=1)
    return _top(excess) - background


def strengths(found: Sequence[Mutual]) -> list[float]:
    """How far each reference stands out: the weighted mean over level, contrast and gap of `_spreads_above`."""
    each = (
        LEVEL_WEIGHT * _spreads_above([one.level for one in found]),
        CONTRAST_WEIGHT * _spreads_above([one.contrast for one in found]),
        GAP_WEIGHT * _spreads_above([one.gap for one in found]),
    )
    return [float(value) for value in np.sum(each, axis=0)]


def _spreads_above(values: Sequence[float]) -> Levels:
    """How far each value lies above the median of the others, in spreads of the others; in logarithms.

    The spread σ of the n others is shrunk toward the prior: σ² = (w·σ₀² + (n − 1)·s²) / (w + n − 1).
    """
    logs = np.log(np.maximum(values, LEAST_LEVEL))
    told = np.empty(len(logs))
    for index, value in enumerate(logs):
        others = np.delete(logs, index)
        free = len(others) - 1
        variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + free * others.var(ddof=1)) / (PRIOR_WEIGHT + free)
        told[index] = (value - np.median(others)) / np.sqrt(variance)
    return told


def _cells(maps: Maps) -> Maps:
    return np.stack([cv2.resize(one, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for one in maps]).clip(0.0)


def _excess(cells: Maps) -> Maps:
    """What each map `[K, CELLS, CELLS]` shows more than expected: m − share · g · o, same shape.

    o is the mean of the others' maps around a cell, and g the median of m / o: how much all of a picture differs.
    """
    near = np.stack([cv2.blur(one, (3, 3), borderType=cv2.BORDER_REPLICATE) for one in cells])  # a neighbour counts too
    others = (near.sum(axis=0) - near) / (len(cells) - 1)
    gain = np.median((cells / (others + LEAST_LEVEL)).reshape(len(cells), -1), axis=1)
    return np.asarray(cells - EXPECTED_SHARE * gain[:, None, None] * others, np.float32)


def _top(cells: Maps) -> Levels:
    """Mean of the highest cells of each map: `[K]`."""
    return np.asarray(np.sort(cells.reshape(len(cells), -1), axis=1)[:, -PEAK_CELLS:].mean(axis=1), np.float64)
