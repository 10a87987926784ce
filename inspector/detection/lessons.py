"""What a person taught about one product: a defect to look out for, or a mark to tolerate.

A patch that looks like a taught defect gets longer residuals (wherever it lies), one that looks like a tolerated mark
shorter ones (in the mark's own region only): a factor on their lengths. Nothing is trained. torch only.

A **tolerated mark** is the mean direction of the marked residuals at each tap; residuals count by their cosine with it.

A **defect** is one matched filter over the residuals of all taps at a place: Σ⁻¹μ, μ the mean of the marked ones and Σ the
second moments of normal ones, those of each reference against the others and those away from the mark (Fisher 1936; as a
detector of known targets in clutter: Robey and others 1992). Most of μ is what every patch looks like that is hard to
match: without Σ, or tap by tap, a lesson lengthens the worst patches of all good parts (`inspector bench teaching`).
Normal patches stay quiet: a lesson says nothing up to the highest value that any of them gave, and lessons never add up.
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
"""Tolerated marks: residuals less alike than the first are of something else, those from the second on are the mark."""
DEFECT_GAIN = 1.0
"""A residual just like a taught defect counts twice."""
FLOOR_QUANTILE = 0.9
"""Tolerated marks: residuals that are shorter than nine tenths of those around the mark are left alone."""
MARGIN_PATCHES = 1.5
"""A tolerated mark may lie so many patches beside where it was marked; so near to a defect nothing counts as normal."""
SHRINKAGE = 0.1
"""So much of Σ is a multiple of the identity: some thousand patches do not tell all of its directions well."""
EPS = 1e-6

Grid = tuple[int, int]


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
    """What was learned from one mark: a direction `[D_l]` for each tap, and where it begins to count.

    Defect: all taps together are a unit vector; it says nothing up to the projection `floors[0]`, and counts fully from
    `fulls[0]` on. Tolerated: each tap is a unit vector, `floors` are the lengths below which it says nothing, and there
    are no `fulls`.
    """

    label: int
    subject: Subject
    region: Box
    directions: tuple[Tensor, ...]
    floors: tuple[float, ...]
    fulls: tuple[float, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether it changes nothing: some normal patch is as much like the defect as the marked ones are."""
        return self.subject is Subject.DEFECT and self.fulls[0] <= self.floors[0]


def learn(marked: Marked, residuals: Sequence[Tensor], normal: Sequence[Tensor], grids: Sequence[Grid]) -> Lesson:
    """A lesson from one picture's residuals, `[N_l, D_l]` per tap; `normal` are those of the references, `[K, N_l, D_l]`.

    Raises:
        BankError: nothing in the region differs from the references, so there is no direction to learn.
    """
    if marked.subject is Subject.TOLERATED:
        return _tolerated(marked, residuals, grids)
    finest = max(grids)
    rows = _at_each_place([tap[None] for tap in residuals], grids)[0]  # [N, ΣD]
    inside = region_patches(marked.region, finest, rows.device)
    mean = _marked_mean(marked, rows, inside)
    clear = rows[~region_patches(marked.region, finest, rows.device, MARGIN_PATCHES)]
    quiet = [*_at_each_place(normal, grids).unbind(), clear]
    direction = _matched_filter(mean, quiet)
    floor = max(float((part @ direction).max()) for part in quiet if len(part))
    lengths = rows.norm(dim=-1)
    full = float((rows[inside & (lengths >= lengths[inside].median())] @ direction).median())
    directions = tuple(torch.split(direction, [tap.shape[-1] for tap in residuals]))
    return Lesson(marked.label, marked.subject, marked.region, directions, (max(floor, 0.0),), (full,))


def _tolerated(marked: Marked, residuals: Sequence[Tensor], grids: Sequence[Grid]) -> Lesson:
    directions, floors = [], []
    for rows, grid in zip(residuals, grids, strict=True):
        inside = region_patches(marked.region, grid, rows.device)
        directions.append(fn.normalize(_marked_mean(marked, rows, inside), dim=0))
        around = rows[~inside].norm(dim=-1)
        floors.append(float(torch.quantile(around, FLOOR_QUANTILE)) if len(around) else 0.0)
    return Lesson(marked.label, marked.subject, marked.region, tuple(directions), tuple(floors))


