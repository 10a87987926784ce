"""Regions of interest: where a product is inspected, and how strictly in each place. Pure functions on anomaly maps.

Each region's score is the mean of the largest hundredth of its map, divided by what normal parts usually show there and
times its sensitivity; the part's score is the largest of them. So one threshold, calibrated on that one number, is a
threshold for each region, and what it promises of false rejects holds for the part as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inspector.detection.scoring import TOP_FRACTION
from inspector.errors import CalibrationError
from inspector.types import Roi

WHOLE = Roi("picture", (0.0, 0.0, 1.0, 1.0))
"""What is inspected where only regions to leave out are given."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The regions on a map `[H, W]`: `inspected` ones, each with the pixels `[n]` that are neither outside nor left out."""

    inspected: tuple[Roi, ...]
    pixels: tuple[Tensor, ...]
    inside: npt.NDArray[np.bool_]
    """`[H, W]`: what is inspected at all."""

    @classmethod
    def of(cls, rois: Sequence[Roi], size_hw: tuple[int, int], device: torch.device) -> "Layout | None":
        """None without regions: the whole picture is inspected, by its own score.

        Raises:
            CalibrationError: a region has no pixel that is not left out.
        """
        if not rois:
            return None
        left_out = np.zeros(size_hw, bool)
        for roi in rois:
            if not roi.inspected:
                left_out[_slices(roi, size_hw)] = True
        inspected = tuple(roi for roi in rois if roi.inspected) or (WHOLE,)
        pixels, inside = [], np.zeros(size_hw, bool)
        for roi in inspected:
            mask = np.zeros(size_hw, bool)
            mask[_slices(roi, size_hw)] = True
            mask &= ~left_out
            if not mask.any():
                raise CalibrationError(f"the region {roi.name!r} lies wholly in regions that are left out")
            inside |= mask
            pixels.append(torch.from_numpy(np.flatnonzero(mask)).to(device))
        return cls(inspected, tuple(pixels), inside)

    def raw(self, maps: Tensor) -> Tensor:
        """Score of each region before it is compared with what is usual: `[B, H, W]` -> `[B, R]`."""
        flat = maps.flatten(1)
        scores = []
        for pixels in self.pixels:
            count = max(1, int(len(pixels) * TOP_FRACTION))
            scores.append(flat[:, pixels].topk(count, dim=1, sorted=False).values.mean(dim=1))
        return torch.stack(scores, dim=1)

    def scaled(self, maps: Tensor, scales: Sequence[float]) -> Tensor:
        """Score of each region as a multiple of what is usual there, times its sensitivity: `[B, R]`."""
        factors = [roi.sensitivity / scale for roi, scale in zip(self.inspected, scales, strict=True)]
        return self.raw(maps) * torch.tensor(factors, dtype=maps.dtype, device=maps.device)

    def usual(self, maps: Sequence[Tensor]) -> tuple[float, ...]:
        """What normal maps usually show in each region: the median over all of them.

        Raises:
            CalibrationError: nothing at all, so that nothing could be compared with it.
        """
        medians = torch.cat([self.raw(part) for part in maps]).median(dim=0).values.tolist()
        for roi, median in zip(self.inspected, medians, strict=True):
            if not median > 0.0:
                raise CalibrationError(
                    f"in the region {roi.name!r} the references do not differ at all; make it larger"
                )
        return tuple(medians)


def _slices(roi: Roi, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a region, at least one pixel each."""
    left, top, width, height = roi.box

    def span(start: float, length: float, size_px: int) -> slice:
        first = min(int(start * size_px), size_px - 1)
        return slice(first, max(first + 1, round((start + length) * size_px)))

    return span(top, height, size_hw[0]), span(left, width, size_hw[1])
