"""The fast path gives the numbers of the slow float64 one, from the pixels to the score."""

from pathlib import Path

import pytest

from tests.detection import agreement, judge, models

EXACT = 1e-4
HALF = 5e-2
"""bf16 keeps 8 bits of each product's inputs, and towers of random weights add up their rounding; with trained weights a
score moves by less than half a percent (README)."""


@pytest.mark.parametrize(
    ("depth", "size", "count", "quick_gelu"),
    [(4, 32, 1, False), (4, 48, 3, True), (8, 40, 2, False), (12, 32, 2, True), (12, 56, 3, False), (4, 32, 8, False)],
)
def test_a_vit_scores_as_the_algorithm_says(
    tmp_path: Path, depth: int, size: int, count: int, quick_gelu: bool
) -> None:
    config, checkpoint = models.write_model(tmp_path, models.vit_keys(depth, quick_gelu=quick_gelu), seed=depth)
    encoder = models.load(config, checkpoint, image_size=size)

    assert encoder.has_text
    assert encoder.taps == (depth // 4, depth // 2, 3 * depth // 4, depth)
    text = judge.text_residual(config, checkpoint)
    tower = judge.JudgeVit(config, checkpoint, size)
    assert agreement.largest_error(encoder, tower, text, count=count, size=size, seed=depth) < EXACT


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_modified_resnet_scores_by_its_stages_each_on_its_own_grid(tmp_path: Path, count: int) -> None:
    config, checkpoint = models.write_model(tmp_path, models.resnet_keys())
    encoder = models.load(config, checkpoint, image_size=96, taps=[1, 2, 3])

    assert encoder.grids == ((24, 24), (12, 12), (6, 6))
    tower = judge.JudgeStages(config, checkpoint, [1, 2, 3])
    assert agreement.largest_error(encoder, tower, None, count=count, size=96, seed=count) < EXACT


def test_a_timm_trunk_scores_by_the_features_it_lists(tmp_path: Path) -> None:
    config, checkpoint = models.write_model(tmp_path, models.timm_keys())
    encoder = models.load(config, checkpoint, taps=[2, 3, 4])

    assert encoder.grids == ((16, 16), (8, 8), (4, 4))
    tower = judge.JudgeStages(config, checkpoint, [1, 2, 3])
    assert agreement.largest_error(encoder, tower, None, count=2, size=64, seed=7) < EXACT


@pytest.mark.parametrize(("depth", "count"), [(4, 1), (4, 8), (12, 3)])
def test_a_vit_in_bf16_stays_within_its_tolerance(tmp_path: Path, depth: int, count: int) -> None:
    config, checkpoint = models.write_model(tmp_path, models.vit_keys(depth), seed=depth)
    encoder = models.load(config, checkpoint, precision="bf16")
    text = judge.text_residual(config, checkpoint)
    tower = judge.JudgeVit(config, checkpoint, 32)
    assert agreement.largest_error(encoder, tower, text, count=count, size=32, seed=depth) < HALF


@pytest.mark.parametrize("count", [1, 8])
def test_a_modified_resnet_in_bf16_stays_within_its_tolerance(tmp_path: Path, count: int) -> None:
    config, checkpoint = models.write_model(tmp_path, models.resnet_keys())
    encoder = models.load(config, checkpoint, image_size=96, taps=[1, 2, 3], precision="bf16")
    tower = judge.JudgeStages(config, checkpoint, [1, 2, 3])
    assert agreement.largest_error(encoder, tower, None, count=count, size=96, seed=count) < HALF


@pytest.mark.parametrize("count", [1, 8])
def test_fp16_stays_within_its_tolerance_where_there_is_a_gpu(tmp_path: Path, count: int) -> None:
    agreement.need_gpu()
    config, checkpoint = models.write_model(tmp_path, models.vit_keys(12), seed=12)
    encoder = models.load(config, checkpoint, precision="fp16", device="cuda")
    text = judge.text_residual(config, checkpoint)
    tower = judge.JudgeVit(config, checkpoint, 32)
    assert agreement.largest_error(encoder, tower, text, count=count, size=32, seed=12) < HALF / 8
