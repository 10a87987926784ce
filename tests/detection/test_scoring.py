"""Maps as two matrices are the maps of enlarging and smoothing one after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as fn

from inspector.detection.scoring import PatchScores, top


def plainly(patches: torch.Tensor, grid: tuple[int, int], size: int, blurs: int) -> torch.Tensor:
    """Bilinear, then a 5×5 Gaussian of σ = 4 with zero padding, in two dimensions."""
    maps = fn.interpolate(patches.reshape(-1, 1, *grid), size=(size, size), mode="bilinear", align_corners=False)
    axis = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / 32)
    kernel = torch.outer(axis, axis)
    for _ in range(blurs):
        maps = fn.conv2d(maps, (kernel / kernel.sum()).view(1, 1, 5, 5), padding=2)
    return maps[:, 0]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(9, 40), st.integers(1, 3))
def test_maps_are_enlarged_and_smoothed_as_one_would_by_hand(gh: int, gw: int, size: int, batch: int) -> None:
    patches = torch.randn(batch, gh * gw, generator=torch.Generator().manual_seed(gh * 100 + gw))
    found = PatchScores([patches], ((gh, gw),), (size, size))
    torch.testing.assert_close(found.map, plainly(patches, (gh, gw), size, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.smooth_map, plainly(patches, (gh, gw), size, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("grids", [((4, 4), (4, 4)), ((4, 4), (2, 2))])
def test_taps_are_meaned_whether_or_not_they_share_a_grid(grids: tuple[tuple[int, int], ...]) -> None:
    taps = [torch.rand(2, gh * gw) for gh, gw in grids]
    wanted = torch.stack([plainly(t, grid, 16, 1) for t, grid in zip(taps, grids, strict=True)]).mean(dim=0)
    torch.testing.assert_close(PatchScores(taps, grids, (16, 16)).map, wanted, atol=1e-5, rtol=0)


def test_top_is_the_mean_of_the_largest_hundredth() -> None:
    maps = torch.arange(400.0).reshape(1, 20, 20)
    assert top(maps).item() == pytest.approx((396 + 397 + 398 + 399) / 4)
    assert top(torch.tensor([[[3.0, 1.0]]])).item() == 3.0
