"""Findings about pictures that are to become references: each kind where it should be, and none where nothing is odd."""

import cv2
import numpy as np
import pytest

from inspector import hygiene
from inspector.hygiene import Finding, Kind, check_scores
from inspector.mutual import Mutual
from inspector.simulation import draw_references
from inspector.types import ImageArray


def gears(count: int) -> list[ImageArray]:
    return list(draw_references("gear", count))


def check_pictures(images: list[ImageArray]) -> list[Finding]:
    return hygiene.check_pictures(images, [f"number {place}" for place in range(1, len(images) + 1)])


def kinds(found: list[Finding]) -> list[tuple[int, str]]:
    return [(finding.index, str(finding.kind)) for finding in found]


def edited(images: list[ImageArray], index: int, picture: object) -> list[ImageArray]:
    return [np.asarray(picture, np.uint8) if place == index else image for place, image in enumerate(images)]


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", ["gear", "flange", "blister"])
def test_good_pictures_of_a_part_have_no_finding(kind: str, count: int) -> None:
    assert check_pictures(list(draw_references(kind, count))) == []


def test_a_picture_out_of_focus_is_blurred() -> None:
    images = gears(5)
    assert kinds(check_pictures(edited(images, 2, cv2.GaussianBlur(images[2], (0, 0), 4)))) == [(2, "blurred")]
    assert kinds(check_pictures([np.full((200, 200, 3), 128, np.uint8)])) == [(0, "blurred")]


def test_a_picture_with_less_or_more_light_is_dark_or_bright() -> None:
    images = gears(5)
    assert (3, "dark") in kinds(check_pictures(edited(images, 3, images[3] * 0.3)))
    assert (0, "bright") in kinds(check_pictures(edited(images, 0, np.clip(images[0] * 2.4, 0, 255))))
    assert (0, "dark") in kinds(check_pictures([np.asarray(images[0] * 0.05, np.uint8)]))


def test_a_picture_that_burns_out_is_clipped() -> None:
    images = gears(5)
    burnt = images[1].copy()
    burnt[:160] = 255
    assert (1, "clipped") in kinds(check_pictures(edited(images, 1, burnt)))


def test_another_size_and_a_picture_on_its_side_are_told() -> None:
    images = gears(4)
    (found,) = [f for f in check_pictures(edited(images, 1, np.rot90(images[1]))) if f.kind is Kind.SIZE]
    assert "on its side" in found.reason
    smaller = cv2.resize(images[2], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert (2, "size") in kinds(check_pictures(edited(images, 2, smaller)))


def test_copies_are_found_exact_or_with_the_cameras_noise() -> None:
    images = gears(5)
    rng = np.random.default_rng(0)
    noisy = np.clip(images[0] + rng.normal(0, 2, images[0].shape), 0, 255)
    found = check_pictures(edited(edited(images, 3, images[1]), 4, noisy))
    assert kinds(found) == [(3, "duplicate"), (4, "duplicate")]
    assert "the same picture as number 2" in found[0].reason
    assert "nearly the same picture as number 1" in found[1].reason


def test_pictures_of_one_moment_have_too_little_variation() -> None:
    rng = np.random.default_rng(0)
    one = gears(1)[0].astype(np.float32)
    burst = [np.clip(one + rng.normal(0, 2, one.shape), 0, 255).astype(np.uint8) for _ in range(5)]
    found = check_pictures(burst)
    assert (0, "low_variation") in kinds(found)
    assert "these 5 are nearly the same moment" in found[0].reason


def test_a_reference_far_from_the_others_is_an_outlier_and_one_that_differs_everywhere_another_product() -> None:
    usual = [Mutual(1.0 + 0.02 * place, 0.01, *[0.3 + 0.01 * place] * 3) for place in range(7)]
    assert check_scores(usual) == []
    one_place = Mutual(1.1, 0.02, 0.4, 0.6, 0.3)  # and a usual score
    assert kinds(check_scores([*usual, one_place])) == [(7, "outlier")]
    assert kinds(check_scores([*usual, Mutual(2.6, 0.8, 0.3, 0.3, 0.3)])) == [(7, "wrong_product")]
    assert kinds(check_scores([*usual, Mutual(2.6, 0.1, 0.3, 0.3, 0.3)])) == []
    few = [Mutual(1.0, 0.0, 0.3, 0.3, 0.3), Mutual(9.0, 0.9, 0.9, 0.9, 0.9)]
    assert check_scores(few) == []  # too few to say which one is odd


def test_a_finding_is_stored_without_its_place() -> None:
    record = Finding(3, Kind.DARK, "mean grey level 5 of 255", 5.0).record()
    assert record == {"kind": "dark", "reason": "mean grey level 5 of 255", "score": 5.0}
