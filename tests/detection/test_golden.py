"""The golden picture: what it scored at the build must come out again, alone and in a batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.detection.golden import Golden, golden_picture
from inspector.errors import EncoderMismatchError
from tests.detection import models


@pytest.fixture(scope="module")
def detector(vit: Encoder) -> Detector:
    return Detector.from_references(vit, models.pictures(2, 40, seed=0))


def test_a_bank_passes_its_own_self_test_alone_and_in_a_batch(detector: Detector, tmp_path: Path) -> None:
    detector.self_test(8)
    detector.bank.save(tmp_path / "bank")
    Detector(detector.encoder, ResidualBank.load(tmp_path / "bank", detector.encoder)).self_test(3)


def test_the_golden_picture_has_something_to_say_in_every_branch(detector: Detector) -> None:
    golden = detector.bank.golden
    assert golden is not None
    (found,) = detector.inspect([golden.image])
    assert found.score == pytest.approx(golden.score, rel=1e-5)
    assert found.parts.visual_map > 0
    assert found.parts.branches == ("text", "visual", "residual")


@pytest.mark.parametrize(("score", "peak"), [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (-1.0, 1.0)])
def test_another_score_than_at_the_build_is_refused(detector: Detector, score: float, peak: float) -> None:
    golden = detector.bank.golden
    assert golden is not None
    moved = Golden(golden.image, golden.score * score, golden.peak * peak)
    with pytest.raises(EncoderMismatchError, match=r"golden picture scores .* build the product again"):
        Detector(detector.encoder, replace(detector.bank, golden=moved)).self_test()


def test_a_driver_that_moves_only_large_batches_is_found(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = detector.encoder.tower

    def drifting(pixels: torch.Tensor) -> object:
        return tower(pixels * 1.2 if len(pixels) > 1 else pixels)

    monkeypatch.setattr(detector.encoder, "tower", drifting)
    detector.self_test(1)
    with pytest.raises(EncoderMismatchError, match="in a batch of 4"):
        detector.self_test(4)


def test_the_golden_picture_is_drawn_from_the_reference_and_stays_small() -> None:
    reference = np.tile(np.linspace(0, 255, 3000, dtype=np.uint8)[None, :, None], (40, 1, 3))
    picture = golden_picture(reference)

    assert picture.shape[1] == 1024
    assert picture[0, 0, 0] > 200  # turned round
    assert tuple(picture[picture.shape[0] // 2, 512]) == (30, 30, 30)
    assert golden_picture(reference).tobytes() == picture.tobytes()
