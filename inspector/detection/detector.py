"""The staircase of the method: pictures in, one `Inspection` each out. The only scoring path of the product.

`inspector score`, the worker and the calibration all come through `Detector`, so the number is the same everywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, nan

import numpy as np
import torch

from inspector.detection import scoring
from inspector.detection.bank import Progress, ResidualBank
from inspector.detection.calibration import calibrate, decide, robust_limit
from inspector.detection.encoder import Encoder
from inspector.detection.matching import matched_residuals
from inspector.detection.regions import find_regions
from inspector.detection.towers import Tokens
from inspector.detection.variations import variations
from inspector.errors import BankMismatchError, CalibrationError
from inspector.types import Calibration, ImageArray, Inspection, MapArray, ScoreParts, Verdict, check_image

__all__ = ["Detector", "Progress"]

MAX_BATCH = 32
"""Pictures that go through the tower at once; more are done in turns."""
VARIATIONS = 8
FEW_REFERENCES = 3
"""Below this many references, leave-one-out alone says nothing about spread; mild variations join it."""


class Detector:
    """An encoder with one product's calibrated bank; immutable, so a batch can hold on to it."""

    def __init__(self, encoder: Encoder, bank: ResidualBank) -> None:
        if bank.calibration is None or bank.pixel_threshold is None:
            raise CalibrationError("this bank has no calibration; build the product again from its references")
        if bank.encoder_fingerprint != encoder.fingerprint:
            raise BankMismatchError(
                f"the bank was built by {bank.encoder_name} ({bank.encoder_fingerprint[:12]}), but {encoder.name} "
                f"({encoder.fingerprint[:12]}) is loaded; build the product again"
            )
        self.encoder = encoder
        self.bank = bank
        self.calibration: Calibration = bank.calibration
        self._pixel_threshold: float = bank.pixel_threshold

    @classmethod
    def from_references(
        cls,
        encoder: Encoder,
        images: Sequence[ImageArray],
        *,
        names: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> "Detector":
        """Build a bank from normal pictures and calibrate it provisionally.

        With K > 1 the first K scores of the calibration are those of the references, each against all others.
        """
        say = progress or (lambda fraction, message: None)
        bank = ResidualBank.build(encoder, images, names, progress=lambda done, message: say(0.3 * done, message))
        seen = _leave_one_out(encoder, bank, say) if len(images) > 1 else []
        if len(images) < FEW_REFERENCES:
            say(0.8, "scoring mild variations of the references")
            seen += _scored_variations(encoder, bank, images)
        values = [float(value) for scores in seen for value in scores.image]
        scale = float(np.median([float(value) for scores in seen for value in scores.parts["visual_map"]]))
        peaks = [float(value) for scores in seen for value in scores.maps.amax(dim=(1, 2))]
        calibration = calibrate(values, len(images), scale=scale)
        limit = robust_limit(np.asarray(peaks), len(images), scale=float(np.median(np.abs(peaks))))
        say(1.0, "calibrated")
        return cls(encoder, replace(bank, calibration=calibration, pixel_threshold=limit))

    @property
    def threshold(self) -> float:
        """Raw anomaly score from which a part is NG."""
        return self.calibration.threshold

    @property
    def pixel_threshold(self) -> float:
        """Raw level of the anomaly map that normal pictures stay below."""
        return self._pixel_threshold

    def inspect(self, images: Sequence[ImageArray]) -> list[Inspection]:
        """Inspect RGB uint8 pictures of any size; same order, same length.

        What is no picture, or gives no finite score, is NONE with score nan; the others of its batch are not touched.

        Raises:
            EncoderError: the batch as a whole cannot be encoded.
        """
        usable = [number for number, image in enumerate(images) if _is_image(image)]
        inspections = [self._unscored() for _ in images]
        for start in range(0, len(usable), MAX_BATCH):
            numbers = usable[start : start + MAX_BATCH]
            batch = [images[number] for number in numbers]
            scores = _score(self.encoder, self.bank, self.encoder.encode(batch))
            maps = scores.maps.cpu().numpy()
            for place, number in enumerate(numbers):
                parts = ScoreParts(**{name: float(value[place]) for name, value in scores.parts.items()})
                inspections[number] = self._inspection(float(scores.image[place]), maps[place], parts, images[number])
        return inspections

    def warm_up(self, batch: int = 1) -> None:
        """Run with one picture and with `batch`, so that the first part is not the slowest."""
        S = self.encoder.image_size
        for size in sorted({1, batch}):
            self.inspect([np.full((S, S, 3), 128, np.uint8)] * size)

    def _inspection(self, score: float, anomaly_map: MapArray, parts: ScoreParts, image: ImageArray) -> Inspection:
        finite = isfinite(score) and bool(np.isfinite(anomaly_map).all())
        verdict = decide(score if finite else nan, self.threshold)
        is_bad = verdict in (Verdict.NG, Verdict.UNDECIDED)
        height_px, width_px = image.shape[:2]
        return Inspection(
            score=score if finite else nan,
            threshold=self.threshold,
            verdict=verdict,
            parts=parts,
            anomaly_map=anomaly_map,
            regions=find_regions(anomaly_map, self._pixel_threshold, (height_px, width_px)) if is_bad else (),
        )

    def _unscored(self) -> Inspection:
        S = self.encoder.image_size
        return Inspection(nan, self.threshold, Verdict.NONE, ScoreParts(nan), np.full((S, S), nan, np.float32))


def _is_image(image: ImageArray) -> bool:
    try:
        check_image(image)
    except (ValueError, AttributeError):  # AttributeError: not even an array
        return False
    return True


def _score(encoder: Encoder, bank: ResidualBank, tokens: Tokens) -> scoring.Scores:
    """Tokens of a batch against a bank."""
    with torch.inference_mode():
        residuals = tuple(
            matched_residuals(queries, references, grid, encoder.matching)
            for queries, references, grid in zip(tokens.taps, bank.taps, encoder.grids, strict=True)
        )
        evidence = scoring.Evidence(residuals=residuals, grids=encoder.grids)
        mean_global = bank.mean_global
        if encoder.text_residual is not None and tokens.global_token is not None and mean_global is not None:
            evidence = replace(
                evidence,
                tokens=tokens.joint,
                global_token=tokens.global_token,
                global_residual=tokens.global_token - mean_global,
            )
        return scoring.score(evidence, encoder.text_residual, encoder.image_size)


def _leave_one_out(encoder: Encoder, bank: ResidualBank, say: Progress) -> list[scoring.Scores]:
    """Each reference against all others; nothing is encoded again."""
    count = len(bank.references)
    seen = []
    for index in range(count):
        say(0.3 + 0.5 * index / count, f"leaving out reference {index + 1} of {count}")
        seen.append(_score(encoder, bank.without(index), _tokens_of(bank, index)))
    return seen


def _tokens_of(bank: ResidualBank, index: int) -> Tokens:
    """Tokens of one reference as a batch of one."""
    one = slice(index, index + 1)
    taps = tuple(tap[one] for tap in bank.taps)
    if bank.global_tokens is None:
        return Tokens(taps)
    return Tokens(taps, joint=taps[-1], global_token=bank.global_tokens[one])


def _scored_variations(encoder: Encoder, bank: ResidualBank, images: Sequence[ImageArray]) -> list[scoring.Scores]:
    """Mild variations of each reference against the others, or against the only one."""
    seen = []
    for index, image in enumerate(images):
        rest = bank.without(index) if len(images) > 1 else bank
        copies = variations(image, VARIATIONS // len(images), seed=index)
        seen.append(_score(encoder, rest, encoder.encode(copies)))
    return seen
