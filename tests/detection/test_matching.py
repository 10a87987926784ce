"""Sparsemax without a sort, and the matching of patches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspector.detection.matching import Matching, matched_residuals, radii, sparsemax
from tests.detection import judge

ROWS = hnp.arrays(np.float64, st.tuples(st.just(3), st.integers(1, 40)), elements=st.floats(-1, 1))


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_sparsemax_is_the_projection_that_sorting_gives(rows: np.ndarray) -> None:
    found = sparsemax(torch.from_numpy(rows)).numpy()

    assert np.allclose(found.sum(axis=1), 1.0)
    assert (found >= 0).all()
    for row, weights in zip(rows, found, strict=True):
        assert np.allclose(weights, judge.sparsemax(row), atol=1e-9)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.mark.parametrize("kind", ["sparsemax", "nearest", "topk"])
def test_tiles_do_not_change_the_result(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, references = unit(2, 9, 5), unit(3, 9, 5, seed=1)
    whole = matched_residuals(queries, references, (3, 3), Matching(kind=kind))  # type: ignore[arg-type]
    monkeypatch.setattr("inspector.detection.matching.TILE_ELEMENTS", 60)
    tiled = matched_residuals(queries, references, (3, 3), Matching(kind=kind))  # type: ignore[arg-type]

    assert torch.allclose(whole, tiled, atol=1e-6)


def test_a_reference_leaves_no_residual_against_its_own_bank() -> None:
    references = unit(3, 16, 8)
    residual = matched_residuals(references, references, (4, 4), Matching(kind="nearest", gamma=0.0))

    assert residual.abs().max() < 1e-6


def test_more_references_never_raise_the_distance_to_the_nearest() -> None:
    queries, references = unit(1, 16, 8), unit(4, 16, 8, seed=2)
    distances = [
        matched_residuals(queries, references[:K], (4, 4), Matching(kind="nearest", gamma=0.0)).norm(dim=-1)
        for K in (1, 2, 4)
    ]
    assert (distances[1] <= distances[0] + 1e-6).all()
    assert (distances[2] <= distances[1] + 1e-6).all()


def test_radii_are_distances_from_the_centre_of_the_grid() -> None:
    assert radii((3, 3)).reshape(3, 3)[1, 1] == 0
    assert radii((3, 5)).reshape(3, 5)[0, 0] == pytest.approx(np.hypot(1, 2))
