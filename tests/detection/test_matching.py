"""Sparsemax, the three kinds of matching, and the radial penalty."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from inspector.detection import matching
from inspector.detection.matching import (
    Matching,
    match_weights,
    matched_residuals,
    prepared,
    radii,
    similarities,
    sparsemax,
)
from tests.detection import judge

ROWS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.floats(-3, 3, width=32),
)


def unit_rows(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def residuals(
    queries: torch.Tensor,
    bank: torch.Tensor,
    grid: tuple[int, int],
    settings_: Matching,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    return matched_residuals(queries, prepared(bank, grid, settings_, dtype))


@given(ROWS)
def test_sparsemax_gives_weights_of_sum_one(rows: np.ndarray) -> None:
    weights = sparsemax(torch.from_numpy(rows))

    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(len(rows)), atol=1e-5, rtol=0)


@given(ROWS)
def test_sparsemax_equals_the_one_that_sorts(rows: np.ndarray) -> None:
    found = sparsemax(torch.from_numpy(rows)).numpy()
    wanted = np.stack([judge.sparsemax(row.astype(np.float64)) for row in rows])

    assert np.abs(found - wanted).max() < 1e-5


@given(ROWS, st.floats(-2, 2))
def test_sparsemax_does_not_see_a_constant_that_is_added(rows: np.ndarray, constant: float) -> None:
    plain, moved = sparsemax(torch.from_numpy(rows)), sparsemax(torch.from_numpy(rows + np.float32(constant)))

    torch.testing.assert_close(plain, moved, atol=1e-5, rtol=0)


def test_sparsemax_is_exact_on_thousands_of_near_equal_scores() -> None:
    """Similarities of CLIP tokens lie close together: the support is large and Newton has far to go."""
    scores = 0.7 + 0.02 * torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = np.stack([judge.sparsemax(row.numpy()) for row in scores])

    assert np.abs(sparsemax(scores).numpy() - wanted).max() < 1e-12


@pytest.mark.parametrize("spread", [0.0, 1e-5, 1e-2])
def test_sparsemax_keeps_its_sum_in_float32_over_a_large_bank(spread: float) -> None:
    """Sums of thousands of scores near 0.9 once drowned the 1 that the weights must add up to."""
    scores = 0.9 + spread * torch.rand(3, 50_000, generator=torch.Generator().manual_seed(0))
    weights = sparsemax(scores)

    torch.testing.assert_close(weights.double().sum(dim=-1), torch.ones(3).double(), atol=2e-5, rtol=0)


def test_a_row_that_is_not_finite_does_not_touch_the_others() -> None:
    rows = torch.rand(3, 9, generator=torch.Generator().manual_seed(0))
    spoilt = rows.clone()
    spoilt[1, 4] = float("nan")

    assert torch.equal(sparsemax(spoilt)[[0, 2]], sparsemax(rows)[[0, 2]])
    assert not torch.isfinite(sparsemax(spoilt)[1]).any()


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_radii_are_distances_from_the_grids_centre(grid: tuple[int, int]) -> None:
    found = radii(grid).reshape(grid)

    assert found[0, 0] == pytest.approx(np.hypot((grid[0] - 1) / 2, (grid[1] - 1) / 2))
    assert torch.equal(found, found.flip(0))
    assert torch.equal(found, found.flip(1))


def test_a_patch_that_is_in_the_bank_leaves_nothing_over_by_nearest() -> None:
    bank = unit_rows(2, 12, 16)
    left = residuals(bank[:1], bank, (3, 4), Matching(kind="nearest"))

    assert left.abs().max() < 1e-6


def test_the_radial_penalty_prefers_a_reference_at_the_same_radius() -> None:
    """Two references are equally similar; the one at the query's own place is taken."""
    token = unit_rows(1, 1, 8)[0, 0]
    query = unit_rows(1, 9, 8, seed=1)
    query[0, 0] = token
    bank = unit_rows(1, 9, 8, seed=2)
    near, far = torch.nn.functional.normalize(torch.stack([token + 0.1, token - 0.1]), dim=-1)
    bank[0, 0], bank[0, 4] = far, near  # 0 is a corner like the query's place, 4 is the centre
    s_corner, s_centre = float(token @ far), float(token @ near)
    gamma = abs(s_corner - s_centre) / float(radii((3, 3))[0]) + 1.0

    left = residuals(query, bank, (3, 3), Matching(kind="nearest", gamma=gamma))

    torch.testing.assert_close(left[0, 0], token - far)


@pytest.mark.parametrize("kind", ["sparsemax", "nearest", "topk"])
def test_small_tiles_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, bank = unit_rows(3, 12, 16, seed=1), unit_rows(4, 12, 16, seed=2)
    settings_ = Matching(kind=kind)  # type: ignore[arg-type]
    whole = residuals(queries, bank, (3, 4), settings_)
    monkeypatch.setattr(matching, "TILE_ELEMENTS", 100)

    torch.testing.assert_close(residuals(queries, bank, (3, 4), settings_), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["sparsemax", "nearest", "topk"])
