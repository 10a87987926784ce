"""The measures agree with scikit-learn and with a slow AUPRO that sweeps every threshold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from inspector.evaluation.metrics import FPR_LIMIT, PixelCounts, Ranking

SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40)


@given(SCORES, SCORES)
def test_rankings_of_pictures_agree_with_scikit_learn(good: list[float], bad: list[float]) -> None:
    truth, scores = [0] * len(good) + [1] * len(bad), good + bad
    found = Ranking.of_scores(np.array(good, np.float64), np.array(bad, np.float64))
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert found.average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    assert found.f1_max == pytest.approx(f1.max(), abs=1e-9)


@pytest.mark.parametrize(("good", "bad"), [([], [1.0]), ([1.0], []), ([], [])])
def test_one_side_alone_has_no_measure(good: list[float], bad: list[float]) -> None:
    found = Ranking.of_scores(np.array(good, np.float64), np.array(bad, np.float64))
    assert (found.auroc, found.average_precision, found.f1_max, found.curve()) == (None, None, None, [])


def maps_and_masks(seed: int, pictures: int = 4, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Random blobs as defects, scores that know a little of them; the last picture is good."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((pictures, side, side), np.bool_)
    for mask in masks[:-1]:
        for _ in range(int(rng.integers(1, 4))):
            y, x = rng.integers(0, side - 5, 2)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    maps = rng.normal(0, 1, masks.shape) + masks * rng.uniform(0, 2)
    return maps.astype(np.float32), masks


def slow_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Every threshold, every region, by hand."""
    regions = []
    for number, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [(number, labels == each) for each in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        fpr = above[~masks].mean()
        overlap = np.mean([above[number][region].mean() for number, region in regions])
        points.append((float(fpr), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= FPR_LIMIT:
            break
        end = min(x1, FPR_LIMIT)
        y_end = y0 + (y1 - y0) * ((end - x0) / (x1 - x0) if x1 > x0 else 1.0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / FPR_LIMIT


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_measures_of_pixels_agree_with_scikit_learn_and_a_slow_sweep(seed: int) -> None:
    maps, masks = maps_and_masks(seed)
    counts = PixelCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)

    assert counts.ranking.auroc == pytest.approx(roc_auc_score(masks.reshape(-1), maps.reshape(-1)), abs=1e-3)
    wanted = average_precision_score(masks.reshape(-1), maps.reshape(-1))
    assert counts.ranking.average_precision == pytest.approx(wanted, abs=2e-3)
    assert counts.aupro == pytest.approx(slow_aupro(maps, masks), abs=2e-3)


def test_a_perfect_map_has_aupro_1_and_a_constant_one_what_chance_gives() -> None:
    _, masks = maps_and_masks(1)
    perfect, constant = PixelCounts(), PixelCounts()
    for mask in masks:
        perfect.add(mask.astype(np.float32), mask)
        constant.add(np.full(mask.shape, 0.5, np.float32), mask)

    assert perfect.aupro == pytest.approx(1.0)
    assert perfect.ranking.auroc == pytest.approx(1.0)
    assert constant.ranking.auroc == pytest.approx(0.5)
    assert constant.aupro == pytest.approx(FPR_LIMIT / 2)


def test_several_thresholds_at_the_very_limit_count_from_the_first() -> None:
    """Ten normal pixels: the third brings the rate to 0.3, and defects that are found only after it come too late."""
    values = np.array([[10, 9, 8, 7, 6, 5, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    mask = np.zeros((1, 13), np.bool_)
    mask[0, [3, 4, 5]] = True  # one region, found after three normal pixels
    counts = PixelCounts()
    counts.add(values, mask)
    assert counts.aupro == pytest.approx(slow_aupro(values[None], mask[None]), abs=1e-6)
    assert counts.aupro == 0.0


def test_good_pictures_alone_have_no_measure_of_pixels() -> None:
    counts = PixelCounts()
    counts.add(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.bool_))
    assert (counts.aupro, counts.ranking.auroc) == (None, None)


def test_negative_scores_rank_below_positive_ones() -> None:
    counts = PixelCounts()
    counts.add(np.array([[-3.0, -1e-3], [0.0, 2.0]], np.float32), np.array([[False, False], [False, True]]))
    counts.add(np.array([[-2.0, -5.0], [-4.0, -6.0]], np.float32), np.array([[True, False], [False, False]]))
    assert counts.ranking.auroc == pytest.approx((6 + 4) / 12)  # 2 beats all six, −2 the four below it
