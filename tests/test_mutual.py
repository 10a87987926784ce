"""How references look to each other: a place that nobody explains stands out, a picture that differs as a whole does not."""

import numpy as np
import pytest

from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import mutual_of
from inspector.detection.encoder import load_encoder
from inspector.hygiene import Kind, check_scores
from inspector.mutual import Maps, Mutual, mutual, peaks, strengths
from inspector.training.episodes import HELD_OUT_FROM
from inspector.training.products import ProductFamily

SIDE_PX = 256


def maps(count: int, seed: int = 0) -> Maps:
    """Maps of good pictures: the same relief in each, and a little of its own."""
    rng = np.random.default_rng(seed)
    shared = rng.uniform(0.1, 0.3, (32, 32))
    own = rng.uniform(0.9, 1.1, (count, 32, 32)) * shared
    return np.asarray(np.kron(own, np.ones((8, 8))), np.float32)


def told(given: Maps) -> list[float]:
    return strengths(mutual(given.max(axis=(1, 2)).tolist(), given))


def test_a_place_that_no_other_shows_stands_out() -> None:
    given = maps(9)
    given[8, 100:116, 40:56] += 0.25  # two by two patches
    assert given[8].mean() < 1.02 * given[:8].mean()
    found = told(given)
    assert found[8] > 2.1
    assert max(found[:8]) < 2.1


def test_a_picture_that_differs_everywhere_by_the_same_does_not_stand_out_by_its_peak() -> None:
    given = maps(9)
    given[8] *= 1.3
    assert peaks(given)[8] < 1.5 * peaks(given)[:8].max()
    assert told(given)[8] < told(_spotted(given))[8]


def _spotted(given: Maps) -> Maps:
    spotted = given.copy()
    spotted[8, 100:116, 40:56] += 0.3
    return spotted


def test_the_order_of_the_references_changes_nothing_but_the_order() -> None:
    given = _spotted(maps(7 + 2))
    order = np.random.default_rng(1).permutation(9)
    assert np.asarray(told(given))[order] == pytest.approx(told(given[order]), abs=1e-4)


def test_one_reference_has_nothing_to_be_compared_with() -> None:
    assert mutual([1.0], maps(1)) == ()


def test_equal_references_are_equally_usual() -> None:
    assert strengths([Mutual(1.0, 0.01, 0.3)] * 6) == [0.0] * 6


@pytest.mark.parametrize("index", [202, 206, 215])
def test_a_planted_defect_is_named_among_eight_good_references(index: int) -> None:
    """Of 202 and 206 the image scores alone say nothing: they lie within four spreads of the good ones'."""
    family, rng = ProductFamily(HELD_OUT_FROM + index), np.random.default_rng(index)
    good = [family.draw(rng, SIDE_PX) for _ in range(8)]
    bad = next(one for _ in range(99) if (one := family.draw_defective(rng, SIDE_PX)).mask.mean() > 0.01)
    encoder = load_encoder(EncoderConfig())
    found = check_scores(mutual_of(encoder, ResidualBank.build(encoder, [*good, bad.image])))
    assert [(finding.index, finding.kind) for finding in found] == [(8, Kind.OUTLIER)]
