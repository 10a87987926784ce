"""Spread of a few numbers, some of which may be odd. numpy only."""

import numpy as np
import numpy.typing as npt

MAD_TO_SIGMA = 1.4826
"""For normally distributed values σ = 1.4826 · MAD."""
PRIOR_FRACTION = 0.05
PRIOR_WEIGHT = 8
"""A spread from few values is known badly: it is shrunk toward 5 % of their size, which counts like eight values."""
LEAST = 1e-6

Values = npt.NDArray[np.float64]


def mad_sigma(values: Values) -> float:
    """1.4826 times the median distance from the median."""
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def shrunk_sigma(values: Values, expected: float | None = None) -> float:
    """Robust spread, shrunk toward `expected`, or toward 5 % of the median's size; never zero."""
    prior = PRIOR_FRACTION * abs(float(np.median(values))) if expected is None else expected
    return max((PRIOR_WEIGHT * prior + len(values) * mad_sigma(values)) / (PRIOR_WEIGHT + len(values)), LEAST)
