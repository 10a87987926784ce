"""Thresholds from a handful of normal scores: their properties, and the verdicts they lead to."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.detection.calibration import calibrate, decide
from inspector.errors import CalibrationError
from inspector.types import Verdict

SCORES = st.lists(st.floats(0.05, 5.0), min_size=1, max_size=30)


@given(SCORES)
def test_the_threshold_is_above_the_median(scores: list[float]) -> None:
    assert calibrate(scores, len(scores)).threshold > float(np.median(scores))


@given(SCORES, st.floats(0.01, 100.0))
def test_the_threshold_follows_the_scale_of_the_scores(scores: list[float], factor: float) -> None:
    plain = calibrate(scores, len(scores)).threshold
    scaled = calibrate([factor * score for score in scores], len(scores)).threshold

    assert scaled == pytest.approx(factor * plain, rel=1e-3)


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_references_does_not_matter(scores: list[float], random: object) -> None:
    shuffled = scores.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert calibrate(shuffled, len(shuffled)).threshold == pytest.approx(calibrate(scores, len(scores)).threshold)


@given(st.lists(st.floats(0.4, 0.6), min_size=5, max_size=20), st.floats(1.0, 1e6))
def test_one_odd_reference_moves_the_threshold_little_however_odd_it_is(scores: list[float], odd: float) -> None:
    """Never the largest score: a defect that was taken for a reference must not let its like pass."""
    threshold = calibrate([*scores, odd], len(scores) + 1).threshold

    assert threshold < 1.0
    assert decide(odd, threshold) is Verdict.NG


def test_references_that_look_all_the_same_still_leave_a_margin() -> None:
    assert calibrate([0.5, 0.5, 0.5], 3).threshold > 0.5 * 1.05


def test_fewer_references_give_a_wider_margin() -> None:
    """Of the same scores: n is not the number of scores where few references lend mild variations."""
    thresholds = [calibrate([0.4, 0.5, 0.6], n).threshold for n in (1, 2, 4)]

    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == 3


def test_wider_spread_gives_a_wider_margin() -> None:
    narrow, wide = ([0.5 - d, 0.5, 0.5 + d] * 4 for d in (0.05, 0.2))

    assert calibrate(wide, 12).threshold > calibrate(narrow, 12).threshold


def test_scores_near_zero_do_not_make_the_margin_vanish() -> None:
    """Text terms are negative for normal pictures and can bring the sum to zero; the visual term's size remains."""
    assert calibrate([0.0, 0.001, -0.001], 3, scale=0.5).threshold > 0.03


def test_a_calibration_says_what_it_rests_on() -> None:
    calibration = calibrate([0.5, 0.6], 2)

    assert (calibration.kind, calibration.n, calibration.scores) == ("provisional", 2, (0.5, 0.6))


@pytest.mark.parametrize("scores", [[], [0.5, nan], [inf]])
def test_no_threshold_comes_from_scores_that_are_missing_or_not_finite(scores: list[float]) -> None:
    with pytest.raises(CalibrationError):
        calibrate(scores, len(scores))


@pytest.mark.parametrize(
    ("score", "threshold", "verdict"),
    [
        (0.4, 0.5, Verdict.OK),
        (0.5, 0.5, Verdict.NG),
        (0.6, 0.5, Verdict.NG),
        (nan, 0.5, Verdict.NONE),
        (inf, 0.5, Verdict.NONE),
        (-inf, 0.5, Verdict.NONE),
        (0.4, nan, Verdict.NONE),
    ],
)
def test_only_a_finite_score_below_the_threshold_is_ok(score: float, threshold: float, verdict: Verdict) -> None:
    assert decide(score, threshold) is verdict
