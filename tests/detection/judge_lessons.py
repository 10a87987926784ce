"""A second, slow writing of lessons in float64 and plain loops, to judge the fast one by. It shares no code with it.

Residuals are `[N, D]` arrays per tap; all numbers are written out here again.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Grid = tuple[int, int]
Region = tuple[float, float, float, float]


@dataclass
class JudgedLesson:
    is_defect: bool
    region: Region
    directions: list[Array]
    floors: list[float]
    full: float


def covered(region: Region, grid: Grid, margin: float = 0.0) -> list[int]:
    """Patches whose middle lies in the region, and the one that the region's middle lies in."""
    left, top, width, height = region
    rows = {min(grid[0] - 1, int((top + height / 2) * grid[0]))}
    columns = {min(grid[1] - 1, int((left + width / 2) * grid[1]))}
    for i in range(grid[0]):
        if top - margin / grid[0] <= (i + 0.5) / grid[0] <= top + height + margin / grid[0]:
            rows.add(i)
    for j in range(grid[1]):
        if left - margin / grid[1] <= (j + 0.5) / grid[1] <= left + width + margin / grid[1]:
            columns.add(j)
    return [i * grid[1] + j for i in sorted(rows) for j in sorted(columns)]


def length(row: Array) -> float:
    return math.sqrt(float(sum(value * value for value in row)))


def lower_median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def longer_half(rows: Array, inside: list[int]) -> list[int]:
    middle = lower_median([length(rows[place]) for place in inside])
    return [place for place in inside if length(rows[place]) >= middle]


def side_by_side(taps: list[Array], grids: list[Grid]) -> Array:
    """All taps at each place of the finest grid: `[N, ΣD]`."""
    high, wide = max(grids)
    out = []
    for i in range(high):
        for j in range(wide):
            parts = []
            for rows, (gh, gw) in zip(taps, grids, strict=True):
                parts += list(rows[(i * gh // high) * gw + (j * gw // wide)])
            out.append(parts)
    return np.array(out)


def learned(is_defect: bool, region: Region, taps: list[Array], normal: list[Array], grids: list[Grid]) -> JudgedLesson:
    if not is_defect:
        directions, floors = [], []
        for rows, grid in zip(taps, grids, strict=True):
            inside = covered(region, grid)
            mean = np.mean([rows[place] for place in longer_half(rows, inside)], axis=0)
            directions.append(mean / length(mean))
            around = sorted(length(rows[place]) for place in range(len(rows)) if place not in inside)
            at = 0.9 * (len(around) - 1)
            low = math.floor(at)
            high = min(low + 1, len(around) - 1)
            floors.append(around[low] + (at - low) * (around[high] - around[low]))
        return JudgedLesson(False, region, directions, floors, 0.0)
    finest = max(grids)
    rows = side_by_side(taps, grids)
    strong = longer_half(rows, covered(region, finest))
    mean = np.mean([rows[place] for place in strong], axis=0)
    near = covered(region, finest, 1.5)
    quiet = [rows[place] for place in range(len(rows)) if place not in near]
    for reference in range(len(normal[0])):
        quiet += list(side_by_side([tap[reference] for tap in normal], grids))
    moments = np.zeros((len(mean), len(mean)))
    for row in quiet:
        moments += np.outer(row, row) / len(quiet)
    usual = np.trace(moments) / len(mean)
    moments = 0.9 * moments + (0.1 * usual + 1e-12) * np.eye(len(mean))
    direction = np.linalg.inv(moments) @ mean
    direction /= length(direction)
    floor = max(0.0, *(float(row @ direction) for row in quiet))
    full = lower_median([float(rows[place] @ direction) for place in strong])
    starts = np.cumsum([0, *(tap.shape[-1] for tap in taps)])
    directions = [direction[starts[tap] : starts[tap + 1]] for tap in range(len(taps))]
    return JudgedLesson(True, region, directions, [floor], full)


def ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def factors(lessons: list[JudgedLesson], taps: list[Array], grids: list[Grid]) -> list[list[float]]:
    """For each tap the factor of each patch."""
    high, wide = max(grids)
    rows = side_by_side(taps, grids)
    alike = [0.0] * (high * wide)
    for lesson in lessons:
        if lesson.is_defect and lesson.full > lesson.floors[0]:
            direction = np.concatenate(lesson.directions)
            for place in range(high * wide):
                alike[place] = max(alike[place], ramp(float(rows[place] @ direction), lesson.floors[0], lesson.full))
    found = []
    for tap, (own, (gh, gw)) in enumerate(zip(taps, grids, strict=True)):
        values = []
        for i in range(gh):
            for j in range(gw):
                places = [
                    y * wide + x
                    for y in range(i * high // gh, -(-(i + 1) * high // gh))
                    for x in range(j * wide // gw, -(-(j + 1) * wide // gw))
                ]
                factor = 1.0 + sum(alike[place] for place in places) / len(places)
                row, patch, tolerated = own[i * gw + j], i * gw + j, 0.0
                for lesson in lessons:
                    if not lesson.is_defect and patch in covered(lesson.region, (gh, gw), 1.5):
                        cosine = float(row @ lesson.directions[tap]) / length(row)
                        if length(row) > lesson.floors[tap]:
                            tolerated = max(tolerated, ramp(cosine, 0.2, 0.7))
                values.append(factor * (1.0 - tolerated))
        found.append(values)
    return found
