"""Properties that hold whatever the pictures: of batches, of orders, of a reference's own bank, of saving and loading."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from tests.detection import models

FEW = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def detector(vit: Encoder) -> Detector:
    return Detector.from_references(vit, models.pictures(3, 32, seed=0))


@pytest.fixture(scope="module")
def nearest(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    files = models.write_model(tmp_path_factory.mktemp("nearest"), models.resnet_keys())
    models.write_settings(files[0], matching={"kind": "nearest", "gamma": 0.0}, text_tower=False)
    return models.load(*files)


@FEW
@given(SEEDS, st.permutations(range(5)), st.integers(1, 5))
def test_neither_order_nor_batch_size_changes_a_score(
    detector: Detector, seed: int, order: list[int], size: int
) -> None:
    images = models.pictures(5, 32, seed=seed)
    wanted = [detector.inspect([image])[0] for image in images]
    shuffled = [images[place] for place in order]
    found = [each for start in range(0, 5, size) for each in detector.inspect(shuffled[start : start + size])]

    for place, inspection in zip(order, found, strict=True):
        assert inspection.score == pytest.approx(wanted[place].score, rel=1e-5)
        np.testing.assert_allclose(inspection.anomaly_map, wanted[place].anomaly_map, atol=1e-5, rtol=0)


@FEW
@given(SEEDS, st.permutations(range(3)))
def test_the_order_of_the_references_changes_no_score(vit: Encoder, seed: int, order: list[int]) -> None:
    references, (image,) = models.pictures(3, 32, seed=seed), models.pictures(1, 32, seed=seed + 1)
    one = Detector.from_references(vit, references).inspect([image])[0]
    other = Detector.from_references(vit, [references[place] for place in order]).inspect([image])[0]
    assert other.score == pytest.approx(one.score, rel=1e-4)


@FEW
@given(SEEDS)
def test_a_reference_against_its_own_bank_shows_less_than_a_stranger(vit: Encoder, seed: int) -> None:
    references, (stranger,) = models.pictures(2, 32, seed=seed), models.pictures(1, 32, seed=seed + 20_000)
    detector = Detector.from_references(vit, references)
    own, other = detector.inspect([references[0], stranger])
    assert own.parts.visual_map < other.parts.visual_map


@FEW
@given(SEEDS)
def test_by_the_nearest_patch_nothing_is_left_of_a_reference_in_its_own_bank(nearest: Encoder, seed: int) -> None:
    references = models.pictures(2, 64, seed=seed)
    for inspection in Detector.from_references(nearest, references).inspect(references):
        assert inspection.score == pytest.approx(0.0, abs=1e-3)


@FEW
@given(SEEDS, st.integers(1, 4))
def test_a_saved_bank_comes_back_bit_for_bit_and_gives_the_same_bits(vit: Encoder, seed: int, count: int) -> None:
    detector = Detector.from_references(vit, models.pictures(count, 32, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        sha256 = detector.bank.save(Path(folder) / "bank")
        again = Detector(vit, ResidualBank.load(Path(folder) / "bank", vit, sha256=sha256))
    assert all(torch.equal(a, b) for a, b in zip(detector.bank.taps, again.bank.taps, strict=True))
    (image,) = models.pictures(1, 32, seed=seed + 1)
    one, other = detector.inspect([image])[0], again.inspect([image])[0]
    assert one.score == other.score
    assert np.array_equal(one.anomaly_map, other.anomaly_map)
