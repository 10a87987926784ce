"""How references look to each other: a place that nobody explains stands out, a picture that differs as a whole does not."""

import cv2
import numpy as np
import pytest

from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import mutual_of
from inspector.detection.encoder import load_encoder
from inspector.hygiene import OUTLIER_STRENGTH, Kind, check_scores
from inspector.mutual import Maps, Mutual, mutual, strengths
from inspector.training.episodes import HELD_OUT_FROM
from inspector.training.products import ProductFamily
from inspector.types import ImageArray

SIDE_PX = 256


def maps(count: int, seed: int = 0) -> Maps:
    """Maps of good pictures: the same relief in each, and a little of its own."""
    rng = np.random.default_rng(seed)
    shared = rng.uniform(0.1, 0.3, (32, 32))
    own = rng.uniform(0.9, 1.1, (count, 32, 32)) * shared
    return np.asarray(np.kron(own, np.ones((8, 8))), np.float32)


def told(given: Maps, gaps: Maps | None = None) -> list[float]:
    """What is told of maps whose pictures lack nothing, or what `gaps` say."""
    return strengths(mutual(given.max(axis=(1, 2)).tolist(), given, maps(len(given), 1) if gaps is None else gaps))


def spotted(given: Maps) -> Maps:
    """The same with two by two patches on the last that no other shows."""
    more = given.copy()
    more[-1, 100:116, 40:56] += 0.25
    return more


def test_a_place_that_no_other_shows_stands_out() -> None:
    given = spotted(maps(9))
    assert given[8].mean() < 1.02 * given[:8].mean()
    found = told(given)
    assert found[8] > OUTLIER_STRENGTH
    assert max(found[:8]) < OUTLIER_STRENGTH


def test_a_place_that_all_others_show_and_one_does_not_stands_out_a_little() -> None:
    gaps = maps(9, 1)
    found, usual = told(maps(9), spotted(gaps)), told(maps(9), gaps)
    assert int(np.argmax(found)) == 8
    assert found[8] > usual[8] + 0.5


def test_a_picture_that_differs_everywhere_by_the_same_does_not_stand_out_as_one_with_an_odd_place() -> None:
    given = maps(9)
    given[8] *= 1.2
    assert told(given)[8] < 0.5 * told(spotted(maps(9)))[8]


def test_a_peak_on_a_restless_background_counts_less() -> None:
    given, restless = spotted(maps(9)), spotted(maps(9))
    odd = np.random.default_rng(3).uniform(size=(32, 32)) < 0.2  # a fifth of the picture is a little odd
    odd[12:15, 5:7] = False  # but not the spot itself
    restless[8] += 0.08 * np.kron(odd, np.ones((8, 8))).astype(np.float32)
    calm, noisy = (mutual([0.0] * 9, one, maps(9, 1))[8] for one in (given, restless))
    assert noisy.level >= calm.level
    assert noisy.contrast < calm.contrast


def test_the_order_of_the_references_changes_nothing_but_the_order() -> None:
    given, gaps = spotted(maps(9)), maps(9, 1)
    order = np.random.default_rng(1).permutation(9)
    assert np.asarray(told(given, gaps))[order] == pytest.approx(told(given[order], gaps[order]), abs=1e-4)


def test_one_reference_has_nothing_to_be_compared_with() -> None:
    assert mutual([1.0], maps(1), maps(1)) == ()


def test_equal_references_are_equally_usual() -> None:
    assert strengths([Mutual(1.0, 0.01, 0.3, 0.3, 0.3)] * 6) == [0.0] * 6


@pytest.mark.parametrize("count", [9, 20])
def test_a_picture_without_what_all_others_show_has_the_greatest_gap(count: int) -> None:
    """Its bare ground is explained by theirs, so that its own map says nothing; with twenty only some are the others."""
    pictures = [_plate(seed, marked=seed != 4) for seed in range(count)]
    encoder = load_encoder(EncoderConfig())
    found = mutual_of(encoder, ResidualBank.build(encoder, pictures))
    gaps, levels = [one.gap for one in found], [one.level for one in found]
    assert int(np.argmax(gaps)) == 4
    assert gaps[4] > 1.5 * max(gaps[:4] + gaps[5:])
    assert levels[4] < 1.2 * max(levels[:4] + levels[5:])


def _plate(seed: int, *, marked: bool) -> ImageArray:
    """A grey plate with grain, and with a ring on it."""
    image = np.random.default_rng(seed).normal(128, 6, (SIDE_PX, SIDE_PX, 3))
    if marked:
        cv2.circle(image, (150, 100), 20, (200.0, 60.0, 60.0), 6)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("index", [202, 206, 215])
def test_a_planted_defect_is_named_among_eight_good_references(index: int) -> None:
    """Of 202 and 206 the image scores alone say nothing: they lie within four spreads of the good ones'."""
    family, rng = ProductFamily(HELD_OUT_FROM + index), np.random.default_rng(index)
    good = [family.draw(rng, SIDE_PX) for _ in range(8)]
    bad = next(one for _ in range(99) if (one := family.draw_defective(rng, SIDE_PX)).mask.mean() > 0.01)
    encoder = load_encoder(EncoderConfig())
    found = check_scores(mutual_of(encoder, ResidualBank.build(encoder, [*good, bad.image])))
    assert {finding.kind for finding in found} == {Kind.OUTLIER}
    assert max(found, key=lambda finding: finding.score).index == 8
    assert len(found) <= 2  # of 202 a good one is named too