def gains(lessons: Sequence[Lesson], residuals: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    """Factors on the residuals' lengths, `[B, N_l]` per tap, of residuals `[B, N_l, D_l]`.

    Of several taught defects the one that a place is most alike counts; of several tolerated marks too.
    """
    defects = [lesson for lesson in lessons if lesson.subject is Subject.DEFECT and not lesson.is_silent]
    marks = [lesson for lesson in lessons if lesson.subject is Subject.TOLERATED]
    finest = max(grids)
    alike = residuals[0].new_zeros(len(residuals[0]), finest[0] * finest[1])
    for lesson in defects:
        along = [
            _enlarged((rows @ w.to(rows))[..., None], grid, finest)[..., 0]
            for rows, w, grid in zip(residuals, lesson.directions, grids, strict=True)
        ]
        (floor,), (full,) = lesson.floors, lesson.fulls
        alike = torch.maximum(alike, ((torch.stack(along).sum(dim=0) - floor) / (full - floor)).clamp(0.0, 1.0))
    found = []
    for tap, (rows, grid) in enumerate(zip(residuals, grids, strict=True)):
        raised = fn.adaptive_avg_pool2d(alike.reshape(-1, 1, *finest), grid).flatten(1)  # [B, N_l]
        kept = torch.ones_like(raised)
        for lesson in marks:
            place = region_patches(lesson.region, grid, rows.device, MARGIN_PATCHES)
            kept = torch.minimum(kept, 1.0 - _alike_mark(lesson, tap, rows) * place)
        found.append((1.0 + DEFECT_GAIN * raised) * kept)
    return found


def _marked_mean(marked: Marked, rows: Tensor, inside: Tensor) -> Tensor:
    """Mean of the longer half of the marked residuals, of rows `[N, D]`."""
    lengths = rows.norm(dim=-1)
    mean = rows[inside & (lengths >= lengths[inside].median())].mean(dim=0)
    if float(mean.norm()) < EPS:
        raise BankError(f"label {marked.label}: nothing in the marked region differs from the references; mark it anew")
    return mean


def _matched_filter(mean: Tensor, normal: Sequence[Tensor]) -> Tensor:
    """Unit direction along Σ⁻¹μ, Σ from normal rows `[·, D]` and shrunk toward a multiple of the identity."""
    width = len(mean)
    moments = torch.zeros(width, width, dtype=torch.float64, device=mean.device)
    for part in normal:
        moments += part.double().T @ part.double()
    moments /= max(1, sum(len(part) for part in normal))
    usual = float(moments.trace()) / width
    moments = (1.0 - SHRINKAGE) * moments + (SHRINKAGE * usual + EPS**2) * torch.eye(width).to(moments)
    solved: Tensor = torch.linalg.solve(moments, mean.double())
    return fn.normalize(solved, dim=0).to(mean)


def _alike_mark(lesson: Lesson, tap: int, rows: Tensor) -> Tensor:
    """How much rows `[B, N, D]` look like a tolerated mark, 0..1: `[B, N]`."""
    lengths = rows.norm(dim=-1)
    cosine = (rows @ lesson.directions[tap].to(rows)) / lengths.clamp_min(EPS)
    look: Tensor = ((cosine - MIN_COSINE) / (FULL_COSINE - MIN_COSINE)).clamp(0.0, 1.0)
    return look.masked_fill(lengths <= lesson.floors[tap], 0.0)


def _at_each_place(taps: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
    """Residuals `[B, N_l, D_l]` of all taps side by side on the finest grid: `[B, N, ΣD]`."""
    finest = max(grids)
    return torch.cat([_enlarged(rows, grid, finest) for rows, grid in zip(taps, grids, strict=True)], dim=-1)


def _enlarged(rows: Tensor, grid: Grid, finest: Grid) -> Tensor:
    """`[B, N_l, D]` to `[B, N, D]`: each place gets what the patch shows that it lies in."""
    if grid == finest:
        return rows
    plane = rows.transpose(1, 2).reshape(len(rows), -1, *grid)  # [B, D, gh, gw]
    enlarged: Tensor = fn.interpolate(plane, size=finest, mode="nearest")
    return enlarged.flatten(2).transpose(1, 2)


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