def test_the_order_of_references_does_not_matter(kind: str) -> None:
    queries, bank = unit_rows(1, 12, 16, seed=1), unit_rows(4, 12, 16, seed=2)
    settings_ = Matching(kind=kind)  # type: ignore[arg-type]
    plain = residuals(queries, bank, (3, 4), settings_)

    torch.testing.assert_close(residuals(queries, bank.flip(0), (3, 4), settings_), plain, atol=1e-5, rtol=0)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_more_references_never_raise_a_patchs_nearest_distance(seed: int, count: int) -> None:
    queries, bank = unit_rows(1, 6, 8, seed=seed), unit_rows(count + 1, 6, 8, seed=seed + 1)
    plain = Matching(kind="nearest", gamma=0.0)
    fewer = residuals(queries, bank[:count], (2, 3), plain).norm(dim=-1)
    more = residuals(queries, bank, (2, 3), plain).norm(dim=-1)

    assert (more <= fewer + 1e-5).all()


def test_topk_is_the_direction_of_the_mean_of_the_best() -> None:
    queries, bank = unit_rows(1, 4, 8, seed=1), unit_rows(2, 4, 8, seed=2)
    rows = bank.reshape(8, 8)
    best = (queries[0, 0] @ rows.T).topk(3).indices
    wanted = queries[0, 0] - torch.nn.functional.normalize(rows[best].mean(dim=0), dim=-1)

    left = residuals(queries, bank, (2, 2), Matching(kind="topk", k=3, gamma=0.0))

    torch.testing.assert_close(left[0, 0], wanted, atol=1e-6, rtol=0)


KINDS = ["sparsemax", "nearest", "topk"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_the_fast_search_gives_what_its_weights_say(kind: str, spread: float) -> None:
    """Near-equal tokens give weights that are hardly sparse, distant ones a few: both ways of mixing are taken."""
    middle = unit_rows(1, 1, 16, seed=3)
    queries, bank = (
        torch.nn.functional.normalize(middle + spread * unit_rows(count, 12, 16, seed=count), dim=-1)
        for count in (2, 5)
    )
    references = prepared(bank, (3, 4), Matching(kind=kind))  # type: ignore[arg-type]
    positions = torch.arange(24) % 12
    weights = match_weights(queries.flatten(0, 1), positions, references)

    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(24))
    wanted = queries - torch.nn.functional.normalize(weights @ references.tokens, dim=-1).view_as(queries)
    torch.testing.assert_close(matched_residuals(queries, references), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "mean", "most"), [(torch.bfloat16, 5e-3, 3e-2), (torch.float16, 5e-4, 1e-2)])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_finds_matches_as_good(kind: str, dtype: torch.dtype, mean: float, most: float) -> None:
    """Tokens near to each other, where a plain half-precision cosine would round all of them to one value.

    The third of `topk` may be another one where two are equally good, which shows in single patches.
    """
    middle = unit_rows(1, 1, 64, seed=3)
    near = [torch.nn.functional.normalize(middle + 0.2 * unit_rows(n, 36, 64, seed=n), dim=-1) for n in (3, 4)]
    settings_ = Matching(kind=kind, gamma=0.0)  # type: ignore[arg-type]
    exact = residuals(near[0], near[1], (6, 6), settings_).norm(dim=-1)
    off = (residuals(near[0], near[1], (6, 6), settings_, dtype).norm(dim=-1) - exact).abs() / exact

    assert off.mean() < mean * (5 if kind == "topk" else 1)
    assert kind == "topk" or off.max() < most


def test_half_precision_computes_the_cosine_less_one() -> None:
    queries, bank = unit_rows(5, 12), unit_rows(2, 4, 12, seed=1)
    half = prepared(bank, (2, 2), Matching(gamma=0.5), torch.bfloat16)
    exact = prepared(bank, (2, 2), Matching(gamma=0.5))
    positions = torch.tensor([0, 1, 2, 3, 0])

    found = similarities(queries, positions, half).float()

    torch.testing.assert_close(found, similarities(queries, positions, exact) - 1.0, atol=0.02, rtol=0)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(KINDS), st.permutations(range(4)))
def test_permuting_pictures_and_references_permutes_the_residuals(seed: int, kind: str, order: list[int]) -> None:
    queries, bank = unit_rows(4, 6, 8, seed=seed), unit_rows(4, 6, 8, seed=seed + 1)
    settings_ = Matching(kind=kind)  # type: ignore[arg-type]

    plain = residuals(queries, bank, (2, 3), settings_)
    torch.testing.assert_close(
        residuals(queries[order], bank[order], (2, 3), settings_), plain[order], atol=2e-5, rtol=0
    )


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(KINDS), st.integers(1, 60))
def test_any_tile_gives_what_no_tiles_give(seed: int, kind: str, elements: int) -> None:
    queries, bank = unit_rows(2, 6, 8, seed=seed), unit_rows(3, 6, 8, seed=seed + 1)
    settings_ = Matching(kind=kind)  # type: ignore[arg-type]
    whole = residuals(queries, bank, (2, 3), settings_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "TILE_ELEMENTS", elements)
        patch.setattr(matching, "CACHE_ELEMENTS", elements)
        torch.testing.assert_close(residuals(queries, bank, (2, 3), settings_), whole, atol=1e-6, rtol=0)
