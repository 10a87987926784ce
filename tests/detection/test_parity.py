"""The fast path gives the numbers of the slow float64 one, from the pixels to the score."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from tests.detection import judge, models

TOLERANCE = 1e-4


def check(encoder: Encoder, tower: Any, text: Any, *, count: int, size: int, seed: int) -> None:
    """Maps and all parts of two pictures against `count` references agree with the judge to 1e-4 of their size."""
    references, queries = models.pictures(count, size, seed=seed), models.pictures(2, size, seed=seed + 100)
    found = Detector.from_references(encoder, references).inspect(queries)
    known = [tower.seen(image) for image in references]

    for inspection, image in zip(found, queries, strict=True):
        wanted = judge.judged(tower.seen(image), known, size, text)
        scale = float(np.abs(wanted.anomaly_map).max())
        assert np.abs(inspection.anomaly_map - wanted.anomaly_map).max() <= TOLERANCE * scale
        assert inspection.score == pytest.approx(wanted.score, rel=TOLERANCE, abs=TOLERANCE * scale)
        parts = {name: value for name, value in asdict(inspection.parts).items() if value is not None}
        assert parts.keys() == wanted.parts.keys()
        for name, value in wanted.parts.items():
            assert parts[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE * 0.01), name


@pytest.mark.parametrize(
    ("depth", "size", "count", "quick_gelu"),
    [(4, 32, 1, False), (4, 48, 3, True), (8, 40, 2, False), (12, 32, 2, True), (12, 56, 3, False)],
)
def test_a_vit_scores_as_the_algorithm_says(
    tmp_path: Path, depth: int, size: int, count: int, quick_gelu: bool
) -> None:
    config, checkpoint = models.write_model(tmp_path, models.vit_keys(depth, quick_gelu=quick_gelu), seed=depth)
    encoder = models.load(config, checkpoint, image_size=size)

    assert encoder.has_text
    assert encoder.taps == (depth // 4, depth // 2, 3 * depth // 4, depth)
    text = judge.text_residual(config, checkpoint)
    check(encoder, judge.JudgeVit(config, checkpoint, size), text, count=count, size=size, seed=depth)


@pytest.mark.parametrize("count", [1, 2])
def test_a_modified_resnet_scores_by_its_stages_each_on_its_own_grid(tmp_path: Path, count: int) -> None:
    config, checkpoint = models.write_model(tmp_path, models.resnet_keys())
    encoder = models.load(config, checkpoint, image_size=96, taps=[1, 2, 3])

    assert encoder.grids == ((24, 24), (12, 12), (6, 6))
    check(encoder, judge.JudgeStages(config, checkpoint, [1, 2, 3]), None, count=count, size=96, seed=count)


def test_a_timm_trunk_scores_by_the_features_it_lists(tmp_path: Path) -> None:
    config, checkpoint = models.write_model(tmp_path, models.timm_keys())
    encoder = models.load(config, checkpoint, taps=[2, 3, 4])

    assert encoder.grids == ((16, 16), (8, 8), (4, 4))
    check(encoder, judge.JudgeStages(config, checkpoint, [1, 2, 3]), None, count=2, size=64, seed=7)
