"""The threshold of a product: a ladder of three steps, each with what it promises, and the verdict it leads to.

1. provisional: leave-one-out scores of the references alone. The median plus a margin for their robust spread: never the
   largest or smallest score (one odd reference would move it at will), never a constant. No rate is promised.
2. confirmed: scores of at least nine parts that were confirmed good. Their largest score; the expected rate of false
   rejects is 1/(n+1), and with 95 % confidence it is at most 1 − 0.05^(1/n).
3. conformal: the order statistic that the operator's wished rate asks for. A wish that n cannot support is refused.

Split-conformal prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World"; the bound is the exact
binomial one for an order statistic (Clopper and Pearson). Both hold for parts that are exchangeable with the confirmed
ones: same product, camera, light and supplier; they say nothing of defects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, nextafter

import numpy as np
import numpy.typing as npt

from inspector.errors import CalibrationError
from inspector.promises import MIN_CONFIRMED, conformal_rank, false_reject_bound
from inspector.robust import PRIOR_FRACTION, mad_sigma, shrunk_sigma
from inspector.types import Calibration, Step, Verdict

MARGIN_SIGMAS = 2.0
SINGLE_MARGIN_SIGMAS = 5.0
"""Of one reference only its own variations can be scored, and good parts score 1.2 times them in the median (measured)."""
MIN_EXCESSES = 30
TAIL_FRACTION = 0.1
"""The upper tenth of the scores is taken as their tail, if it holds at least 30."""


def calibrate(
    scores: Sequence[float], references: int, *, scale: float | None = None, prior: float = PRIOR_FRACTION
) -> Calibration:
    """Provisional threshold from normal scores; `references` is the n that is shown.

    threshold = median + 2·(1 + 1/n)·σ (5·σ for n = 1), where σ is the robust spread 1.4826·MAD of the scores, shrunk
    toward `prior` times `scale`. Leave-one-out scores come from a smaller bank and are rather too high, so the margin is
    kept small: a good part that is looked at twice costs less than a bad one that passes.

    `scale` is the usual size of the visual term, which is never negative; default: |median|. Text terms can bring the
    sum of a normal picture near to zero, and 5 % of that would be no margin at all. `prior` is what other products of
    the station showed (`relative_spread`), or 5 %.

    Raises:
        CalibrationError: no score, or one that is not finite.
    """
    values = _checked(scores)
    if references < 1:
        raise CalibrationError("no normal score to calibrate with; give at least one reference")
    return Calibration(
        kind=Step.PROVISIONAL,
        n=references,
        threshold=robust_limit(values, references, scale=scale, prior=prior),
        scores=tuple(values.tolist()),
    )


def calibrate_confirmed(
    scores: Sequence[float], *, target: float | None = None, grey: float = 0.0, above: int = 0
) -> Calibration:
    """Threshold from scores of parts that were confirmed good.

    Args:
        scores: of at least nine parts that no reference shows.
        target: rate of false rejects that is wished, 0..1; None takes the largest score.
        grey: width of the undecided zone above the threshold, in robust spreads of the scores.
        above: confirmed good parts that became references. The bank holds them, so their scores say nothing; they were
            chosen because they scored high. Each counts as a part above the threshold: n and the promise are of all
            confirmed parts, whatever the chosen ones would score.

    Raises:
        CalibrationError: too few scores for the step or the wish (it says how many there must be), or one not finite.
    """
    values = np.sort(_checked(scores))
    n = len(values) + above
    if n < MIN_CONFIRMED:
        raise CalibrationError(
            f"{n} confirmed good parts are too few for a promise; confirm {MIN_CONFIRMED - n} more (from {MIN_CONFIRMED} on)"
        )
    if grey < 0.0 or not isfinite(grey):
        raise CalibrationError(f"the grey zone's width must be 0 or more, but is {grey}")
    rank = len(values) if target is None else conformal_rank(n, target)
    if rank > len(values):
        raise CalibrationError(
            f"a false-reject rate of {100 * (target or 0.0):g} % cannot be promised: {above} of {n} confirmed good parts "
            f"became references, and each counts as one that may be rejected; {100 * (above + 1) / (n + 1):.1f} % can be "
            "wished, or confirm more"
        )
    threshold = nextafter(float(values[rank - 1]), inf)  # OK is below the threshold, so that score is still OK
    return Calibration(
        kind=Step.CONFIRMED if target is None else Step.CONFORMAL,
        n=n,
        threshold=threshold,
        scores=tuple(values.tolist()),
        rate=(n + 1 - rank) / (n + 1),
        bound=false_reject_bound(n, rank),
        target=target,
        reject_threshold=threshold + grey * shrunk_sigma(values) if grey else None,
    )


def p_value(score: float, scores: Sequence[float]) -> float:
    """How often a good part scores at least as high as this one, by the confirmed scores: (1 + #{s ≥ score}) / (n + 1).

    Beyond the largest score the tail fit says more, if there is one (`fit_tail`); else it is 1/(n + 1), not less.
    """
    values = np.asarray(scores, dtype=np.float64)
    found = (1.0 + float((values >= score).sum())) / (len(values) + 1.0)
    if score > values.max() and (tail := fit_tail(values)) is not None:
        return min(found, tail.survival(score))
    return found


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto distribution of what lies above `start`, which a `fraction` of normal scores does."""

    start: float
    scale: float
    shape: float
    fraction: float

    def survival(self, score: float) -> float:
        """Probability that a normal part scores above `score`."""
        excess = (score - self.start) / self.scale
        if abs(self.shape) < 1e-6:
            return self.fraction * exp(-excess)
        inner = 1.0 + self.shape * excess
        return 0.0 if inner <= 0.0 else self.fraction * exp(-log(inner) / self.shape)


def fit_tail(scores: Sequence[float] | npt.NDArray[np.float64]) -> Tail | None:
    """Fit the upper tenth of normal scores by probability-weighted moments (Hosking and Wallis 1987).

    None with fewer than 30 excesses: a tail from fewer is a guess.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    count = int(TAIL_FRACTION * len(values))
    if count < MIN_EXCESSES:
        return None
    start = float(values[-count - 1])
    excesses = values[-count:] - start
    mean = float(excesses.mean())
    below = (np.arange(1, count + 1) - 0.35) / count
    weighted = float(((1.0 - below) * excesses).mean())
    if mean <= 0.0 or mean <= 2.0 * weighted:
        return None
    shape = 2.0 - mean / (mean - 2.0 * weighted)
    return Tail(start, 2.0 * mean * weighted / (mean - 2.0 * weighted), shape, count / len(values))


def robust_limit(
    values: npt.NDArray[np.float64], n: int, *, scale: float | None = None, prior: float = PRIOR_FRACTION
) -> float:
    """Median plus margin of normal values; see `calibrate`."""
    median = float(np.median(values))
    sigma = shrunk_sigma(values, prior * (abs(median) if scale is None else scale))
    sigmas = SINGLE_MARGIN_SIGMAS if n == 1 else MARGIN_SIGMAS * (1.0 + 1.0 / n)
    return median + sigmas * sigma


def relative_spread(calibrations: Sequence[Calibration]) -> float:
    """What other products of a station say of the spread of normal scores, as a fraction of their size.

    Each product with at least three scores counts once; shrunk toward 5 %, which counts like two products.
    """
    found = [
        mad_sigma(np.asarray(calibration.scores)) / abs(float(np.median(calibration.scores)))
        for calibration in calibrations
        if len(calibration.scores) >= 3 and abs(float(np.median(calibration.scores))) > 0.0
    ]
    return (2.0 * PRIOR_FRACTION + sum(found)) / (2.0 + len(found))


def decide(score: float, threshold: float, reject_threshold: float | None = None) -> Verdict:
    """OK below the threshold, NG from `reject_threshold` on (default: the threshold), UNDECIDED between.

    NONE if a number is not finite.
    """
    upper = threshold if reject_threshold is None else reject_threshold
    if not (isfinite(score) and isfinite(threshold) and isfinite(upper)):
        return Verdict.NONE
    if score < threshold:
        return Verdict.OK
    return Verdict.NG if score >= upper else Verdict.UNDECIDED


def _checked(scores: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise CalibrationError("no normal score to calibrate with; give at least one reference")
    if not np.isfinite(values).all():
        raise CalibrationError("a normal score is not finite; check the encoder's precision and the references")
    return values
