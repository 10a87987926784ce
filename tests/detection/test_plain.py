"""The plain path that the benchmark compares with gives the numbers of the fast one."""

from pathlib import Path

import pytest

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.detection.plain import plain_score
from inspector.errors import EncoderError
from tests.detection import models


@pytest.mark.parametrize("count", [1, 4])
def test_plain_and_fast_path_give_the_same_scores(vit: Encoder, resnet: Encoder, count: int) -> None:
    for encoder, size in ((vit, 32), (resnet, 64)):
        detector = Detector.from_references(encoder, models.pictures(count, size, seed=0))
        for image in models.pictures(2, size, seed=7):
            (fast,) = detector.inspect([image])
            assert plain_score(encoder, detector.bank, image) == pytest.approx(fast.score, rel=1e-5)


@pytest.mark.parametrize("kind", ["nearest", "topk"])
def test_so_they_do_with_every_kind_of_matching(tmp_path: Path, kind: str) -> None:
    files = models.write_model(tmp_path, models.resnet_keys())
    models.write_settings(files[0], matching={"kind": kind, "gamma": 0.02}, text_tower=False)
    encoder = models.load(*files)
    detector = Detector.from_references(encoder, models.pictures(2, 64, seed=0))
    (image,) = models.pictures(1, 64, seed=7)
    assert plain_score(encoder, detector.bank, image) == pytest.approx(detector.inspect([image])[0].score, rel=1e-5)


def test_the_plain_path_refuses_half_precision(vit_files: tuple[Path, Path]) -> None:
    encoder = models.load(*vit_files, precision="bf16")
    bank = Detector.from_references(encoder, models.pictures(1, 32, seed=0)).bank
    with pytest.raises(EncoderError, match="runs in fp32, but the encoder is in bf16"):
        plain_score(encoder, bank, models.pictures(1, 32, seed=7)[0])
