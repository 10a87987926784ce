"""Whether calibrations keep their promises: many draws of confirmed parts, the achieved against the promised rate.

Good pictures of a product are scored once against a bank of a few of them. Then n of the scores are drawn again and again
as the confirmed parts, and the rate of false rejects is counted on all the others. May import the detector and this
package.
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
from inspector.promises import MIN_CONFIRMED
from inspector.types import ImageArray

BATCH = 8
LEAST_OTHERS = 10
"""With fewer parts left to count on, an achieved rate says nothing."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kept:
    """How calibrations from n confirmed parts of one product did.

    `promised` and `bound` are rates of false rejects, None for the provisional step, which promises nothing; `achieved` is
    their mean over all draws, `achieved_95` what 95 % of the draws stay below, `held` the share of draws within the bound.
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
    held: float | None

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
    return Kept(product, references, "provisional", 1, len(values), None, None, achieved, achieved, None)


def _confirmed(product: str, n: int, values: npt.NDArray[np.float64], draws: int, rng: np.random.Generator) -> Kept:
    rates = []
    for _ in range(draws):
        order = rng.permutation(len(values))
        calibration = calibrate_confirmed(values[order[:n]].tolist())
        rates.append(float((values[order[n:]] >= calibration.threshold).mean()))
    bound = calibration.bound or 0.0
    return Kept(
        product=product,
        n=n,
        step=str(calibration.kind),
        draws=draws,
        counted_on=len(values) - n,
        promised=calibration.rate,
        bound=bound,
        achieved=float(np.mean(rates)),
        achieved_95=float(np.quantile(rates, 0.95)),
        held=float(np.mean(np.array(rates) <= bound)),
    )
