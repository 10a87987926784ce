"""The evidence of a region: which reference patches its worst place was compared with."""

from dataclasses import replace

import numpy as np
import pytest

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.types import Calibration, PatchMatch, Verdict
from tests.detection import models


def rejecting(encoder: Encoder, count: int, size: int) -> Detector:
    """A detector that rejects everything, so that each picture has regions."""
    detector = Detector.from_references(encoder, models.pictures(count, size, seed=0))
    strict = Calibration("provisional", count, -1e3, (0.0,))
    return Detector(encoder, replace(detector.bank, calibration=strict))


def matches_of(detector: Detector, size: int) -> list[PatchMatch]:
    (found,) = detector.inspect(models.pictures(1, size, seed=5))
    assert found.verdict is Verdict.NG
    assert found.regions
    return [match for region in found.regions for match in region.matches]


def test_each_tap_names_its_strongest_reference_patches_the_heaviest_first(vit: Encoder) -> None:
    found = matches_of(rejecting(vit, 3, 40), 40)

    assert {match.tap for match in found} == set(vit.taps)
    assert {match.reference for match in found} <= {0, 1, 2}
    for tap in vit.taps:
        weights = [match.weight for match in found if match.tap == tap][:3]
        assert weights == sorted(weights, reverse=True)
        assert 0 < sum(weights) <= 1 + 1e-5
    assert all(-1.0 <= match.similarity <= 1.0 for match in found)


def test_the_patch_lies_at_the_regions_worst_place(vit: Encoder) -> None:
    (found,) = rejecting(vit, 2, 40).inspect([models.pictures(1, 40, seed=5)[0][:, :30]])
    for region in found.regions:
        x, y = region.peak_x_px / 30, region.peak_y_px / 40
        for match in region.matches:
            left, top, width, height = match.patch
            assert left <= x <= left + width
            assert top <= y <= top + height
        assert region.x_px <= region.peak_x_px <= region.x_px + region.width_px
        assert region.y_px <= region.peak_y_px <= region.y_px + region.height_px


def test_a_copy_of_a_reference_is_compared_with_itself(resnet: Encoder) -> None:
    """By sparsemax the patch itself is the heaviest, with similarity 1."""
    detector = rejecting(resnet, 3, 64)
    (found,) = detector.inspect([models.pictures(3, 64, seed=0)[1]])
    for region in found.regions:
        for tap in resnet.taps:
            best = next(match for match in region.matches if match.tap == tap)
            assert best.reference == 1
            assert best.patch == best.reference_patch
            assert best.similarity == pytest.approx(1.0, abs=1e-5)


def test_good_parts_carry_no_evidence(vit: Encoder) -> None:
    detector = Detector.from_references(vit, models.pictures(3, 40, seed=0))
    (found,) = detector.inspect(models.pictures(1, 40, seed=0))
    assert found.verdict is Verdict.OK
    assert found.regions == ()


def test_the_branches_contributions_add_up_to_the_score(vit: Encoder, resnet: Encoder) -> None:
    for encoder, size in ((vit, 40), (resnet, 64)):
        detector = Detector.from_references(encoder, models.pictures(2, size, seed=0))
        for found in detector.inspect(models.pictures(3, size, seed=4)):
            assert tuple(found.contributions) == found.parts.branches
            assert sum(found.contributions.values()) == pytest.approx(found.score, rel=1e-5)
            assert np.isfinite(list(found.contributions.values())).all()
