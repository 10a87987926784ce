"""Losses of the embedded encoder: right on cases that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as fn

from inspector.training.assess import scored
from inspector.training.objectives import (
    contrast_loss,
    grid_targets,
    nearest_distance,
    on_grid,
    patch_loss,
    patches,
    picture_loss,
    ranking_loss,
    second_view,
    top_mean,
)


def unit_rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return fn.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_reference_is_at_distance_zero_from_itself() -> None:
    rows = unit_rows(2, 9, 5)
    assert nearest_distance(rows, rows).max() < 0.0101  # the root of the ε that keeps its gradient finite


def test_more_references_never_raise_the_nearest_distance() -> None:
    queries, references = unit_rows(1, 20, 6), unit_rows(1, 30, 6, seed=1)
    few, many = nearest_distance(queries, references[:, :10]), nearest_distance(queries, references)
    assert (many <= few + 1e-6).all()


def test_the_nearest_distance_has_a_gradient_on_both_sides() -> None:
    queries, references = unit_rows(1, 4, 3).requires_grad_(), unit_rows(1, 4, 3, seed=1).requires_grad_()
    nearest_distance(queries, references).sum().backward()  # type: ignore[no-untyped-call]
    for side in (queries, references):
        assert side.grad is not None
        assert side.grad.abs().sum() > 0


def test_the_distance_is_the_length_of_the_residual() -> None:
    queries, references = unit_rows(1, 7, 5), unit_rows(1, 1, 5, seed=1)
    expected = (queries - references).norm(dim=-1)
    torch.testing.assert_close(nearest_distance(queries, references), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("side", "rows"), [(3, 9), (6, 36), (12, 36)])
def test_taps_are_averaged_down_to_the_grid_and_never_enlarged(side: int, rows: int) -> None:
    found = patches(torch.rand(2, 7, side, side), 6)
    assert found.shape == (2, rows, 7)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, rows))


def test_distances_of_a_coarser_tap_come_to_the_finest_grid() -> None:
    coarse = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    larger = on_grid(coarse, 4).reshape(4, 4)
    torch.testing.assert_close(larger[:, 0], torch.zeros(4))
    torch.testing.assert_close(larger[:, 3], torch.ones(4))
    assert on_grid(coarse, 2) is coarse


def test_grid_targets_leave_the_rim_of_a_fault_undecided() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 16:32, 16:32] = True
    faulty, clean = grid_targets(mask, 8)
    assert faulty.sum() == 4
    assert not (faulty & clean).any()
    assert clean.sum() == 64 - 16


def test_a_fault_smaller_than_a_patch_still_has_a_faulty_patch() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 33:35, 33:35] = True
    faulty, _ = grid_targets(mask, 8)
    assert faulty.sum() == 1


def test_right_order_costs_less_than_wrong_order() -> None:
    low, high = torch.full((1, 2, 36), -4.0), torch.full((1, 2, 36), 4.0)
    for loss in (ranking_loss, picture_loss):
        assert loss(low, high) < 0.02
        assert loss(high, low) > 3.9
    assert ranking_loss(low + 9.0, high + 9.0) == pytest.approx(float(ranking_loss(low, high)))
    assert picture_loss(low + 9.0, high + 9.0) > 2.0
    faulty = torch.zeros(2, 36, dtype=torch.bool)
    faulty[:, :3] = True
    right = torch.where(faulty, 5.0, -5.0).unsqueeze(0)
    assert patch_loss(right, faulty, ~faulty) < 0.02 < patch_loss(-right, faulty, ~faulty)


def test_contrast_is_low_for_matching_views_and_high_for_others() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 3, 64, 64)
    view = second_view(pictures, generator)
    assert view.pictures.shape == pictures.shape
    theta = torch.eye(2, 3).expand(3, 2, 3)
    taps = torch.randn(3, 32, 16, 16)
    same = contrast_loss(taps, taps, theta, generator)
    other = contrast_loss(taps, torch.randn(3, 32, 16, 16), theta, generator)
    assert same < 0.1
    assert other > 0.8


def test_the_second_view_shows_what_its_theta_says() -> None:
    ramp = torch.linspace(-1.0, 1.0, 64).expand(1, 3, 64, 64).contiguous()
    view = second_view(ramp, torch.Generator().manual_seed(3))
    middle = view.pictures[0, :, 31:33, 31:33].mean()
    assert torch.isfinite(middle)
    assert view.theta.shape == (1, 2, 3)


def test_top_mean_is_the_mean_of_the_largest_hundredth() -> None:
    assert top_mean(torch.arange(200.0)) == pytest.approx(198.5)


def test_a_stranger_lies_farther_in_the_map_than_a_known_patch() -> None:
    references = unit_rows(3, 16, 8)
    queries = references[:1].clone()
    queries[0, 5] = unit_rows(1, 8, seed=9)[0]
    (found,) = scored([queries], [references], 64).map
    assert found.shape == (64, 64)
    row, column = divmod(int(found.argmax()), 64)
    assert (row // 16, column // 16) == (1, 1)  # patch 5 of a grid of 4×4
    assert found[-1, -1] < 0.01
