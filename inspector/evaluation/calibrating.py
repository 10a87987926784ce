"""Whether calibrations keep their promises: many draws of confirmed parts, the achieved against the promised rate.

Good pictures of a product are scored once against a bank of a few of them. Then n of the scores are drawn again and again
as the confirmed parts, and the false rejects are counted on all m others. The bound that a calibration promises is on the
rate in the long run; m parts scatter around that rate, so each draw is also held against the exact bound for m parts.
Drawing at random makes the scores exchangeable; that the parts of tomorrow are is what no draw can show. May import the
detector and this package.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inspector.detection.calibration import calibrate_confirmed
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import UsageError
from inspector.promises import MIN_CONFIRMED, exceedance_bound, exceedance_chance, false_reject_bound
from inspector.types import ImageArray

BATCH = 8
LEAST_OTHERS = 10
"""With fewer parts left to count on, an achieved rate says nothing."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kept:
    """How calibrations from n confirmed parts of one product did.

    `promised` and `bound` are rates of false rejects, None for the provisional step, which promises nothing; `achieved` is
    their mean over all draws, `achieved_95` what 95 % of the draws stay below. `held` is the share of draws in which the
    rate among the m parts counted on lay within the bound, and `held_expected` the share in which it must by arithmetic:
    below 95 %, since those are few. `bound_counted` is the rate that m parts keep with 95 % (`exceedance_bound`), and
    `held_counted` and `held_counted_expected` the same shares for it.
    """

    product: str
    n: int
    step: str
    draws: int
    counted_on: int
    promised: float | None
    bound: float | None
    achieved: float
    achieved_95: float
    held: float | None = None
    held_expected: float | None = None
    bound_counted: float | None = None
    held_counted: float | None = None
    held_counted_expected: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def bench_calibration(
    encoder: Encoder,
    product: str,
    images: Sequence[ImageArray],
    *,
    references: int,
    ns: Sequence[int],
    draws: int,
    seed: int,
    say: Say,
) -> list[Kept]:
    """Good pictures of one product, in any order; `references` of them make the bank.

    Raises:
        UsageError: too few pictures.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    if len(images) < references + LEAST_OTHERS:
        raise UsageError(
            f"{product}: {len(images)} good pictures are too few; give at least {references + LEAST_OTHERS}"
        )
    say(f"{product}: bank of {references}")
    detector = Detector.from_references(encoder, [images[place] for place in order[:references]])
    rest = [images[place] for place in order[references:]]
    scores: list[float] = []
    for start in range(0, len(rest), BATCH):
        say(f"{product}: scored {start} of {len(rest)}")
        scores += [inspection.score for inspection in detector.inspect(rest[start : start + BATCH])]
    values = np.array(scores)
    rows = [_provisional(product, references, values, detector.threshold)]
    rng = np.random.default_rng([seed, 1])
    for n in ns:
        if n >= MIN_CONFIRMED and len(values) - n >= LEAST_OTHERS:
            rows.append(_confirmed(product, n, values, draws, rng))
    return rows


def _provisional(product: str, references: int, values: npt.NDArray[np.float64], threshold: float) -> Kept:
    achieved = float((values >= threshold).mean())
    return Kept(product, references, "provisional", 1, len(values), None, None, achieved, achieved)


def _confirmed(product: str, n: int, values: npt.NDArray[np.float64], draws: int, rng: np.random.Generator) -> Kept:
    m = len(values) - n
    counts = np.empty(draws, np.int64)
    for draw in range(draws):
        order = rng.permutation(len(values))
        calibration = calibrate_confirmed(values[order[:n]].tolist())
        counts[draw] = int((values[order[n:]] >= calibration.threshold).sum())
    bound = false_reject_bound(n, n)  # without a wished rate the threshold is the largest of n
    within, counted = int(bound * m), exceedance_bound(n, n, m)
    return Kept(
        product=product,
        n=n,
        step=str(calibration.kind),
        draws=draws,
        counted_on=m,
        promised=calibration.rate,
        bound=bound,
        achieved=float(counts.mean()) / m,
        achieved_95=float(np.quantile(counts, 0.95)) / m,
        held=float((counts <= within).mean()),
        held_expected=exceedance_chance(n, n, m, within),
        bound_counted=counted / m,
        held_counted=float((counts <= counted).mean()),
        held_counted_expected=exceedance_chance(n, n, m, counted),
    )
