"""Measures of ranking and of localisation, from counts at descending thresholds. numpy and OpenCV only.

Pixels are not kept: their scores go into histograms whose bins are the leading 20 bits of a float32, so that a set of any
size takes the same memory. Two pixels whose scores differ by less than 1/2048 count as equal.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inspector.types import MapArray

KEY_BITS = 20
FPR_LIMIT = 0.3
"""AUPRO is integrated up to this false positive rate, as published figures are."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """True and false positives at each distinct threshold, descending; both start at 0."""

    tp: Floats
    fp: Floats

    @classmethod
    def of_scores(cls, good: Floats, bad: Floats) -> "Ranking":
        """From the scores of good and bad pictures; equal scores share a threshold."""
        values, place = np.unique(np.concatenate([good, bad]), return_inverse=True)
        counts = [np.bincount(part, minlength=len(values)) for part in (place[len(good) :], place[: len(good)])]
        return cls.of_counts(counts[0].astype(np.float64), counts[1].astype(np.float64))

    @classmethod
    def of_counts(cls, bad: Floats, good: Floats) -> "Ranking":
        """From how many of each lie in bins of ascending score."""
        used = (bad + good) > 0
        return cls(_falling(bad[used]), _falling(good[used]))

    @property
    def _is_defined(self) -> bool:
        return bool(self.tp[-1] > 0 and self.fp[-1] > 0)

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve; None where one of the two sides is empty."""
        if not self._is_defined:
            return None
        return float(np.trapezoid(self.tp / self.tp[-1], self.fp / self.fp[-1]))

    @property
    def average_precision(self) -> float | None:
        """Precision averaged over the steps of recall."""
        if not self._is_defined:
            return None
        tp, fp = self.tp[1:], self.fp[1:]
        return float(np.sum(np.diff(self.tp / self.tp[-1]) * tp / (tp + fp)))

    @property
    def f1_max(self) -> float | None:
        """Largest F1 over all thresholds: an oracle, never a threshold to deploy."""
        if not self._is_defined:
            return None
        tp, fp = self.tp[1:], self.fp[1:]
        return float(np.max(2 * tp / (tp + fp + self.tp[-1])))

    def curve(self, points: int = 200) -> list[tuple[float, float]]:
        """False and true positive rates for drawing, at most so many."""
        if not self._is_defined:
            return []
        keep = np.unique(np.linspace(0, len(self.tp) - 1, min(points, len(self.tp))).astype(int))
        rates = np.stack([self.fp[keep] / self.fp[-1], self.tp[keep] / self.tp[-1]], axis=1)
        return [(round(float(x), 5), round(float(y), 5)) for x, y in rates]


class PixelCounts:
    """Adds up the pixels of one picture after the other, in memory that does not grow."""

    def __init__(self) -> None:
        self._good = np.zeros(1 << KEY_BITS)
        self._bad = np.zeros(1 << KEY_BITS)
        self._regions = np.zeros(1 << KEY_BITS)
        self.regions = 0
        self.pictures = 0

    def add(self, anomaly_map: MapArray, mask: npt.NDArray[np.bool_]) -> None:
        """Add a raw map and its mask of the same shape; a good picture has an empty one."""
        keys = _keys(anomaly_map)
        self.pictures += 1
        self._good += np.bincount(keys[~mask], minlength=1 << KEY_BITS)
        if not mask.any():
            return
        self._bad += np.bincount(keys[mask], minlength=1 << KEY_BITS)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        areas = np.bincount(labels.reshape(-1), minlength=count).astype(np.float64)
        self._regions += np.bincount(keys[mask], weights=1.0 / areas[labels[mask]], minlength=1 << KEY_BITS)
        self.regions += count - 1

    @property
    def ranking(self) -> Ranking:
        """Pixels of defects against all others."""
        return Ranking.of_counts(self._bad, self._good)

    @property
    def aupro(self) -> float | None:
        """Mean overlap of the regions, integrated over false positive rates up to 0.3 and divided by 0.3."""
        normal = self._good.sum()
        if not self.regions or not normal:
            return None
        used = (self._good + self._regions) > 0
        fpr = _falling(self._good[used]) / normal
        overlap = _falling(self._regions[used]) / self.regions
        first = int(np.searchsorted(fpr, FPR_LIMIT))  # the first point at or beyond the limit; the curve starts at 0
        share = (FPR_LIMIT - fpr[first - 1]) / (fpr[first] - fpr[first - 1])
        limit = overlap[first - 1] + share * (overlap[first] - overlap[first - 1])
        x, y = np.append(fpr[:first], FPR_LIMIT), np.append(overlap[:first], limit)
        return float(np.trapezoid(y, x) / FPR_LIMIT)


def _falling(counts: Floats) -> Floats:
    """How many lie at or above each bin, from the highest bin down, after a leading 0."""
    return np.concatenate([[0.0], np.cumsum(counts[::-1])])


def _keys(values: MapArray) -> npt.NDArray[np.int64]:
    """Bins whose order is that of the values: the bits of a float32, turned so that negative ones come first."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    negative = (bits >> np.uint32(31)).astype(np.bool_)
    ordered = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> np.uint32(32 - KEY_BITS)).astype(np.int64)
