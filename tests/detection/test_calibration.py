"""Thresholds from a handful of normal scores: their properties, and the verdicts they lead to."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # comes with scikit-learn

from inspector.detection.calibration import (
    calibrate,
    calibrate_confirmed,
    decide,
    fit_tail,
    p_value,
    relative_spread,
)
from inspector.errors import CalibrationError
from inspector.promises import (
    conformal_rank,
    exceedance_bound,
    exceedance_chance,
    false_reject_bound,
    interval,
    needed_for,
)
from inspector.types import Step, Verdict

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


def test_the_bounds_are_those_that_the_page_prints() -> None:
    """n = 19: 5 % expected and at most 14.6 %; n = 99: 1 % and 3.0 %."""
    for n, rate, bound in ((19, 0.05, 0.146), (99, 0.01, 0.0298), (9, 0.1, 0.283)):
        found = calibrate_confirmed(list(range(n)))
        assert found.kind is Step.CONFIRMED
        assert found.rate == pytest.approx(rate)
        assert found.bound == pytest.approx(1 - 0.05 ** (1 / n))
        assert found.bound == pytest.approx(bound, abs=5e-4)


@given(st.integers(9, 60), st.integers(0, 8))
def test_the_bound_is_the_quantile_of_the_beta_distribution_of_an_order_statistic(n: int, below: int) -> None:
    rank = n - below
    assert false_reject_bound(n, rank) == pytest.approx(stats.beta.ppf(0.95, n + 1 - rank, rank), abs=1e-6)


def test_the_largest_confirmed_score_is_still_ok_and_what_lies_above_is_not() -> None:
    found = calibrate_confirmed([0.1 * k for k in range(1, 11)])
    assert decide(1.0, found.threshold) is Verdict.OK
    assert decide(1.0001, found.threshold) is Verdict.NG


@pytest.mark.parametrize(("n", "target", "rejected"), [(19, 0.05, 0), (39, 0.05, 1), (99, 0.05, 4), (99, 0.01, 0)])
def test_a_wished_rate_takes_the_order_statistic_that_keeps_it(n: int, target: float, rejected: int) -> None:
    found = calibrate_confirmed(list(range(n)), target=target)
    assert found.kind is Step.CONFORMAL
    assert sum(decide(score, found.threshold) is Verdict.NG for score in range(n)) == rejected
    assert found.rate is not None
    assert found.rate <= target


def test_a_wish_that_n_cannot_support_is_refused_with_the_n_that_would() -> None:
    with pytest.raises(CalibrationError, match=r"needs 99 confirmed good parts, but there are 50; with 50, 2\.0 %"):
        calibrate_confirmed(list(range(50)), target=0.01)
    with pytest.raises(CalibrationError, match="confirm 4 more"):
        calibrate_confirmed(list(range(5)))
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibrate_confirmed(list(range(50)), target=1.5)


@given(st.integers(9, 120), st.floats(0.001, 0.5))
def test_every_supported_wish_is_kept_and_every_other_one_refused(n: int, target: float) -> None:
    if n < needed_for(target):
        with pytest.raises(CalibrationError):
            conformal_rank(n, target)
        return
    rank = conformal_rank(n, target)
    assert 1 <= rank <= n
    assert (n + 1 - rank) / (n + 1) <= target + 1e-9
    assert rank == 1 or (n + 2 - rank) / (n + 1) > target - 1e-6  # one rank lower would exceed it


def test_the_promise_is_kept_in_simulated_production() -> None:
    rng = np.random.default_rng(0)
    achieved, held = [], 0
    for _ in range(400):
        calibration = calibrate_confirmed(rng.lognormal(0.0, 0.5, 19).tolist())
        rate = float((rng.lognormal(0.0, 0.5, 4000) >= calibration.threshold).mean())
        achieved.append(rate)
        assert calibration.bound is not None
        held += rate <= calibration.bound
    assert np.mean(achieved) == pytest.approx(0.05, abs=0.01)
    assert held / 400 >= 0.92


def test_the_grey_zone_lies_between_accept_and_reject() -> None:
    found = calibrate_confirmed([0.1 * k for k in range(1, 20)], grey=1.0)
    assert found.reject_threshold is not None
    middle = 0.5 * (found.threshold + found.reject_threshold)
    verdicts = [decide(score, found.threshold, found.reject_threshold) for score in (0.5, middle, 9.0)]
    assert verdicts == [Verdict.OK, Verdict.UNDECIDED, Verdict.NG]
    assert decide(0.5, found.threshold, nan) is Verdict.NONE


def test_p_values_count_the_confirmed_scores_and_never_promise_more_than_they_can() -> None:
    scores = list(range(1, 20))
    assert p_value(0.5, scores) == 1.0
    assert p_value(19.0, scores) == pytest.approx(0.1)
    assert p_value(1e9, scores) == pytest.approx(0.05)


def test_a_tail_is_fitted_from_thirty_excesses_on_and_is_near_the_truth() -> None:
    rng = np.random.default_rng(1)
    assert fit_tail(rng.exponential(1.0, 299)) is None
    tail = fit_tail(rng.exponential(1.0, 4000))
    assert tail is not None
    for score in (4.0, 6.0):
        assert tail.survival(score) == pytest.approx(np.exp(-score), rel=0.5)
    bounded = fit_tail(rng.uniform(0.0, 1.0, 4000))
    assert bounded is not None
    assert bounded.survival(1.2) < 1e-6
    many = rng.exponential(1.0, 400)
    assert p_value(30.0, many.tolist()) < 1e-3 < 1 / 401


def test_other_products_of_the_station_widen_or_narrow_the_margin_of_a_new_one() -> None:
    calm = [calibrate([1.0, 1.01, 0.99, 1.0], 4) for _ in range(6)]
    restless = [calibrate([1.0, 1.5, 0.6, 1.3], 4) for _ in range(6)]
    narrow, wide = (calibrate([1.0, 1.02], 2, prior=relative_spread(others)).threshold for others in (calm, restless))
    assert narrow < calibrate([1.0, 1.02], 2).threshold < wide
    assert relative_spread([]) == pytest.approx(0.05)


def test_a_calibration_says_in_words_what_it_promises() -> None:
    assert calibrate([0.5, 0.6], 2).promise == "provisional, n = 2: no rate is promised"
    assert calibrate_confirmed(list(range(19))).promise == (
        "confirmed, n = 19: false rejects 5.0 % expected, at most 14.6 % (95 %)"
    )


@given(st.integers(1, 80), st.data())
def test_intervals_of_a_share_are_the_exact_ones(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    found, expected = interval(count, n), stats.binomtest(count, n).proportion_ci(0.95, "exact")
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(st.integers(1, 40), st.data(), st.integers(1, 60))
def test_how_many_of_the_next_parts_exceed_a_confirmed_one_is_beta_binomial(
    n: int, data: st.DataObject, m: int
) -> None:
    rank, count = data.draw(st.integers(1, n)), data.draw(st.integers(0, m))
    judged = stats.betabinom(m, n + 1 - rank, rank)
    assert exceedance_chance(n, rank, m, count) == pytest.approx(judged.cdf(count), abs=1e-9)
    bound = exceedance_bound(n, rank, m)
    assert exceedance_chance(n, rank, m, bound) >= 0.95
    assert bound == 0 or exceedance_chance(n, rank, m, bound - 1) < 0.95


@pytest.mark.parametrize(("n", "rank", "m"), [(9, 9, 36), (19, 19, 26), (99, 99, 17), (39, 38, 20)])
def test_simulated_parts_keep_the_bound_for_as_many_as_there_are(n: int, rank: int, m: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.lognormal(size=(20_000, n + m))
    thresholds = np.sort(scores[:, :n], axis=1)[:, rank - 1 : rank]
    counts = (scores[:, n:] > thresholds).sum(axis=1)
    bound = exceedance_bound(n, rank, m)
    kept = float((counts <= bound).mean())
    assert kept == pytest.approx(exceedance_chance(n, rank, m, bound), abs=0.006)
    assert kept >= 0.95 - 0.006
    assert (
        counts <= false_reject_bound(n, rank) * m
    ).mean() < kept  # the bound in the long run is not one for few parts


def test_the_bound_for_many_parts_is_the_one_in_the_long_run() -> None:
    assert exceedance_bound(99, 99, 20_000) / 20_000 == pytest.approx(false_reject_bound(99, 99), rel=2e-3)


@pytest.mark.parametrize(("n", "rank", "m"), [(9, 10, 5), (9, 0, 5), (9, 9, 0)])
def test_a_rank_or_a_number_of_parts_that_cannot_be_is_refused(n: int, rank: int, m: int) -> None:
    with pytest.raises(CalibrationError, match="expected a rank"):
        exceedance_chance(n, rank, m, 1)


def test_confirmed_parts_that_became_references_count_as_parts_above_the_threshold() -> None:
    found = calibrate_confirmed([0.1 * k for k in range(1, 18)], above=2)
    assert (found.n, found.rate) == (19, 3 / 20)
    assert found.bound == pytest.approx(false_reject_bound(19, 17))
    assert found.threshold == pytest.approx(1.7)
    with pytest.raises(
        CalibrationError, match=r"2 of 19 confirmed good parts became references.*15\.0 % can be wished"
    ):
        calibrate_confirmed([0.1 * k for k in range(1, 18)], above=2, target=0.1)


def test_the_promise_holds_whichever_of_the_confirmed_parts_became_references() -> None:
    rng = np.random.default_rng(7)
    rates = []
    for _ in range(4000):
        scores = np.sort(rng.lognormal(size=19))
        found = calibrate_confirmed(scores[:-2].tolist(), above=2)  # the two worst, as people choose them
        rates.append(float((rng.lognormal(size=50) >= found.threshold).mean()))
    assert np.mean(rates) == pytest.approx(found.rate, abs=0.006)
