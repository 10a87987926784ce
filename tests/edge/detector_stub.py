"""A detector for tests of the worker: gives the scores that a test wants, or fails as a test wants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np

from edge.state import ActiveRecipe
from inspector.detection.golden import Golden, check_golden
from inspector.drift import Looks, Measures
from inspector.types import Calibration, ImageArray, Inspection, ScoreParts, Verdict

THRESHOLD = 1.0
IMAGE = np.zeros((20, 30, 3), np.uint8)


def inspection(score: float) -> Inspection:
    verdict = Verdict.NONE if not isfinite(score) else Verdict.OK if score < THRESHOLD else Verdict.NG
    return Inspection(score, THRESHOLD, verdict, ScoreParts(visual_map=score), np.zeros((4, 4), np.float32))


ANYTHING = Looks((Measures(level=0.0, contrast=0.0, detail=0.0, clipped=1.0, cast=0.0),), ())
"""Looks of references that no picture is too dark, too bright or too soft for."""


@dataclass
class _Encoder:
    name: str = "stub"


@dataclass
class StubDetector:
    """Scores a picture by `score_of`, which may raise; `batches` are the sizes that were asked for."""

    score_of: Callable[[ImageArray], float]
    batches: list[int] = field(default_factory=list)
    calibration: Calibration = field(default_factory=lambda: Calibration("provisional", 4, THRESHOLD, (0.5,)))
    threshold: float = THRESHOLD
    pixel_threshold: float = THRESHOLD
    encoder: _Encoder = field(default_factory=_Encoder)
    looks: Looks = ANYTHING

    def inspect(self, images: Sequence[ImageArray]) -> list[Inspection]:
        self.batches.append(len(images))
        return [inspection(self.score_of(image)) for image in images]

    def self_test(self, batch: int = 1) -> None:
        check_golden(self.inspect, Golden(IMAGE, 0.5, 0.0), "fp32", batch)


def active(score_of: Callable[[ImageArray], float] = lambda _: 0.5, **changes: Any) -> ActiveRecipe:
    """An active recipe with such a detector."""
    values: dict[str, Any] = {
        "recipe_id": 11,
        "rcp": 3,
        "rev": 2,
        "name": "bracket",
        "bank_sha256": "ab" * 32,
        "since": datetime(2026, 1, 1, tzinfo=UTC),
        "detector": StubDetector(score_of),
    }
    return ActiveRecipe(**(values | changes))
