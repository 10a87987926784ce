"""Drawn pictures: repeatable by seed, alike within a product, and a mask that tells the truth."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.training.defects import MIN_VISIBLE_PX, SURFACE_DEFECTS, add_defect, visible_mask
from inspector.training.pieces import OUTLINES, PieceSpec
from inspector.training.products import KINDS as PRODUCT_KINDS
from inspector.training.products import ProductFamily
from inspector.training.textures import KINDS, TextureSpec, blob_mask, lit_relief, spectrum_noise

SIZE_PX = 96
SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_family_draws_the_same_pictures_from_the_same_seeds(seed: int) -> None:
    first, again = ProductFamily(seed), ProductFamily(seed)
    one = first.draw_defective(np.random.default_rng(seed), SIZE_PX)
    other = again.draw_defective(np.random.default_rng(seed), SIZE_PX)
    np.testing.assert_array_equal(
        first.draw(np.random.default_rng(1), SIZE_PX), again.draw(np.random.default_rng(1), SIZE_PX)
    )
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.mask, other.mask)


def test_a_picture_does_not_depend_on_what_the_family_drew_before() -> None:
    for seed in SEEDS:
        used, fresh = ProductFamily(seed), ProductFamily(seed)
        used.draw(np.random.default_rng(5), SIZE_PX)
        used.draw_defective(np.random.default_rng(6), SIZE_PX)
        one, other = (family.draw(np.random.default_rng(7), SIZE_PX) for family in (used, fresh))
        np.testing.assert_array_equal(one, other)


def test_pictures_are_rgb_bytes_of_the_asked_size() -> None:
    for seed in SEEDS:
        picture = ProductFamily(seed).draw(np.random.default_rng(0), 80)
        assert picture.shape == (80, 80, 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("seed", range(30))
def test_the_mask_names_the_pixels_where_the_faulty_picture_differs_from_its_twin(seed: int) -> None:
    drawn = ProductFamily(seed).draw_defective(np.random.default_rng(seed), SIZE_PX)
    difference = np.abs(drawn.image.astype(int) - drawn.twin.astype(int)).max(2)
    assert drawn.mask.sum() >= MIN_VISIBLE_PX
    assert drawn.mask.mean() < 0.6
    outside = difference[~drawn.mask].mean()
    assert difference[drawn.mask].mean() > 3.0 * outside + 1.0


def test_normal_pictures_of_one_family_are_far_closer_than_those_of_two_families() -> None:
    within: list[float] = []
    between: list[float] = []
    thumbnails = []
    for seed in range(24):
        family, rng = ProductFamily(seed), np.random.default_rng(seed)
        pair = [family.draw(rng, 64).astype(float).mean((0, 1)) for _ in range(2)]
        within.append(np.abs(pair[0] - pair[1]).mean())
        thumbnails.append(pair[0])
    for index, one in enumerate(thumbnails):
        between.extend(np.abs(one - other).mean() for other in thumbnails[index + 1 :])
    assert np.median(within) < 0.3 * np.median(between)
    assert max(within) < 60.0


def test_steady_single_parts_differ_only_mildly_pixel_by_pixel() -> None:
    seen = 0
    for seed in range(60):
        family = ProductFamily(seed)
        if family.kind != "single" or family.camera.turn_deg > 2.0:
            continue
        rng = np.random.default_rng(seed)
        one, other = (family.draw(rng, SIZE_PX).astype(float) for _ in range(2))
        assert np.abs(one - other).mean() < 55.0
        seen += 1
    assert seen >= 5


def test_all_kinds_of_product_occur() -> None:
    assert {ProductFamily(seed).kind for seed in range(60)} == set(PRODUCT_KINDS)


def test_a_wrong_part_differs_in_its_feature_and_nowhere_else() -> None:
    seen = 0
    for seed in range(40):
        spec = PieceSpec.random(np.random.default_rng(seed))
        if not spec.features:
            continue
        good, same = (spec.draw(np.random.default_rng(1), 96) for _ in range(2))
        wrong = spec.draw(np.random.default_rng(1), 96, wrong=np.random.default_rng(2))
        np.testing.assert_array_equal(good.rgb, same.rgb)
        np.testing.assert_array_equal(good.alpha, wrong.alpha)
        changed = np.abs(good.rgb - wrong.rgb).max(2) > 0.02
        seen += bool(changed.any())
        assert changed.mean() < 0.7
    assert seen >= 15


def test_a_relief_is_bright_towards_the_light_and_dark_away_from_it() -> None:
    ramp = np.tile(np.linspace(0.0, 12.0, 32, dtype=np.float32), (32, 1))
    towards, highlight = lit_relief(ramp, 0.0, 0.6, 0.5)
    away, _ = lit_relief(ramp, 180.0, 0.6, 0.5)
    assert towards[16, 16] > 1.1
    assert away[16, 16] < 0.9
    assert 0.0 < highlight[16, 16] <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_each_texture_is_a_picture_in_range_and_fresh_each_time(kind: str) -> None:
    spec = TextureSpec.random(np.random.default_rng(3), kind, contrast=0.8)
    rng = np.random.default_rng(0)
    one, other = spec.sample(rng, 64), spec.sample(rng, 64)
    assert one.shape == (64, 64, 3)
    assert one.dtype == np.float32
    assert one.min() >= 0.0
    assert one.max() <= 1.0
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("outline", OUTLINES)
def test_each_outline_gives_a_part_with_something_in_it_and_something_around(outline: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        spec = PieceSpec.random(rng)
        piece = PieceSpec(**{**vars(spec), "outline": outline}).draw(rng, 64)
        assert piece.rgb.shape == (64, 64, 3)
        assert 0.02 < piece.alpha.mean() < 0.99
        assert np.isfinite(piece.rgb).all()


@pytest.mark.parametrize("kind", SURFACE_DEFECTS, ids=lambda kind: kind.__name__.strip("_"))
def test_each_surface_fault_changes_something_where_it_says(kind) -> None:  # type: ignore[no-untyped-def]
    image = TextureSpec.random(np.random.default_rng(0), "octaves", contrast=0.4).sample(np.random.default_rng(1), 128)
    visible = 0
    for seed in range(10):
        changed, meant = kind(np.random.default_rng(seed), image, (64.0, 60.0))
        assert changed.shape == image.shape
        visible += int(visible_mask(image, changed.clip(0.0, 1.0), meant).sum() >= MIN_VISIBLE_PX)
    assert visible >= 4


def test_a_fault_is_visible_even_on_a_plain_black_picture() -> None:
    black = np.zeros((64, 64, 3), np.float32)
    for seed in range(20):
        changed, mask, _ = add_defect(np.random.default_rng(seed), black, np.ones((64, 64), np.float32))
        assert mask.sum() >= MIN_VISIBLE_PX
        assert np.array_equal((changed != black).any(2) | mask, mask)


def test_spectrum_noise_has_zero_mean_and_unit_variance() -> None:
    noise = spectrum_noise(np.random.default_rng(0), 64, 1.2)
    assert abs(float(noise.mean())) < 1e-3
    assert abs(float(noise.std()) - 1.0) < 1e-3


def test_a_blob_lies_at_its_centre() -> None:
    blob = blob_mask(np.random.default_rng(0), 64, (40.0, 20.0), 8.0, 0.05)
    rows, columns = np.nonzero(blob > 0.5)
    assert abs(columns.mean() - 40.0) < 2.0
    assert abs(rows.mean() - 20.0) < 2.0
