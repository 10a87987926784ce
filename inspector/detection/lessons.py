"""What a person taught about one product: a defect to look out for, or a mark to tolerate.

A lesson is a direction in residual space at each tap: the mean direction of the residuals in the region that was marked. A
patch whose residual points the same way gets a longer residual (a defect) or a shorter one (a tolerated mark, in its own
region only). The change is a factor on the residual's length, and patches whose residual is as short as those around the
mark are left alone, so that normal patches stay quiet. Nothing is trained. torch only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as fn

from inspector.errors import BankError
from inspector.types import Box, ImageArray

MIN_COSINE, FULL_COSINE = 0.2, 0.7
"""Residuals less alike than the first are of something else; from there the factor grows linearly to its full."""
DEFECT_GAIN = 1.0
"""A residual just like a taught defect counts twice."""
FLOOR_QUANTILE = 0.9
"""Residuals that are shorter than nine tenths of those around the mark are left alone."""
MARGIN_PATCHES = 1.5
"""A tolerated mark may lie so many patches beside where it was marked."""
EPS = 1e-6


class Subject(StrEnum):
    """What a lesson is about."""

    DEFECT = "defect"
    TOLERATED = "tolerated"


@dataclass(frozen=True, eq=False)
class Marked:
    """A picture with the region that was marked in it; `label` tells where the lesson comes from."""

    label: int
    subject: Subject
    image: ImageArray
    region: Box


@dataclass(frozen=True, eq=False)
class Lesson:
    """What was learned from one mark: for each tap a unit direction `[D_l]` and the length below which it says nothing."""

    label: int
    subject: Subject
    region: Box
    directions: tuple[Tensor, ...]
    floors: tuple[float, ...]


def learn(
    label: int, subject: Subject, region: Box, residuals: Sequence[Tensor], grids: Sequence[tuple[int, int]]
) -> Lesson:
    """A lesson from one picture's residuals, `[N_l, D_l]` per tap.

    Raises:
        BankError: nothing in the region differs from the references, so there is no direction to learn.
    """
    directions, floors = [], []
    for rows, grid in zip(residuals, grids, strict=True):
        inside = region_patches(region, grid, rows.device)
        lengths = rows.norm(dim=-1)
        strong = inside & (lengths >= lengths[inside].median())
        mean = rows[strong].mean(dim=0)
        if float(mean.norm()) < EPS:
            raise BankError(f"label {label}: nothing in the marked region differs from the references; mark it anew")
        directions.append(fn.normalize(mean, dim=0))
        around = lengths[~inside]
        floors.append(float(torch.quantile(around, FLOOR_QUANTILE)) if len(around) else 0.0)
    return Lesson(label, subject, region, tuple(directions), tuple(floors))


def gains(lessons: Sequence[Lesson], residuals: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Factors on the residuals' lengths, `[B, N_l]` per tap, of residuals `[B, N_l, D_l]`."""
    found = []
    for tap, (rows, grid) in enumerate(zip(residuals, grids, strict=True)):
        lengths = rows.norm(dim=-1)
        factor = torch.ones_like(lengths)
        for lesson in lessons:
            cosine = (rows @ lesson.directions[tap].to(rows)) / lengths.clamp_min(EPS)
            alike = ((cosine - MIN_COSINE) / (FULL_COSINE - MIN_COSINE)).clamp(0.0, 1.0) * (
                lengths > lesson.floors[tap]
            )
            if lesson.subject is Subject.DEFECT:
                factor = factor * (1.0 + DEFECT_GAIN * alike)
            else:
                factor = factor * (1.0 - alike * region_patches(lesson.region, grid, rows.device, MARGIN_PATCHES))
        found.append(factor)
    return found


def region_patches(region: Box, grid: tuple[int, int], device: torch.device, margin: float = 0.0) -> Tensor:
    """Which patches of a grid a region covers at least half of, and `margin` patches around it: bool `[N]`.

    A region smaller than a patch covers the one that its middle lies in.
    """
    gh, gw = grid
    left, top, width, height = region
    y = (torch.arange(gh, device=device) + 0.5) / gh
    x = (torch.arange(gw, device=device) + 0.5) / gw
    rows = (y >= top - margin / gh) & (y <= top + height + margin / gh)
    columns = (x >= left - margin / gw) & (x <= left + width + margin / gw)
    rows[min(gh - 1, int((top + height / 2) * gh))] = True
    columns[min(gw - 1, int((left + width / 2) * gw))] = True
    return (rows[:, None] & columns[None, :]).flatten()
