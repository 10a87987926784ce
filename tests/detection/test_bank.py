"""The residual bank: bit-exact round trip, and everything that must be refused. Calibration and regions."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.bank import MANIFEST, TENSORS, ResidualBank
from inspector.detection.calibration import calibrate, decide
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.regions import find_regions
from inspector.errors import BankCorruptError, BankError, BankMismatchError, CalibrationError
from inspector.types import Verdict

LIMITS = {"flange": 0.8, "blister": 0.8, "gear": 0.6}
"""Image AUROC that the embedded encoder must reach on drawn parts; the gear is its weak side."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig())


@pytest.fixture(scope="module")
def detector(encoder: Encoder) -> Detector:
    return Detector.from_references(encoder, simulation.draw_references("gear", 4), names=["a", "b", "c", "d"])


@pytest.fixture
def saved(detector: Detector, tmp_path: Path) -> Path:
    detector.bank.save(tmp_path / "bank")
    return tmp_path / "bank"


def test_a_saved_bank_loads_bit_exactly_and_scores_the_same(encoder: Encoder, detector: Detector, saved: Path) -> None:
    loaded = ResidualBank.load(saved, encoder)
    picture = [simulation.draw_part("gear", 5, 1, 1.0)[0]]

    assert all(torch.equal(one, two) for one, two in zip(loaded.taps, detector.bank.taps, strict=True))
    assert loaded.calibration == detector.bank.calibration
    assert loaded.references == detector.bank.references
    assert Detector(encoder, loaded).inspect(picture)[0].score == detector.inspect(picture)[0].score


def test_saving_again_gives_the_same_hash(detector: Detector, tmp_path: Path) -> None:
    assert detector.bank.save(tmp_path / "one") == detector.bank.save(tmp_path / "two")


def test_a_truncated_changed_foreign_or_missing_bank_is_refused(encoder: Encoder, saved: Path) -> None:
    data = (saved / TENSORS).read_bytes()
    for broken in (data[: len(data) // 2], data[:-1] + b"x", b"", b"not a bank"):
        (saved / TENSORS).write_bytes(broken)
        with pytest.raises(BankCorruptError, match="Build the product again"):
            ResidualBank.load(saved, encoder)
    (saved / TENSORS).write_bytes(data)
    (saved / MANIFEST).write_text("{}")
    with pytest.raises(BankCorruptError):
        ResidualBank.load(saved, encoder)
    with pytest.raises(BankCorruptError):
        ResidualBank.load(saved / "nowhere", encoder)


def test_a_bank_with_values_that_are_not_finite_is_refused(encoder: Encoder, saved: Path) -> None:
    import hashlib

    tensors = safetensors.torch.load_file(saved / TENSORS)
    tensors["tap0"][0, 0, 0] = float("nan")
    data = safetensors.torch.save(tensors)
    (saved / TENSORS).write_bytes(data)
    manifest = json.loads((saved / MANIFEST).read_text())
    manifest["sha256"] = hashlib.sha256(data).hexdigest()
    (saved / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(BankCorruptError, match="not finite"):
        ResidualBank.load(saved, encoder)


def test_a_bank_of_another_encoder_is_refused(saved: Path) -> None:
    with pytest.raises(BankMismatchError, match="built by encoder"):
        ResidualBank.load(saved, load_encoder(EncoderConfig(image_size=128)))


def test_an_uncalibrated_bank_is_neither_saved_nor_used(encoder: Encoder, tmp_path: Path) -> None:
    bank = ResidualBank.build(encoder, simulation.draw_references("gear", 1))
    with pytest.raises(BankError, match="uncalibrated"):
        bank.save(tmp_path / "bank")
    with pytest.raises(CalibrationError):
        Detector(encoder, bank)
    with pytest.raises(BankError, match="at least one reference"):
        ResidualBank.build(encoder, [])


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_visible_defects_score_above_good_parts(encoder: Encoder, kind: str) -> None:
    found = Detector.from_references(encoder, simulation.draw_references(kind, 8))
    good = [simulation.draw_part(kind, 3, trigger, 0.0)[0] for trigger in range(1, 17)]
    bad = [simulation.draw_part(kind, 3, trigger, 1.0)[0] for trigger in range(1, 17)]
    scores = [inspection.score for inspection in found.inspect(good + bad)]

    assert roc_auc_score([0] * 16 + [1] * 16, scores) > LIMITS[kind]


def test_one_reference_is_enough_for_a_provisional_threshold(encoder: Encoder) -> None:
    found = Detector.from_references(encoder, simulation.draw_references("flange", 1))

    assert (found.calibration.kind, found.calibration.n) == ("provisional", 1)
    assert len(found.calibration.scores) > 1


@given(st.lists(st.floats(0.1, 2.0), min_size=2, max_size=40))
def test_the_threshold_lies_above_the_median_and_scales_with_the_scores(scores: list[float]) -> None:
    threshold = calibrate(scores, len(scores)).threshold

    assert threshold > np.median(scores)
    assert calibrate([3 * score for score in scores], len(scores)).threshold == pytest.approx(3 * threshold, rel=1e-4)


def test_one_odd_reference_does_not_move_the_threshold_at_will() -> None:
    usual = [1.0, 1.02, 0.98, 1.01, 0.99, 1.0, 1.03]
    assert calibrate([*usual, 50.0], 8).threshold < 1.5


@pytest.mark.parametrize("scores", [[], [float("nan")], [1.0, float("inf")]])
def test_no_threshold_comes_from_nothing_or_from_what_is_not_finite(scores: list[float]) -> None:
    with pytest.raises(CalibrationError):
        calibrate(scores, 1)


def test_only_a_finite_score_below_the_threshold_is_ok() -> None:
    assert decide(0.9, 1.0) is Verdict.OK
    assert decide(1.0, 1.0) is Verdict.NG
    assert decide(float("nan"), 1.0) is decide(0.5, float("nan")) is decide(float("inf"), 1.0) is Verdict.NONE


def test_regions_are_in_pixels_of_the_picture_the_worst_first() -> None:
    anomaly_map = np.zeros((100, 100), np.float32)
    anomaly_map[10:20, 30:50] = 2.0
    anomaly_map[60:80, 60:80] = 3.0
    worst, other = find_regions(anomaly_map, 1.0, (200, 400))

    assert (worst.x_px, worst.y_px, worst.width_px, worst.height_px) == (240, 120, 80, 40)
    assert (other.area_px, other.peak, other.mean_excess) == (200 * 8, 2.0, 1.0)
    assert other.area_fraction == pytest.approx(0.02)


def test_a_rejected_part_says_where_even_below_the_pixel_threshold() -> None:
    anomaly_map = np.zeros((50, 50), np.float32)
    anomaly_map[5:10, 5:10] = 0.5
    assert len(find_regions(anomaly_map, 1.0, (50, 50))) == 1
