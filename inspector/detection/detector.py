"""The staircase of the method: pictures in, one `Inspection` each out. The only scoring path of the product.

`inspector score`, the worker and the calibration all come through `Detector`, so the number is the same everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite, nan

import cv2
import numpy as np
import torch

from inspector.detection import scoring
from inspector.detection.bank import ResidualBank
from inspector.detection.calibration import calibrate, decide, robust_limit
from inspector.detection.encoder import Encoder
from inspector.detection.matching import matched_residuals
from inspector.detection.regions import find_regions
from inspector.detection.towers import Tokens
from inspector.errors import BankMismatchError, CalibrationError
from inspector.types import Calibration, ImageArray, Inspection, ScoreParts, Verdict

Progress = Callable[[float, str], None]
AUGMENTED_COPIES = 8
FEW_REFERENCES = 3
"""Below this many references, leave-one-out alone says nothing about spread; mild augmentations join it."""


class Detector:
    """An encoder with one product's calibrated bank; immutable, so a batch can hold on to it."""

    def __init__(self, encoder: Encoder, bank: ResidualBank) -> None:
        if bank.calibration is None or bank.pixel_threshold is None:
            raise CalibrationError("this bank has no calibration; build the product again from its references")
        if bank.encoder_fingerprint != encoder.fingerprint:
            raise BankMismatchError(
                f"the bank was built by {bank.encoder_name}, but {encoder.name} is loaded; rebuild it"
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
        """Build a bank from normal pictures and calibrate it provisionally."""
        say = progress or (lambda fraction, message: None)
        say(0.0, "encoding the references")
        bank = ResidualBank.build(encoder, images, names)
        scores, peaks = [], []
        for index in range(len(images) if len(images) > 1 else 0):
            say(0.3 + 0.6 * index / len(images), f"leaving out reference {index + 1} of {len(images)}")
            one = _score(encoder, bank.without(index), _tokens_of(bank, index))
            scores.append(float(one.image[0]))
            peaks.append(float(one.maps[0].max()))
        if len(images) < FEW_REFERENCES:
            say(0.8, "scoring mild variations of the references")
            varied = _score(encoder, bank, encoder.encode(_variations(images)))
            scores += [float(value) for value in varied.image]
            peaks += [float(value) for value in varied.maps.amax(dim=(1, 2))]
        calibration = calibrate(scores, len(images))
        limit = robust_limit(np.asarray(peaks), len(images))
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
        """Inspect RGB uint8 pictures of any size; same order, same length. A score that is not finite is NONE."""
        if not images:
            return []
        scores = _score(self.encoder, self.bank, self.encoder.encode(images))
        maps = scores.maps.float().cpu().numpy()
        values = scores.image.float().cpu().tolist()
        parts = {name: value.float().cpu().tolist() for name, value in scores.parts.items()}
        return [
            self._inspection(value, maps[i], {name: part[i] for name, part in parts.items()}, images[i])
            for i, value in enumerate(values)
        ]

    def warm_up(self, batch: int = 1) -> None:
        """Run once per batch size up to `batch`, so that the first part is not the slowest."""
        S = self.encoder.image_size
        for size in sorted({1, batch}):
            self.inspect([np.full((S, S, 3), 128, np.uint8)] * size)

    def _inspection(
        self, score: float, anomaly_map: np.ndarray, parts: dict[str, float], image: ImageArray
    ) -> Inspection:
        finite = isfinite(score) and bool(np.isfinite(anomaly_map).all())
        verdict = decide(score if finite else nan, self.threshold)
        is_bad = verdict in (Verdict.NG, Verdict.UNDECIDED)
        regions = find_regions(anomaly_map, self._pixel_threshold, image.shape[:2]) if is_bad else ()
        return Inspection(
            score=score if finite else nan,
            threshold=self.threshold,
            verdict=verdict,
            parts=ScoreParts(**parts),
            anomaly_map=anomaly_map,
            regions=regions,
        )


def _score(encoder: Encoder, bank: ResidualBank, tokens: Tokens) -> scoring.Scores:
    """Tokens of a batch against a bank."""
    with torch.inference_mode():
        residuals = tuple(
            matched_residuals(queries, references, grid, encoder.matching)
            for queries, references, grid in zip(tokens.taps, bank.taps, encoder.grids, strict=True)
        )
        mean_global = bank.mean_global
        with_text = encoder.text_residual is not None and tokens.global_token is not None and mean_global is not None
        evidence = scoring.Evidence(
            residuals=residuals,
            grids=encoder.grids,
            tokens=tokens.joint if with_text else None,
            global_token=tokens.global_token if with_text else None,
            global_residual=tokens.global_token - mean_global if with_text else None,  # type: ignore[operator]
        )
        return scoring.score(evidence, encoder.text_residual if with_text else None, encoder.image_size)


def _tokens_of(bank: ResidualBank, index: int) -> Tokens:
    """Tokens of one reference as a batch of one."""
    one = slice(index, index + 1)
    taps = tuple(tap[one] for tap in bank.taps)
    return Tokens(taps, taps[-1], None if bank.global_tokens is None else bank.global_tokens[one])


def _variations(images: Sequence[ImageArray]) -> list[ImageArray]:
    """Mild copies of references: shifted, turned, lit and noisy a little; seeded, so a build can be repeated."""
    rng = np.random.default_rng(0)
    copies = []
    for number in range(AUGMENTED_COPIES):
        image = images[number % len(images)]
        height_px, width_px = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), float(rng.uniform(-2, 2)), 1.0)
        turn[:, 2] += rng.uniform(-0.015, 0.015, 2) * np.array([width_px, height_px])
        moved = cv2.warpAffine(image, turn, (width_px, height_px), borderMode=cv2.BORDER_REFLECT)
        lit = moved.astype(np.float32) * rng.uniform(0.95, 1.05) + rng.normal(0.0, 2.0, image.shape)
        copies.append(np.clip(lit, 0, 255).astype(np.uint8))
    return copies
