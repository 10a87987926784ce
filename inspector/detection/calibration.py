"""The threshold of a product from a handful of normal scores, and the verdict it leads to.

With few good pictures and no bad ones no rate can be promised, so the step is called "provisional". The threshold is
the median of leave-one-out scores plus a margin for their robust spread: never the largest or smallest score (one odd
reference would move it at will), never a constant (scores of different encoders and products differ in scale).
"""

from collections.abc import Sequence
from math import isfinite

import numpy as np
import numpy.typing as npt

from inspector.errors import CalibrationError
from inspector.types import Calibration, Verdict

PROVISIONAL = "provisional"
MARGIN_SIGMAS = 2.0
MAD_TO_SIGMA = 1.4826
"""For normally distributed values σ = 1.4826 · MAD."""
PRIOR_SIGMA_FRACTION = 0.05
PRIOR_WEIGHT = 8
"""A spread from few scores is known badly: it is shrunk toward 5 % of their scale, which counts like eight scores."""


def calibrate(scores: Sequence[float], references: int, *, scale: float | None = None) -> Calibration:
    """Provisional threshold from normal scores; `references` is the n that is shown.

    threshold = median + 2·(1 + 1/n)·σ, where σ is the robust spread 1.4826·MAD of the scores, shrunk toward 5 % of
    `scale`. Leave-one-out scores come from a smaller bank and are rather too high, so the margin is kept small: a good
    part that is looked at twice costs less than a bad one that passes.

    `scale` is the usual size of the visual term, which is never negative; default: |median|. Text terms can bring the
    sum of a normal picture near to zero, and 5 % of that would be no margin at all.

    Raises:
        CalibrationError: no score, or one that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or references < 1:
        raise CalibrationError("no normal score to calibrate with; give at least one reference")
    if not np.isfinite(values).all():
        raise CalibrationError("a normal score is not finite; check the encoder's precision and the references")
    return Calibration(
        kind=PROVISIONAL,
        n=references,
        threshold=robust_limit(values, references, scale=scale),
        scores=tuple(float(value) for value in values),
    )


def robust_limit(values: npt.NDArray[np.float64], n: int, *, scale: float | None = None) -> float:
    """Median plus margin of normal values; see `calibrate`."""
    median = float(np.median(values))
    mad = float(np.median(np.abs(values - median)))
    prior = PRIOR_SIGMA_FRACTION * (abs(median) if scale is None else scale)
    sigma = max((PRIOR_WEIGHT * prior + len(values) * MAD_TO_SIGMA * mad) / (PRIOR_WEIGHT + len(values)), 1e-6)
    return median + MARGIN_SIGMAS * (1.0 + 1.0 / n) * sigma


def decide(score: float, threshold: float) -> Verdict:
    """OK below the threshold, NG from it on; NONE if one of the two is no finite number."""
    if not (isfinite(score) and isfinite(threshold)):
        return Verdict.NONE
    return Verdict.OK if score < threshold else Verdict.NG
