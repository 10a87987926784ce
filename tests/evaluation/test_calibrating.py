"""Promises of calibrations, and what drawn defects a recipe would see."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from inspector import simulation
from inspector.cli import app
from inspector.config import EncoderConfig
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import UsageError
from inspector.evaluation.calibrating import bench_calibration
from inspector.evaluation.sensitivity import CONTRASTS, KINDS, SIZES, sensitivity


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig())


def test_the_bounds_hold_as_often_as_they_must_and_the_rate_is_what_is_expected(encoder: Encoder) -> None:
    images = simulation.draw_references("gear", 90)
    rows = bench_calibration(encoder, "gear", images, references=4, ns=(9, 19), draws=300, seed=0, say=lambda _: None)
    provisional, *confirmed = rows
    assert (provisional.step, provisional.promised, provisional.held) == ("provisional", None, None)
    assert [row.n for row in confirmed] == [9, 19]
    for row in confirmed:
        assert row.promised is not None
        assert row.held_expected is not None
        assert row.held_counted_expected is not None
        assert row.achieved == pytest.approx(row.promised, abs=0.04)
        assert row.counted_on == 86 - row.n
        assert row.held == pytest.approx(row.held_expected, abs=0.05)
        assert row.held_counted == pytest.approx(row.held_counted_expected, abs=0.04)
        assert row.held_expected < 0.95 <= row.held_counted_expected


def test_too_few_pictures_are_refused_and_a_large_n_is_left_out(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="too few"):
        bench_calibration(
            encoder, "gear", simulation.draw_references("gear", 8), references=4, ns=(9,), draws=1, seed=0, say=print
        )


def test_the_command_tells_it_for_programs() -> None:
    words = ["bench", "calibration", "--parts", "40", "--confirmed", "9", "--draws", "20", "--json"]
    rows = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["rows"]
    assert {row["product"] for row in rows} == set(simulation.KINDS)
    assert {row["step"] for row in rows} == {"provisional", "confirmed"}


def test_large_defects_are_seen_more_often_than_small_ones(encoder: Encoder) -> None:
    images = simulation.draw_references("gear", 5)
    found = sensitivity(Detector.from_references(encoder, images), images)
    assert set(found.shares) == set(KINDS)
    assert all(list(sizes) == list(SIZES) for sizes in found.shares.values())
    means = [np.mean([sizes[size] for sizes in found.shares.values()]) for size in SIZES]
    assert means[-1] > means[0]
    assert means[-1] > 0.6
    again = sensitivity(Detector.from_references(encoder, images), images)
    assert again == found
    record = found.record()
    assert record["count"] == 2 * len(CONTRASTS)
    assert json.loads(json.dumps(record)) == record


def test_the_smallest_size_is_the_one_from_which_on_at_least_half_are_caught(encoder: Encoder) -> None:
    images = simulation.draw_references("flange", 1)
    found = sensitivity(Detector.from_references(encoder, images), images)
    for kind, smallest in found.smallest.items():
        shares = found.shares[kind]
        if smallest is None:
            assert shares[SIZES[-1]] < 0.5
        else:
            assert all(shares[size] >= 0.5 for size in SIZES if size >= smallest)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_the_picture_near_its_place_and_more_with_size(kind: str) -> None:
    image = simulation.draw_references("gear", 1)[0]
    changed = []
    for size in (0.02, 0.16):
        drawn = KINDS[kind](np.random.default_rng(1), image, (320, 240), size, 0.6)
        assert drawn.shape == image.shape
        assert drawn.dtype == np.uint8
        changed.append(int((np.abs(drawn.astype(int) - image).max(2) > 8).sum()))
    assert 0 < changed[0] < changed[1] < image.shape[0] * image.shape[1] / 4
