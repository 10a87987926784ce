"""Regions of interest: where a part is inspected, how strictly, and that one threshold serves them all."""

import numpy as np
import pytest
import torch

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.rois import Layout
from inspector.errors import CalibrationError
from inspector.types import ImageArray, Roi, Verdict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig(precision="fp32", threads=1))


@pytest.fixture(scope="module")
def references() -> list[ImageArray]:
    return list(simulation.draw_references("gear", 4))


def scratched(image: ImageArray, left: float, top: float) -> ImageArray:
    """The same picture with a dark blot at a place."""
    height, width = image.shape[:2]
    spoilt = image.copy()
    y, x = int(top * height), int(left * width)
    spoilt[y : y + height // 14, x : x + width // 14] = (20, 20, 20)
    return spoilt


def test_a_region_is_scored_by_its_own_pixels_alone() -> None:
    layout = Layout.of([Roi("left", (0.0, 0.0, 0.5, 1.0)), Roi("right", (0.5, 0.0, 0.5, 1.0))], (10, 10), CPU)
    assert layout is not None
    maps = torch.zeros(1, 10, 10)
    maps[0, 3, 7] = 4.0
    assert layout.raw(maps).tolist() == [[0.0, 4.0]]
    assert layout.scaled(maps, (1.0, 2.0)).tolist() == [[0.0, 2.0]]


def test_sensitivity_multiplies_and_what_is_left_out_is_not_seen() -> None:
    rois = [Roi("all", (0.0, 0.0, 1.0, 1.0), 3.0), Roi("label", (0.5, 0.0, 0.5, 1.0), inspected=False)]
    layout = Layout.of(rois, (10, 10), CPU)
    assert layout is not None
    maps = torch.zeros(1, 10, 10)
    maps[0, 0, 9], maps[0, 0, 0] = 9.0, 2.0
    assert layout.scaled(maps, (1.0,)).tolist() == [[6.0]]
    assert not layout.inside[0, 9]
    assert layout.inside[0, 0]


def test_only_regions_to_leave_out_leave_the_rest_of_the_picture() -> None:
    layout = Layout.of([Roi("label", (0.0, 0.0, 0.5, 1.0), inspected=False)], (10, 10), CPU)
    assert layout is not None
    assert [roi.name for roi in layout.inspected] == ["picture"]
    assert layout.inside.sum() == 50


def test_a_region_that_is_wholly_left_out_is_refused() -> None:
    with pytest.raises(CalibrationError, match="'thread' lies wholly in regions that are left out"):
        Layout.of([Roi("thread", (0.1, 0.1, 0.1, 0.1)), Roi("out", (0, 0, 1, 1), inspected=False)], (64, 64), CPU)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"box": (0.5, 0.0, 0.6, 1.0)}, "must lie in the picture"),
        ({"name": ""}, "must have 1 to 32 characters"),
        ({"sensitivity": 0.0}, "must be 0.1 to 10"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Roi(**({"name": "a", "box": (0.0, 0.0, 1.0, 1.0)} | values))  # type: ignore[arg-type]


def test_a_defect_counts_only_where_it_is_looked_for(encoder: Encoder, references: list[ImageArray]) -> None:
    left = Roi("left", (0.0, 0.0, 0.5, 1.0))
    right = Roi("right", (0.5, 0.0, 0.5, 1.0))
    good = simulation.draw_references("gear", 8)[5]
    bad = scratched(good, 0.7, 0.45)

    only_left = Detector.from_references(encoder, references, rois=[left])
    seen, clean = only_left.inspect([bad, good])
    assert seen.score == pytest.approx(clean.score, rel=0.1)

    both = Detector.from_references(encoder, references, rois=[left, right])
    seen = both.inspect([bad])[0]
    assert seen.verdict is Verdict.NG
    assert seen.roi_mask == 0b10
    assert seen.score / seen.threshold == pytest.approx(max(seen.rois), rel=1e-6)
    assert all(region.centroid_x_px > bad.shape[1] / 2 for region in seen.regions[:1])


def test_regions_come_back_with_the_bank(
    encoder: Encoder, references: list[ImageArray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bank") / "1"
    rois = [Roi("hole", (0.2, 0.2, 0.3, 0.3), 2.0), Roi("label", (0.0, 0.9, 1.0, 0.1), inspected=False)]
    detector = Detector.from_references(encoder, references, rois=rois)
    detector.bank.save(folder)
    again = Detector(encoder, ResidualBank.load(folder, encoder))
    assert again.bank.rois == tuple(rois)
    picture = references[0]
    assert again.inspect([picture])[0].score == detector.inspect([picture])[0].score


def test_without_regions_nothing_changes(encoder: Encoder, references: list[ImageArray]) -> None:
    plain = Detector.from_references(encoder, references).inspect([references[1]])[0]
    assert plain.rois == ()
    assert plain.roi_mask == 0
    assert plain.contributions["visual"] == pytest.approx(plain.score)


def test_the_map_outside_of_all_regions_makes_no_defect_region(encoder: Encoder, references: list[ImageArray]) -> None:
    detector = Detector.from_references(encoder, references, rois=[Roi("left", (0.0, 0.0, 0.5, 1.0))])
    bad = scratched(scratched(references[0], 0.2, 0.45), 0.8, 0.45)
    seen = detector.inspect([bad])[0]
    assert seen.verdict is Verdict.NG
    assert np.all([region.x_px < bad.shape[1] / 2 for region in seen.regions])
