"""A part that only lies otherwise is told from one with a defect."""

import cv2
import numpy as np
import pytest

from inspector.config import EncoderConfig
from inspector.detection.detector import Detector
from inspector.detection.encoder import load_encoder
from inspector.detection.position import Move, find_position
from inspector.simulation import draw_part, draw_references
from inspector.types import ImageArray, Verdict


@pytest.fixture(scope="module")
def flange() -> Detector:
    """Taught from six good flanges, all of which lie alike."""
    return Detector.from_references(load_encoder(EncoderConfig()), list(draw_references("flange", 6)))


def good(number: int) -> ImageArray:
    return list(draw_references("flange", 12))[6 + number]


def turned_part(image: ImageArray, degrees: float) -> ImageArray:
    """What lies in the middle of the picture is turned; the ground stays."""
    height_px, width_px = image.shape[:2]
    centre = (width_px / 2, height_px / 2)
    moved = cv2.warpAffine(image, cv2.getRotationMatrix2D(centre, -degrees, 1.0), (width_px, height_px))
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(inside, (width_px // 2, height_px // 2), min(width_px, height_px) * 47 // 100, 1, -1)
    return np.where(inside[..., None] > 0, moved, image).astype(np.uint8)


def test_a_part_that_lies_upside_down_is_a_position_and_the_move_is_named(flange: Detector) -> None:
    image = np.ascontiguousarray(np.rot90(good(0), 2))
    (seen,) = flange.inspect([image])
    assert seen.verdict is Verdict.NG
    found = find_position(flange, image, seen)
    assert found is not None
    assert abs(found.move.turn_deg - 180.0) <= 15.0
    assert found.after < 0.6 * found.before
    record = found.record()
    assert record["kind"] == "position"
    assert "a position that no reference shows" in record["reason"]


def test_a_part_that_lies_on_its_other_side_is_a_position(flange: Detector) -> None:
    image = np.ascontiguousarray(good(1)[:, ::-1])
    found = find_position(flange, image, flange.inspect([image])[0])
    assert found is not None
    assert found.move.mirrored


def test_a_part_that_is_turned_on_a_ground_that_stays_is_a_position(flange: Detector) -> None:
    image = turned_part(good(2), 90.0)
    found = find_position(flange, image, flange.inspect([image])[0])
    assert found is not None
    assert abs(found.move.turn_deg - 270.0) <= 15.0


@pytest.mark.parametrize("trigger", [0, 1, 2, 3])
def test_a_part_with_a_defect_is_no_position(flange: Detector, trigger: int) -> None:
    image = draw_part("flange", 0, trigger, 1.0)[0]
    assert find_position(flange, image, flange.inspect([image])[0]) is None


def test_a_part_that_is_accepted_is_not_asked_about(flange: Detector) -> None:
    image = list(draw_references("flange", 6))[2]
    (seen,) = flange.inspect([image])
    assert seen.verdict is Verdict.OK
    assert find_position(flange, image, seen) is None


def test_a_move_turns_clockwise_about_the_middle_and_a_mirror_keeps_the_picture() -> None:
    image = np.zeros((5, 5), np.uint8)
    image[0, 2] = 255
    turned = cv2.warpAffine(image, Move(90.0).matrix(5, 5), (5, 5))
    assert turned[2, 4] == 255
    image[1, 0] = 200
    mirrored = cv2.warpAffine(image, Move(mirrored=True).matrix(5, 5), (5, 5))
    assert np.array_equal(mirrored, image[:, ::-1])
    assert str(Move(90.0, mirrored=True, shift_x=0.03, shift_y=0.04)) == "mirrored and turned by 90° and shifted by 5 %"
